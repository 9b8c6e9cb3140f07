"""What the demo found, by the sink's ledger and the clock: as data, so that it can be shown or printed."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import quantiles

import msgspec

from agent_tracking.cli.demo.samples import Sample, sample
from agent_tracking.cli.demo.traffic import Traffic
from agent_tracking.counters import ProviderStats, Stats
from agent_tracking.testing import Ledger, SinkProcess

__all__ = ["Calls", "Outcome", "Report", "calls_of", "outcomes", "to_json"]

#: Profile updates at Mixpanel carry no id: the sink tells them apart by their content.
_WITHOUT_ID = {"mixpanel"}


class Calls(msgspec.Struct, frozen=True):
    """How long a call of ``track()`` took its caller, in microseconds."""

    count: int
    median_us: float
    p99_us: float
    longest_us: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One provider, by its counters and by what its backend received.

    Attributes:
        delivered, retried, dropped, waiting: the tracker's counters.
        requests, bytes: what came over the wire.
        once: records that the backend has exactly once.
        missing: records that it does not have. twice: those that it took more than once.
        foreign: what it has and nobody tracked.
    """

    delivered: int
    retried: int
    dropped: int
    waiting: int
    requests: int
    bytes: int
    once: int
    missing: int
    twice: int
    foreign: int
    sample: Sample | None

    @property
    def ok(self) -> bool:
        """Whether the backend has everything exactly once, and the tracker knows."""
        lost = self.missing or self.twice or self.foreign or self.dropped or self.waiting
        return not lost and self.delivered == self.once


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the demo shows in the end."""

    ok: bool
    seconds: float
    events: int
    identities: int
    failing: str
    calls: Calls
    providers: dict[str, Outcome]
    log: list[str]


def calls_of(nanoseconds: list[int]) -> Calls:
    """Return the figures of all calls of ``track()``."""
    if len(nanoseconds) < 2:
        nanoseconds = [*nanoseconds, *nanoseconds] or [0, 0]
    cuts = quantiles(nanoseconds, n=100, method="inclusive")
    return Calls(
        count=len(nanoseconds),
        median_us=round(cuts[49] / 1000, 1),
        p99_us=round(cuts[98] / 1000, 1),
        longest_us=round(max(nanoseconds) / 1000, 1),
    )


def outcomes(
    sink: SinkProcess, stats: Stats, names: Iterable[str], traffic: Traffic, secrets: set[str]
) -> dict[str, Outcome]:
    """Return what became of the traffic at each provider."""
    ledgers = sink.ledger
    lanes = {name: stats.providers.get(name, ProviderStats()) for name in names}
    return {name: _outcome(sink, name, ledgers[name], lane, traffic, secrets) for name, lane in lanes.items()}


def _outcome(
    sink: SinkProcess, name: str, ledger: Ledger, counted: ProviderStats, traffic: Traffic, secrets: set[str]
) -> Outcome:
    tracked = traffic.message_ids()
    arrived = set(ledger.accepted_keys())
    missing = len(tracked - arrived)
    foreign = len(arrived - tracked)
    if name in _WITHOUT_ID:
        # Each identity is a profile update and, as it has an anonymous id, an event that merges the two.
        profiles = len(tracked - traffic.message_ids(identities=False))
        missing += max(0, profiles - foreign)
        foreign = max(0, foreign - profiles)
    twice = len(ledger.accepted_twice())
    requests = sink.requests(name)
    return Outcome(
        delivered=counted.delivered,
        retried=counted.retried,
        dropped=sum(counted.dropped.values()),
        waiting=counted.waiting,
        requests=len(requests),
        bytes=sum(received.raw_size for received in requests),
        once=len(tracked) - missing - twice,
        missing=missing,
        twice=twice,
        foreign=foreign,
        sample=sample(requests, traffic.shown, secrets),
    )


def to_json(report: Report) -> str:
    """Return the report for scripts."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
