"""``agent-tracking spool list`` and ``show``: the records themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice

import click
from rich.console import Console
from rich.text import Text

from agent_tracking.cli.output import console, new_table, printable, show, to_json
from agent_tracking.cli.spool.found import Found, dead, full, name_of, row, waiting
from agent_tracking.cli.spool.opening import Failed, check_providers, json_option, opened, spool_option
from agent_tracking.sources.spool.browse import Browser

__all__ = ["list_records", "show_record"]


@click.command("list", epilog="Example: agent-tracking spool list --dead --provider posthog")
@spool_option
@click.option("--dead", "set_aside", is_flag=True, help="What was set aside, instead of what waits.")
@click.option("--provider", "providers", multiple=True, help="Only this one's; may be given again.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The most records.")
@json_option
def list_records(
    *, spool: str | None, set_aside: bool, providers: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """List what waits, the oldest first, or what was set aside, and why.

    The record itself is shown by agent-tracking spool show ID.
    """
    browser = opened(spool).browser
    check_providers(browser, providers)
    damaged: list[str] = []
    every = dead(browser, providers) if set_aside else waiting(browser, providers, damaged.append)
    found = list(islice(every, limit + 1))
    more, found = len(found) > limit, found[:limit]
    if as_json:
        click.echo(to_json({"records": list(map(row, found)), "more": more, "damaged": len(damaged)}))
        return
    out = console()
    if found:
        _show(out, found, set_aside=set_aside)
    else:
        out.print("nothing was set aside" if set_aside else "nothing waits")
    if damaged:
        lines = f"{len(damaged)} lines that are damaged or hold no record"
        out.print(Text(f"! {lines} were passed over", style="yellow"), soft_wrap=True)
    if more:
        out.print(Text(f"and more: --limit {limit * 10} shows them", style="dim"), soft_wrap=True)


def _show(out: Console, found: Sequence[Found], *, set_aside: bool) -> None:
    table = new_table(out)
    table.add_column("id", no_wrap=True)
    table.add_column("set aside" if set_aside else "since", no_wrap=True)
    table.add_column("name", overflow="fold")
    table.add_column("provider" if set_aside else "waits for", overflow="fold")
    if set_aside:
        table.add_column("reason", no_wrap=True)
    for each in found:
        reason = [Text(printable(each.reason), style="red")] if set_aside else []
        table.add_row(
            printable(each.id),
            _when(each.since),
            printable(name_of(each.record)),
            printable(", ".join(each.providers)) or "nobody yet",
            *reason,
        )
    show(out, table)


def _when(seconds: float | None) -> str:
    if seconds is None or not 0 <= seconds < 1e11:
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


@click.command("show", epilog="Example: agent-tracking spool show 5f0c3a52-2a51-4d1c-8b57-0a1b2c3d4e5f")
@spool_option
@click.argument("record_id", metavar="ID")
@json_option
def show_record(*, spool: str | None, record_id: str, as_json: bool) -> None:
    """Show one record: everything that was tracked, for whom it waits, or why it was set aside.

    It is looked for among those that were set aside, then among those that wait. The exit status is 1 if
    there is none with this id.
    """
    browser = opened(spool).browser
    found = _find(browser, record_id)
    if not found:
        raise Failed(printable(f"no record with the id {record_id!r} waits or was set aside here"))
    if as_json:
        click.echo(to_json(list(map(full, found))))
        return
    out = console()
    for each in found:
        _print(out, each)


def _find(browser: Browser, record_id: str) -> list[Found]:
    """Return it as it was set aside, for each provider, and as it waits."""
    found = [each for each in dead(browser, ()) if each.id == record_id]
    return found + list(islice((each for each in waiting(browser, ()) if each.id == record_id), 1))


def _print(out: Console, found: Found) -> None:
    names = ", ".join(found.providers) or "nobody yet"
    since = f"{_when(found.since)} UTC"
    where = (
        f"set aside for {names} at {since}: {found.reason}"
        if found.reason
        else f"waits for {names} since {since}"
    )
    out.print(Text(printable(where), style="red" if found.reason else "bold"), soft_wrap=True)
    for line in to_json(full(found)).splitlines():
        out.print(printable(line), soft_wrap=True)
