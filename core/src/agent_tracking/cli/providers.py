"""``agent-tracking providers``: what every installed provider is, why, and what changes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from platform import python_version

import click
from importlib_metadata import version
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent_tracking.cli.direct import direct_environ
from agent_tracking.cli.output import console, held_log, new_table, printable, show, to_json
from agent_tracking.cli.processes import running, show_processes
from agent_tracking.cli.spool.opening import Opened
from agent_tracking.cli.spool.status import here, show_spool, spool_data
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.settings import read_settings
from agent_tracking.status import Seen
from agent_tracking.tracker import Tracker

__all__ = ["STYLES", "provider_table", "providers"]

#: How a state looks on a terminal.
STYLES = {
    ProviderState.ACTIVE: "green",
    ProviderState.INACTIVE: "yellow",
    ProviderState.DISABLED: "dim",
    ProviderState.FAILED: "bold red",
    ProviderState.INCOMPATIBLE: "red",
    ProviderState.CONFLICT: "red",
    ProviderState.NOT_INSTALLED: "magenta",
}


@click.command(epilog="Example: agent-tracking providers --json")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def providers(*, as_json: bool) -> None:
    """List the installed providers: state, reason, fix.

    What is listed is what an application with this Python and this environment would use; and the counters
    of running processes, if AGENT_TRACKING_STATUS (or AGENT_TRACKING_SPOOL) is the folder that they write
    them to, and what waits in the spool. No value of any variable is shown. The exit status is 0, whatever
    the states.
    """
    found, notes = _look()
    seen, spool = running(os.environ), here(os.environ)
    if as_json:
        click.echo(_json(found, notes, seen, spool))
    else:
        _print(console(), found, notes, seen, spool)


def _look() -> tuple[Sequence[ProviderRecord], list[str]]:
    """Return the records, and what else was said while looking: a bad setting, an unknown name."""
    # To be asked this it needs no thread, so there is nothing to shut down, and no spool.
    tracker = Tracker(environ=direct_environ(os.environ))
    # What a provider prints while it is imported belongs to no table.
    with held_log() as log, redirect_stdout(sys.stderr):
        found = tracker.providers()
    # Lines about one provider say what its row says.
    said = [record.getMessage() for record in log if record.name == "agent_tracking"]
    _, problems = read_settings(os.environ)
    return found, list(dict.fromkeys([*map(str, problems), *said]))


def _json(
    found: Sequence[ProviderRecord], notes: Sequence[str], seen: Sequence[Seen], spool: Opened | None
) -> str:
    data = {
        "agent_tracking": version("agent-tracking"),
        "python": {"version": python_version(), "executable": sys.executable},
        "providers": found,
        "notes": notes,
        "processes": seen,
        "spool": None if spool is None else spool_data(spool),
    }
    return to_json(data)


def _print(
    out: Console,
    found: Sequence[ProviderRecord],
    notes: Sequence[str],
    seen: Sequence[Seen],
    spool: Opened | None,
) -> None:
    if found:
        show(out, provider_table(out, found))
    else:
        out.print("No provider is installed: pip install 'agent-tracking[posthog]'\n")
    show_processes(out, seen)
    if spool is not None:
        show_spool(out, spool)
    for note in notes:
        out.print(Text(f"! {printable(note)}", style="yellow"), soft_wrap=True)
    where = f"agent-tracking {version('agent-tracking')}, Python {python_version()}: {sys.executable}"
    out.print(Text(where, style="dim"), soft_wrap=True)


def provider_table(out: Console, found: Sequence[ProviderRecord]) -> Table:
    """Return the records as a table: on a terminal what there is to say stands below the package."""
    table = new_table(out)
    table.add_column("provider", no_wrap=True, style="bold" if out.is_terminal else "")
    table.add_column("state", no_wrap=True)
    table.add_column("package" if not out.is_terminal else "package, reason, fix", overflow="fold")
    if not out.is_terminal:
        table.add_column("reason and fix")
    for record in found:
        package = printable(f"{record.distribution} {record.version}".strip())
        table.add_row(
            printable(record.name),
            Text(record.state.value, style=STYLES[record.state]),
            *([_below(package, record)] if out.is_terminal else [package, _beside(record)]),
        )
    return table


def _below(package: str, record: ProviderRecord) -> Text:
    lines = [
        Text(package, style="dim"),
        Text(printable(record.reason)),
        Text(_fix("→ ", record), style="cyan"),
    ]
    return Text("\n").join([line for line in lines if line])


def _beside(record: ProviderRecord) -> str:
    return "; ".join(filter(None, (printable(record.reason), _fix("fix: ", record))))


def _fix(mark: str, record: ProviderRecord) -> str:
    return f"{mark}{printable(record.fix)}" if record.fix else ""
