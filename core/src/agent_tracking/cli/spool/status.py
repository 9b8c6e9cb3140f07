"""``agent-tracking spool status``: what waits for each provider, and who delivers it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from agent_tracking.cli.output import Refused, ago, console, new_table, printable, show, to_json
from agent_tracking.cli.spool.opening import Opened, json_option, opened, spool_option
from agent_tracking.cli.spool.watch import watch
from agent_tracking.counters import ProviderLag, SpoolStats
from agent_tracking.settings import read_settings
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.folder import SpoolError
from agent_tracking.status import read_status

__all__ = ["here", "leaders", "show_spool", "show_status", "size_text", "spool_data"]


@click.command("status", epilog="Example: agent-tracking spool status --watch")
@spool_option
@click.option("--watch", "watching", is_flag=True, help="Until nothing waits any more.")
@json_option
def show_status(*, spool: str | None, watching: bool, as_json: bool) -> None:
    """Show what waits for each provider, since when, who delivers it, and what was set aside.

    Numbers of records are estimates by their bytes; 0 is exact. With --watch it ends once
    nothing waits any more. The exit status is 0.
    """
    if watching and as_json:
        raise Refused("--watch is for people, --json for scripts: leave one of them out")
    found = opened(spool)
    if watching:
        watch(console(), found.browser)
    elif as_json:
        click.echo(to_json(spool_data(found)))
    else:
        show_spool(console(), found)


def leaders(opened_spool: Opened) -> Mapping[int, str]:
    """Return what the processes are that write their counters: ``relay``, or the program, by pid."""
    folder = opened_spool.settings.status or f"{opened_spool.browser.path}/status"
    found = {}
    for seen in read_status(Path(folder)):
        process = seen.process
        if not seen.stale:
            found[process.pid] = process.role if process.role != "app" else process.program
    return found


def size_text(size: float) -> str:
    """Return bytes in the unit that fits.

    >>> size_text(512), size_text(1_536_000), size_text(2_000_000_000)
    ('512 B', '1.5 MB', '2.0 GB')
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def spool_data(found: Opened) -> dict[str, object]:
    """Return the same for scripts."""
    stats, roles = found.browser.stats(), leaders(found)
    return {
        "path": stats.path,
        "segments": stats.segments,
        "bytes": stats.bytes,
        "most_bytes": found.settings.spool_bytes,
        "records": stats.records,
        "newer": found.browser.newer,
        "providers": {
            name: {
                "records": lag.records,
                "bytes": lag.bytes,
                "seconds": round(lag.seconds, 3),
                "leader": lag.leader,
                "role": roles.get(lag.leader or 0),
                "dead": lag.dead,
            }
            for name, lag in _with_dead(found.browser, stats).items()
        },
    }


def _with_dead(browser: Browser, stats: SpoolStats) -> dict[str, ProviderLag]:
    """Return the providers, those too of which nothing is left but what was set aside."""
    gone = [name for name in browser.dead.providers() if name not in stats.providers]
    more = {name: ProviderLag(dead=sum(1 for _ in browser.dead.read(name))) for name in gone}
    return dict(sorted({**stats.providers, **more}.items()))


def here(environ: Mapping[str, str]) -> Opened | None:
    """Return the spool that these variables name, if there is one that can be read."""
    settings, _ = read_settings(environ)
    try:
        return Opened(Browser(settings.spool), settings) if settings.spool else None
    except SpoolError:
        return None


def show_spool(out: Console, found: Opened) -> None:
    """Print what waits for each provider, what is remarkable, and how full it is."""
    stats = found.browser.stats()
    providers = _with_dead(found.browser, stats)
    if providers:
        _show_providers(out, providers, leaders(found))
    for note in _notes(found, stats):
        out.print(Text(f"! {printable(note)}", style="yellow"), soft_wrap=True)
    most = found.settings.spool_bytes
    files = f"{stats.segments:,} segment{'s' * (stats.segments != 1)}"
    text = f"{stats.path}: {files}, {size_text(stats.bytes)} of {size_text(most)}"
    out.print(Text(f"{printable(text)} ({100 * stats.bytes / most:.0f} %)", style="dim"), soft_wrap=True)


def _show_providers(out: Console, providers: Mapping[str, ProviderLag], roles: Mapping[int, str]) -> None:
    table = new_table(out)
    table.add_column("provider", style="bold" if out.is_terminal else "", no_wrap=True)
    table.add_column("records", justify="right", no_wrap=True)
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("oldest", justify="right", no_wrap=True)
    table.add_column("delivered by", no_wrap=True)
    table.add_column("set aside", justify="right", no_wrap=True)
    for name, lag in providers.items():
        role = printable(roles.get(lag.leader or 0, "process"))
        table.add_row(
            printable(name),
            f"{lag.records:,}",
            size_text(lag.bytes),
            ago(lag.seconds) if lag.bytes else "-",
            Text("nobody", style="yellow") if lag.leader is None else f"{role} {lag.leader}",
            Text(f"{lag.dead:,}", style="red" if lag.dead else "dim"),
        )
    show(out, table)


def _notes(found: Opened, stats: SpoolStats) -> list[str]:
    notes = []
    if not stats.providers and not stats.segments:
        notes.append("nothing has been written here yet: is it the folder that the applications have?")
    elif not stats.providers:
        waits = {0: "nothing waits", 1: "about 1 record waits"}.get(stats.records)
        waits = waits or f"about {stats.records:,} records wait"
        notes.append(f"no process has delivered from here yet; {waits}")
    if found.browser.newer:
        count = len(found.browser.newer)
        notes.append(f"left alone, as a newer version wrote them: {count} segments; upgrade agent-tracking")
    behind = {name: lag for name, lag in stats.providers.items() if lag.bytes and lag.leader is None}
    if behind:
        oldest = time.strftime(
            "%Y-%m-%d %H:%M", time.gmtime(time.time() - max(e.seconds for e in behind.values()))
        )
        notes.append(f"nobody delivers to {', '.join(behind)}, for which records wait since {oldest} UTC")
    return notes
