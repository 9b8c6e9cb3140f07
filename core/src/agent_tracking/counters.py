"""Counters by provider and reason: what was accepted, delivered, retried, dropped, and still waits."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from threading import RLock

import msgspec

__all__ = [
    "INTENDED",
    "REASONS",
    "FlushResult",
    "LaneCounters",
    "ProviderLag",
    "ProviderStats",
    "SpoolStats",
    "Stats",
]

#: Every reason for which a record can be dropped, and what it means. Providers may add reasons of their
#: own by ``Reject(reason)`` and ``Drop(reason=...)``: a short list, never a caller's text.
REASONS = {
    "after-shutdown": "tracked after shutdown()",
    "bad-id": "identify() without a user id, or with a placeholder for one",
    "bad-name": "an event without a name, or whose name is not text",
    "corrupt": "its line in the spool was damaged, by a crash or the disk",
    "crashed": "each time the provider's hook was given it the process died",
    "denied": "allow, deny or route let it go to no provider",
    "disabled": "everything is off (AGENT_TRACKING_DISABLED)",
    "expired": "it has waited in the spool for longer than the spool keeps records",
    "gave-up": "the backend did not take it within the retry window",
    "no-consent": "the application had no consent for it",
    "no-provider": "no provider was active, or none of those that it is routed to",
    "other": "the provider gave more reasons than are counted one by one",
    "own-traffic": "tracked while agent_tracking itself was logging or sending",
    "processor": "a processor dropped it",
    "processor-error": "a processor raised, and what it should have removed must not be sent",
    "provider-error": "the provider's hook raised",
    "queue-full": "the queue was full and this was the oldest record in it",
    "redirect": "the backend redirected, which is never followed",
    "rejected": "the backend refused it",
    "sampled": "it is not in the sample",
    "shutdown": "the time for shutting down was over",
    "stopped": "the provider was stopped, for example for a wrong key",
    "too-large": "over the backend's limit for one record",
    "unusable": "nothing of what was passed could be read, for example just below the recursion limit",
    "unregistered": "the provider was unregistered",
}
#: Those for which is dropped what whoever runs the application wants dropped: nothing is lost by them.
INTENDED = frozenset({"denied", "disabled", "no-consent", "processor", "sampled"})


class ProviderStats(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's counters; at any moment accepted = delivered + sum of dropped + waiting.

    ``last_success`` and ``last_error_at`` are seconds since 1970, ``None`` if there was none. ``busy`` is
    for how many seconds the call of its hook, or the request, that runs now has been running; ``None``
    when none does. One that only grows is a provider that hangs. ``delay`` is for how many seconds the oldest
    record that is not settled has waited; ``None`` when none waits.
    """

    accepted: int = 0
    delivered: int = 0
    retried: int = 0
    dropped: dict[str, int] = {}
    waiting: int = 0
    last_error: str | None = None
    last_error_at: float | None = None
    last_success: float | None = None
    busy: float | None = None
    delay: float | None = None


class ProviderLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far a provider is behind in the spool.

    Attributes:
        records: how many wait, about (by their bytes).
        bytes: their size.
        seconds: for how long the oldest of them has waited.
        leader: the pid of the process that delivers for it, if one does.
        dead: records that were set aside.
    """

    records: int = 0
    bytes: int = 0
    seconds: float = 0.0
    leader: int | None = None
    dead: int = 0


class SpoolStats(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the spool: everybody's records, not only this process's.

    Attributes:
        path: the folder.
        segments, bytes: how many files, and their size.
        records: how many records, about; those that some providers have are among them.
        providers: what waits for each provider.
    """

    path: str = ""
    segments: int = 0
    bytes: int = 0
    records: int = 0
    providers: dict[str, ProviderLag] = {}


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The whole tracker's counters.

    Attributes:
        tracked: records that ``track()`` and ``identify()`` were given.
        salvaged: records in which something was changed so that the rest could be sent.
        dropped: records that no provider was given, by reason.
        intake: records that the dispatcher has not taken yet.
        providers: each provider's own counters. With a spool a record is accepted when its lane takes it
            from there, so ``waiting`` is what is under way now.
        spool: what is in the spool, if there is one.
    """

    tracked: int = 0
    salvaged: int = 0
    dropped: dict[str, int] = {}
    intake: int = 0
    providers: dict[str, ProviderStats] = {}
    spool: SpoolStats | None = None


class FlushResult(msgspec.Struct, frozen=True, kw_only=True):
    """What ``flush()`` and ``shutdown()`` did; true if nothing was lost and nothing is waiting.

    Attributes:
        delivered: deliveries since the flush before this one, all providers together.
        dropped: records given up since the flush before this one, by reason.
        waiting: records tracked before this flush and not settled yet, by provider (under
            ``"intake"``: not handed to any provider yet); empty if all are settled.
    """

    delivered: int = 0
    dropped: dict[str, int] = {}
    waiting: dict[str, int] = {}

    def __bool__(self) -> bool:
        return not self.waiting and self.dropped.keys() <= INTENDED


#: The most reasons that one provider's drops are counted under: its texts must not fill the memory.
_MOST_REASONS = 50
#: The most moments that are kept to tell for how long records wait.
_MOST_MARKS = 1_024


class LaneCounters:
    """One lane's counters, changed by its own thread and by the dispatcher."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # One that its holder may take again: a finalizer or a signal handler may ask for the numbers.
        self._lock = RLock()
        self._clock = clock
        #: How many were accepted by when, oldest first; those up to which all is settled are forgotten.
        self._marks: deque[tuple[int, float]] = deque()
        #: For how many calls together one is kept, and how many the newest is for.
        self._each, self._since_mark = 1, 0
        self._accepted = 0
        self._delivered = 0
        self._retried = 0
        self._dropped: Counter[str] = Counter()
        self._last_error: str | None = None
        self._last_error_at: float | None = None
        self._last_success: float | None = None
        self._closed = False

    def resume(self, before: ProviderStats) -> None:
        """Go on from the counters of a lane of the same name that has ended."""
        with self._lock:
            self._accepted += before.accepted
            self._delivered += before.delivered
            self._retried += before.retried
            self._dropped.update(before.dropped)

    def accept(self, count: int) -> None:
        """Count records that the lane was given."""
        with self._lock:
            if count and not self._closed:
                self._accepted += count
                self._mark()

    def deliver(self, count: int) -> None:
        """Count records that the backend took."""
        with self._lock:
            if count and not self._closed:
                self._delivered += count
                self._last_success = time.time()

    def drop(self, reason: str, count: int) -> None:
        """Count records that were given up."""
        with self._lock:
            if count and not self._closed:
                if reason not in self._dropped and len(self._dropped) >= _MOST_REASONS:
                    reason = "other"
                self._dropped[reason] += count

    def close(self, reason: str, kept: int = 0) -> int:
        """Count what is not settled as dropped, and nothing more from now on; return how many that was.

        Args:
            reason: what it is counted under.
            kept: so many of them are not lost: they count as never accepted.
        """
        with self._lock:
            left = self._accepted - self._delivered - sum(self._dropped.values())
            if not self._closed:
                kept = max(0, min(kept, left))
                self._accepted -= kept
                left -= kept
            if left and not self._closed:
                self._dropped[reason] += left
            self._closed = True
            return left

    def retry(self, count: int) -> None:
        """Count records that are about to be sent again."""
        with self._lock:
            self._retried += count

    def error(self, text: str) -> None:
        """Keep the newest error; ``text`` must hold no secret."""
        with self._lock:
            self._last_error, self._last_error_at = text[:300], time.time()

    def _oldest(self) -> float | None:
        """Return when the oldest record that is not settled came; they are settled in their order, about."""
        settled = self._delivered + sum(self._dropped.values())
        while self._marks and self._marks[0][0] <= settled:
            self._marks.popleft()
        return self._marks[0][1] if self._marks and self._accepted > settled else None

    def _mark(self) -> None:
        """Note that records came now; where many moments are kept, some of them count as the one before."""
        if self._oldest() is None:
            self._each, self._since_mark = 1, 0
        self._since_mark += 1
        if self._since_mark < self._each and self._marks:
            self._marks[-1] = (self._accepted, self._marks[-1][1])
            return
        self._since_mark = 0
        self._marks.append((self._accepted, self._clock()))
        if len(self._marks) == _MOST_MARKS:
            marks = list(self._marks)
            pairs = zip(marks[::2], marks[1::2], strict=True)
            self._marks = deque((accepted, moment) for (_, moment), (accepted, _) in pairs)
            self._each *= 2

    def snapshot(self, busy: float | None = None) -> ProviderStats:
        """Return the counters of this moment; ``busy``: see :class:`ProviderStats`."""
        with self._lock:
            settled = self._delivered + sum(self._dropped.values())
            oldest = self._oldest()
            return ProviderStats(
                accepted=self._accepted,
                delivered=self._delivered,
                retried=self._retried,
                dropped=dict(self._dropped),
                waiting=self._accepted - settled,
                last_error=self._last_error,
                last_error_at=self._last_error_at,
                last_success=self._last_success,
                busy=busy,
                delay=None if oldest is None else max(0.0, self._clock() - oldest),
            )
