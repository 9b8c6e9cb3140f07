"""The command: a sink, a tracker, traffic, one failure, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic, sleep

import click
from rich.console import Console

from agent_tracking.cli.demo.report import Report, calls_of, outcomes, to_json
from agent_tracking.cli.demo.screen import Lines, Moving, Screen, Silent, show_report
from agent_tracking.cli.demo.traffic import THREADS, Traffic
from agent_tracking.cli.demo.watch import Outage, Watch
from agent_tracking.cli.output import Seconds, console, held_log, show
from agent_tracking.cli.providers import provider_table
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.testing import SinkProcess
from agent_tracking.tracker import Tracker

__all__ = ["demo"]

_TICK = 0.125  # seconds between two looks
_PATIENCE = 60.0  # seconds for what is still on its way when everything was tracked
#: The provider whose backend fails, from this part of the time on, and for how many seconds.
_FAILING, _FROM, _FOR = "posthog", 0.3, 1.0


@click.command(epilog="Example: agent-tracking demo --seconds 10 --events 5000")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the report as JSON, nothing else.")
@click.option("--seconds", type=Seconds(0.1, 600), default=4.0, show_default=True, help="How long.")
@click.option("--events", type=click.IntRange(1, 50_000), default=2000, show_default=True, help="How many.")
def demo(*, as_json: bool, seconds: float, events: int) -> None:
    """Track a stream of events to all four providers, and count what arrives.

    A sink on 127.0.0.1 stands in for PostHog, Mixpanel, Amplitude and a webhook; nothing leaves this
    machine. For a second PostHog's stand-in answers 503. The exit status is 0 if everything arrived exactly
    once at all four, 1 if not, 2 if one of the four cannot be switched on.
    """
    out = console()
    traffic = Traffic(events, seconds)
    with held_log() as log, SinkProcess() as sink:
        watch = Watch(sorted(sink.ledger))
        environ = _environ(sink, watch)
        tracker = Tracker(environ=environ, observers=[watch])
        try:
            _check(out, tracker.providers(), list(watch.providers), as_json=as_json)
            screen = _screen(out, sink, watch, traffic, as_json=as_json)
            outage = Outage(sink, watch, _FAILING, starts=seconds * _FROM, seconds=_FOR)
            taken = _run(tracker, traffic, outage, screen)
        finally:
            traffic.stop()
            tracker.shutdown(1)
        found = outcomes(sink, tracker.stats(), watch.providers, traffic, set(environ.values()))
    report = Report(
        ok=all(each.ok for each in found.values()) and outage.over,
        seconds=round(taken, 2),
        events=len(traffic.message_ids(identities=False)),
        identities=len(traffic.message_ids()) - len(traffic.message_ids(identities=False)),
        failing=_FAILING,
        calls=calls_of(traffic.nanoseconds),
        providers=found,
        log=[f"{record.name.partition('.')[0]}: {record.getMessage()}" for record in log],
    )
    if as_json:
        click.echo(to_json(report))
    else:
        show_report(out, report)
    sys.exit(0 if report.ok else 1)


def _environ(sink: SinkProcess, watch: Watch) -> dict[str, str]:
    """Return the variables that switch the four on, and nothing else that happens to be installed."""
    return sink.environ() | {
        "TRACKING_WEBHOOK_AUTH": "Bearer demo-token",
        "AGENT_TRACKING_PROVIDERS": ",".join(map(_distribution, watch.providers)),
    }


def _distribution(name: str) -> str:
    return f"agent-tracking-{name}"


def _check(out: Console, records: Sequence[ProviderRecord], names: Sequence[str], *, as_json: bool) -> None:
    """End with exit status 2 if a provider is not ready."""
    wanted = {record.name: record for record in records if record.distribution in map(_distribution, names)}
    if all(name in wanted and wanted[name].state is ProviderState.ACTIVE for name in names):
        return
    if not as_json:
        show(out, provider_table(out, list(wanted.values())))
    absent = [
        _distribution(name)
        for name in names
        if name not in wanted or wanted[name].state is ProviderState.NOT_INSTALLED
    ]
    command = f": pip install {' '.join(absent)}" if absent else ""
    click.echo(f"the demo needs all four providers{command}", err=True)
    sys.exit(2)


def _screen(out: Console, sink: SinkProcess, watch: Watch, traffic: Traffic, *, as_json: bool) -> Screen:
    if as_json:
        return Silent()
    total = len(traffic.message_ids())
    out.print(f"{total:,} records from {THREADS} threads, the sink at {sink.url}", soft_wrap=True)
    out.print()
    moving = out.is_terminal and not out.is_dumb_terminal
    return Moving(out, watch, total) if moving else Lines(out, watch, total)


def _run(tracker: Tracker, traffic: Traffic, outage: Outage, screen: Screen) -> float:
    """Track everything, wait until it is delivered or the patience is over; return the seconds."""
    started = monotonic()
    traffic.start(tracker)
    try:
        while traffic.running():
            outage.tick()
            screen.show(tracker.stats(), outage)
            sleep(_TICK)
        end = monotonic() + _PATIENCE
        while monotonic() < end:
            outage.tick(at_last=True)
            behind = tracker.flush(_TICK).waiting
            screen.show(tracker.stats(), outage)
            if outage.over and not behind:
                break
            if not behind:
                sleep(_TICK)
    finally:
        screen.close()
    return monotonic() - started
