"""The counters of running processes as a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from agent_tracking.cli.output import ago, new_table, printable, show
from agent_tracking.counters import ProviderStats
from agent_tracking.settings import read_settings
from agent_tracking.status import Seen, read_status, status_folder

__all__ = ["running", "show_processes"]


def running(environ: Mapping[str, str]) -> list[Seen]:
    """Return the processes that write their counters where these variables say."""
    settings, _ = read_settings(environ)
    folder = status_folder(settings)
    return [] if folder is None else read_status(folder)


def show_processes(out: Console, seen: Sequence[Seen]) -> None:
    """Print a line for each provider of each process; nothing when there is no process."""
    if not seen:
        return
    table = new_table(out)
    for name in (
        "process",
        "provider",
        "delivered",
        "waiting",
        "dropped",
        "last success",
        "delay",
        "last error",
    ):
        table.add_column(name, no_wrap=name not in {"dropped", "last error"}, overflow="fold")
    now = time.time()
    for each in seen:
        for row in _rows(each, now):
            table.add_row(*row, style="dim" if each.stale else "")
    show(out, table)


def _rows(seen: Seen, now: float) -> Iterator[tuple[str | Text, ...]]:
    process = seen.process
    role = "" if process.role == "app" else f" ({process.role})"
    name = printable(f"{process.program} {process.pid}{role}{', gone' if seen.stale else ''}")
    if process.stats.dropped or process.stats.intake or not process.stats.providers:
        yield (name, "-", "", str(process.stats.intake), _counts(process.stats.dropped), "", "", "")
    for provider, stats in process.stats.providers.items():
        yield (
            name,
            printable(provider),
            str(stats.delivered),
            str(stats.waiting),
            _counts(stats.dropped),
            "never" if stats.last_success is None else f"{ago(now - stats.last_success)} ago",
            "" if stats.delay is None else ago(stats.delay),
            _error(stats, now),
        )


def _counts(dropped: Mapping[str, int]) -> Text:
    text = ", ".join(f"{reason}: {count}" for reason, count in dropped.items() if count)
    return Text(printable(text), style="red") if text else Text("0")


def _error(stats: ProviderStats, now: float) -> str:
    if not stats.last_error:
        return ""
    when = "" if stats.last_error_at is None else f" ({ago(now - stats.last_error_at)} ago)"
    return printable(f"{stats.last_error}{when}")
