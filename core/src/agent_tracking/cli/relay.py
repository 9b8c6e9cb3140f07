"""``agent-tracking relay``: deliver what other processes wrote to a spool."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout

import click

from agent_tracking.cli.output import Refused, Seconds, ago, printable, to_json
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.relay import Ending, News, Relay

__all__ = ["relay"]


@click.command(epilog="Example: agent-tracking relay --spool /var/lib/shop/tracking")
@click.option("--spool", metavar="FOLDER", help="The folder; AGENT_TRACKING_SPOOL by default.")
@click.option("--once", is_flag=True, help="End when all that waits now is delivered.")
@click.option("--timeout", type=Seconds(0.1), metavar="SECONDS", help="End after so long.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: what was done, as JSON, nothing else.")
def relay(*, spool: str | None, once: bool, timeout: float | None, as_json: bool) -> None:
    """Deliver what other processes write to a spool, until SIGTERM or Ctrl-C.

    Set AGENT_TRACKING_SPOOL=FOLDER and AGENT_TRACKING_DELIVERY=relay for the applications, and the providers'
    variables for this process. A signal ends it after the requests under way; what is left stays on the disk.
    A second signal ends it at once. Several may run on one folder: for each provider one delivers, the others
    take over when it ends.

    The exit status is 0 after a signal. With --once or --timeout it is 1 if a record was dropped, or if some
    of what waited at the beginning is left; without them, 1 if no provider can be used any more. It is 2 for
    bad input or when no provider is active.
    """
    try:
        with redirect_stdout(sys.stderr):  # what providers print while they are imported
            running = Relay(spool, os.environ)
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        ending = running.run(once=once, timeout=timeout, tell=_Teller(running.path, silent=as_json))
    except ConfigurationError as error:
        raise Refused(printable(str(error))) from None
    click.echo(to_json(ending) if as_json else _words(ending))
    bounded = once or timeout is not None
    sys.exit(1 if ending.stopped == "failed" or (bounded and not ending.ok) else 0)


class _Teller:
    """Says who delivers, at first and whenever that changes."""

    def __init__(self, path: str, *, silent: bool) -> None:
        self._path = path
        self._silent = silent
        self._said = ""

    def __call__(self, news: News) -> None:
        text = f"relay {os.getpid()} on {self._path}: {'; '.join(_parts(news))}"
        if not self._silent and text != self._said:
            self._said = text
            click.echo(printable(text))


def _parts(news: News) -> Iterator[str]:
    by_pid: dict[int | None, list[str]] = {}
    for name, pid in news.leaders.items():
        by_pid.setdefault(pid, []).append(name)
    if own := by_pid.pop(os.getpid(), None):
        yield f"delivers to {', '.join(own)}"
    for pid, names in by_pid.items():
        yield f"waits while process {pid} delivers to {', '.join(names)}"
    for name, reason in news.stopped.items():
        yield f"{name} {reason}"


def _words(ending: Ending) -> str:
    names = sorted({*ending.delivered, *ending.dropped, *ending.left})
    parts = []
    for name in names:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in ending.dropped.get(name, {}).items())
        lag = ending.left.get(name)
        left = f"about {lag.records:,} left, the oldest {ago(lag.seconds)} old" if lag else "nothing left"
        dropped = f"dropped: {dropped}, " if dropped else ""
        parts.append(f"{name} {ending.delivered.get(name, 0):,} delivered, {dropped}{left}")
    return printable(f"ended ({ending.stopped}): {'; '.join(parts) or 'nothing was delivered'}")
