"""The command: its options and its exit status."""

from __future__ import annotations

import sys

import click
from rich.console import Console

from agent_tracking.cli.importing.interruption import interruptible
from agent_tracking.cli.importing.job import Job
from agent_tracking.cli.importing.mapping import Choices, parse_maps
from agent_tracking.cli.importing.problems import BadInput
from agent_tracking.cli.importing.report import Report
from agent_tracking.cli.importing.screen import Lines, Moving, Screen, Silent, show_report
from agent_tracking.cli.output import Refused, console, held_log, printable, to_json

__all__ = ["import_file"]


@click.command(
    "import",
    epilog="Example: agent-tracking import events.csv.gz --map user_id=uid --map timestamp=ts:unix_ms",
)
@click.argument("file")
@click.option(
    "--format", "form", type=click.Choice(["jsonl", "csv"]), help="What FILE is, if its name does not say."
)
@click.option(
    "--map",
    "maps",
    multiple=True,
    metavar="TARGET=COLUMN",
    help="Which column is the name, user_id, anonymous_id, session_id, timestamp, message_id, properties"
    " or type; timestamp=COLUMN:FORM says iso, unix, unix_ms, unix_us, unix_ns or a pattern such as"
    " %d.%m.%Y.",
)
@click.option("--name", help="The name of every event.")
@click.option("--identify", "identities", is_flag=True, help="Every line is an identity.")
@click.option("--only", metavar="NAMES", help="Only to these providers, comma-separated.")
@click.option("--each-line", is_flag=True, help="Identical lines are different events.")
@click.option("--text", is_flag=True, help="CSV: numbers, true and false stay text.")
@click.option("--dry-run", is_flag=True, help="Read everything, show what is wrong, send nothing.")
@click.option("--state", metavar="PATH", help="Where to keep how far it is; FILE.import-state by default.")
@click.option("--restart", is_flag=True, help="Begin anew, whatever an earlier run did.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the report as JSON, nothing else.")
def import_file(
    *,
    file: str,
    form: str | None,
    maps: tuple[str, ...],
    name: str | None,
    identities: bool,
    only: str | None,
    each_line: bool,
    text: bool,
    dry_run: bool,
    state: str | None,
    restart: bool,
    as_json: bool,
) -> None:
    """Deliver the events and identities of FILE to the providers.

    FILE holds JSON lines or CSV, also as .gz; - is standard input. Columns are found by their usual names.
    After Ctrl-C, a kill or an outage the same command goes on where it was: nothing is lost, and nothing is
    counted twice, since ids are made of what the lines hold.

    The exit status is 0 if everything was delivered, 1 if a line was wrong, a record refused or the import
    ended early, 2 if it could not begin.
    """
    try:
        columns, time_form = parse_maps(maps)
        if name is not None and not name.strip():
            raise BadInput("--name: an event's name is not empty")
        choices = Choices(
            columns=columns,
            time_form=time_form,
            name=name,
            identities=identities,
            each_line=each_line,
            text=text,
        )
        out = console()
        with held_log() as log, interruptible() as asked:
            job = Job(
                file=file,
                form=form,
                choices=choices,
                only=[each.strip() for each in (only or "").split(",") if each.strip()],
                state=state,
                restart=restart,
                make_screen=lambda began, size: _screen(out, began, size, silent=as_json or dry_run),
                asked=asked,
            )
            report = job.rehearse() if dry_run else job.run()
    except BadInput as error:
        raise Refused(printable(str(error))) from None
    report.log = [f"{record.name.partition('.')[0]}: {record.getMessage()}" for record in log]
    _tell(out, report, as_json=as_json)
    sys.exit(0 if report.ok else 1)


def _screen(out: Console, began: int, size: int | None, *, silent: bool) -> Screen:
    if silent:
        return Silent()
    moving = out.is_terminal and not out.is_dumb_terminal
    return Moving(out, began, size) if moving else Lines(out, began, size)


def _tell(out: Console, report: Report, *, as_json: bool) -> None:
    if as_json:
        click.echo(to_json(report))
    else:
        show_report(out, report)
