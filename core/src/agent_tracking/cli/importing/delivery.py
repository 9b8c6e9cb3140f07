"""A tracker of its own for one import: records go in by the chunk, and each chunk is settled."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from time import monotonic, sleep

import msgspec

from agent_tracking.cli.importing.problems import BadInput, quoted
from agent_tracking.cli.importing.rows import CHUNK_RECORDS, Chunk
from agent_tracking.counters import ProviderStats, Stats
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.provider import IMPORTING
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.tracker import Tracker

__all__ = ["Delivery", "Settled", "active", "make_environ", "make_tracker"]

#: Settings of the application that hold for an import, too; the others are about its own traffic.
_KEPT = ("AGENT_TRACKING_DISABLED", "AGENT_TRACKING_PROVIDERS", "AGENT_TRACKING_DISABLED_PROVIDERS")
#: Reasons that say nothing of the record: it may arrive another time.
_LOST = frozenset(
    {
        "after-shutdown", "gave-up", "no-provider", "own-traffic", "queue-full", "shutdown", "stopped",
        "unregistered",
    }
)  # fmt: skip
#: A backend that refuses every one of so many records has something against all of them.
_TELLING = 100
_TICK = 0.1  # seconds between two looks
_PATIENCE = 10.0  # seconds for counters that do not add up although nothing waits
_GRACE = 2.0  # seconds that a chunk may still take once the import is to end

#: Nobody waits for an import as an application's end is waited for: a backend may be down for longer.
POLICY = RetryPolicy(window=900.0)

_FINE = frozenset({ProviderState.ACTIVE, ProviderState.INACTIVE, ProviderState.DISABLED})


class Settled(msgspec.Struct, kw_only=True):
    """What became of a chunk.

    Attributes:
        lost: why it is not settled at all providers; empty if it is.
        delivered, retried: by provider. refused: by provider and reason.
        changed: records in which something could not be sent as it was.
    """

    lost: str = ""
    delivered: dict[str, int] = {}
    retried: dict[str, int] = {}
    refused: dict[str, dict[str, int]] = {}
    changed: int = 0


def make_environ(environ: Mapping[str, str], only: Sequence[str]) -> dict[str, str]:
    """Return the variables for the import's own tracker: an application's queues and files are not used."""
    own = {name: value for name, value in environ.items() if not name.startswith("AGENT_TRACKING_")}
    kept = {name: environ[name] for name in _KEPT if name in environ}
    if only:
        kept["AGENT_TRACKING_PROVIDERS"] = ",".join(only)
    return {
        **own,
        **kept,
        IMPORTING: "1",
        # A chunk is never more than this, so that nothing is dropped for want of room.
        "AGENT_TRACKING_QUEUE_RECORDS": str(2 * CHUNK_RECORDS),
        "AGENT_TRACKING_QUEUE_BYTES": str(2**40),
        "AGENT_TRACKING_FLUSH_AT": "500",
        "AGENT_TRACKING_FLUSH_INTERVAL": "1",
    }


def active(tracker: Tracker, only: Sequence[str]) -> list[ProviderRecord]:
    """Return the providers that the import goes to; raise if one that is meant can't be used."""
    with redirect_stdout(sys.stderr):  # what a provider prints while it is imported
        found = tracker.providers()
    for name in only:
        record = next((each for each in found if name in {each.name, each.distribution}), None)
        if record is None:
            there = ", ".join(sorted({each.name for each in found})) or "none"
            raise BadInput(f"--only: no provider is called {quoted(name)}; installed: {there}")
        if record.state is not ProviderState.ACTIVE:
            raise BadInput(f"--only: {_why(record)}")
    for record in found:
        if record.state not in _FINE:
            raise BadInput(f"{_why(record)}; or leave it out: --only names those to import to")
    ready = [record for record in found if record.state is ProviderState.ACTIVE]
    if not ready:
        raise BadInput("no provider is active: `agent-tracking providers` says why, and what to do")
    return ready


def _why(record: ProviderRecord) -> str:
    fix = f" ({record.fix})" if record.fix else ""
    return f"{record.name} is {record.state}: {record.reason}{fix}"


class Delivery:
    """Hands chunks to a tracker and waits for them.

    Args:
        tracker: used by nobody else.
        names: the providers that have to settle every record.
        asked: tells whether the import is to end.
    """

    def __init__(
        self,
        tracker: Tracker,
        names: Sequence[str],
        asked: Callable[[], bool],
    ) -> None:
        self._tracker = tracker
        self._names = names
        self.asked = asked
        self._before = Stats()
        self._count = 0

    def start(self, chunk: Chunk) -> None:
        """Begin to deliver a chunk; what was started before must be settled."""
        self._before = self._tracker.stats()
        self._count = len(chunk.records)
        track, identify = self._tracker.track, self._tracker.identify
        for name, data, user_id, anonymous_id, session_id, seconds, key in chunk.records.values():
            if name is not None:
                track(
                    name,
                    data,
                    user_id=user_id,
                    anonymous_id=anonymous_id,
                    session_id=session_id,
                    timestamp=seconds,
                    message_id=key,
                )
            elif user_id is not None:
                identify(user_id, data, anonymous_id=anonymous_id, timestamp=seconds, message_id=key)
        self._tracker.flush(0)

    def settle(self, tick: Callable[[float, str], None]) -> Settled:
        """Wait until the chunk is settled at every provider, or can't be, or the import is to end.

        Args:
            tick: called several times a second: how much of the chunk is settled, from 0 to 1, and what
                troubles a provider.
        """
        deadline = None
        stats = self._tracker.stats()
        moved = monotonic()
        while not self._done(stats) and monotonic() - moved < _PATIENCE:
            # What it says is not enough: one that ends while records are on their way from the intake to
            # the lanes finds them in neither.
            if self._tracker.flush(_TICK).waiting:
                moved = monotonic()
            else:
                sleep(_TICK / 10)
            stats = self._tracker.stats()
            tick(self._part(stats), self._trouble(stats))
            if self.asked():
                deadline = deadline or monotonic() + _GRACE
                if monotonic() > deadline and not self._done(stats):
                    return Settled(lost="interrupted")
        return self._outcome(stats)

    def _done(self, stats: Stats) -> bool:
        """Return whether the counters have every record of the chunk, or say that one is lost."""
        reasons = _more(stats.dropped, self._before.dropped)
        left = self._count - sum(reasons.values())
        for name in self._names:
            now, before = self._pair(stats, name)
            lost = _LOST.intersection([*_more(now.dropped, before.dropped), *reasons])
            if (now.waiting or now.accepted - before.accepted < left) and not lost:
                return False
        return True

    def _part(self, stats: Stats) -> float:
        """Return how much of the chunk the slowest provider has settled."""
        if not self._count:
            return 1.0
        parts = []
        for name in self._names:
            now, before = self._pair(stats, name)
            settled = now.accepted - now.waiting - (before.accepted - before.waiting)
            parts.append(settled / self._count)
        return max(0.0, min(parts, default=1.0))

    def _trouble(self, stats: Stats) -> str:
        """Return what providers that try again have met."""
        found = []
        for name in self._names:
            now, before = self._pair(stats, name)
            if now.waiting and now.retried > before.retried and now.last_error:
                found.append(f"{name}: {now.last_error}; tried again")
        return ", ".join(found)

    def _pair(self, stats: Stats, name: str) -> tuple[ProviderStats, ProviderStats]:
        nothing = ProviderStats()
        return stats.providers.get(name, nothing), self._before.providers.get(name, nothing)

    def _outcome(self, stats: Stats) -> Settled:
        settled = Settled(changed=stats.salvaged - self._before.salvaged)
        reasons = _more(stats.dropped, self._before.dropped)
        losses = [f"{count:,} records: {reason}" for reason, count in reasons.items()]
        for name in self._names:
            now, before = self._pair(stats, name)
            delivered, accepted = now.delivered - before.delivered, now.accepted - before.accepted
            dropped = _more(now.dropped, before.dropped)
            refused = {reason: count for reason, count in dropped.items() if reason not in _LOST}
            gone = sum(dropped.values()) - sum(refused.values()) + self._count - accepted
            if gone > 0:
                what = ", ".join(sorted(set(dropped) & _LOST)) or "stopped"
                losses.append(f"{name}: {what}{_said(now)}")
            elif self._count >= _TELLING and sum(refused.values()) == self._count:
                what = ", ".join(sorted(refused))
                losses.append(f"{name} took none of {self._count:,} records: {what}{_said(now)}")
            settled.delivered[name] = delivered
            settled.retried[name] = now.retried - before.retried
            settled.refused[name] = refused
        settled.lost = "; ".join(losses)
        return settled


def _said(stats: ProviderStats) -> str:
    return f" ({stats.last_error})" if stats.last_error else ""


def _more(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(now) - Counter(before))


def make_tracker(environ: Mapping[str, str]) -> Tracker:
    """Return the tracker of an import."""
    return Tracker(environ=environ, retry=POLICY)
