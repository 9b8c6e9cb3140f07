"""``--watch``: a bar for each provider until nothing waits, lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from agent_tracking.cli.output import ago, printable
from agent_tracking.cli.spool.opening import Failed
from agent_tracking.counters import ProviderLag
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.folder import SpoolError

__all__ = ["watch"]

#: Seconds between two looks, and between two plain lines.
_LOOK, _LINE = 0.5, 2.0


def watch(out: Console, browser: Browser) -> None:
    """Show how what waits gets less, until nothing is left; Ctrl-C ends it."""
    moving = out.is_terminal and not out.is_dumb_terminal
    with suppress(KeyboardInterrupt):
        if moving:
            _move(out, browser)
        else:
            _lines(out, browser)


def _follow(browser: Browser, tell: Callable[[Mapping[str, ProviderLag]], None]) -> None:
    while True:
        try:
            browser.refresh()
        except SpoolError as error:
            raise Failed(printable(str(error))) from None
        stats = browser.stats()
        tell(stats.providers)
        if not any(lag.bytes for lag in stats.providers.values()) and (stats.providers or not stats.bytes):
            return
        time.sleep(_LOOK)


def _move(out: Console, browser: Browser) -> None:
    tasks: dict[str, TaskID] = {}
    most: dict[str, int] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
        console=out,
    ) as progress:

        def tell(providers: Mapping[str, ProviderLag]) -> None:
            for name, lag in providers.items():
                if name not in tasks:
                    tasks[name] = progress.add_task(printable(name), total=None, figures="")
                most[name] = max(1, lag.bytes, most.get(name, 0))
                progress.update(
                    tasks[name], total=most[name], completed=most[name] - lag.bytes, figures=_figures(lag)
                )

        _follow(browser, tell)


def _figures(lag: ProviderLag) -> str:
    if not lag.bytes:
        return "nothing waits"
    who = ", nobody delivers" if lag.leader is None else ""
    return f"{lag.records:,} wait, {ago(lag.seconds)}{who}"


def _lines(out: Console, browser: Browser) -> None:
    began = time.monotonic()
    upcoming = 0.0
    said = ""

    def tell(providers: Mapping[str, ProviderLag]) -> None:
        nonlocal upcoming, said
        passed = time.monotonic() - began
        text = "; ".join(f"{name}: {_figures(lag)}" for name, lag in providers.items())
        text = text or "no process has delivered from here yet"
        if text != said and (passed >= upcoming or not any(lag.bytes for lag in providers.values())):
            out.print(printable(f"{passed:6.1f} s  {text}"), soft_wrap=True)
            upcoming, said = passed + _LINE, text

    _follow(browser, tell)
