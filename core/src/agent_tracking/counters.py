"""Counters by provider and reason: what was accepted, delivered, retried, dropped, and still waits."""

from __future__ import annotations

import time
from collections import Counter
from threading import RLock

import msgspec

__all__ = ["REASONS", "FlushResult", "LaneCounters", "ProviderStats", "Stats"]

#: Every reason for which a record can be dropped, and what it means. Providers may add reasons of their
#: own by ``Reject(reason)`` and ``Drop(reason=...)``: a short list, never a caller's text.
REASONS = {
    "after-shutdown": "tracked after shutdown()",
    "bad-id": "identify() without a user id, or with a placeholder for one",
    "bad-name": "an event without a name, or whose name is not text",
    "gave-up": "the backend did not take it within the retry window",
    "no-provider": "no provider was active",
    "other": "the provider gave more reasons than are counted one by one",
    "own-traffic": "tracked while agent_tracking itself was logging or sending",
    "processor": "a processor dropped it",
    "processor-error": "a processor raised, and what it should have removed must not be sent",
    "provider-error": "the provider's hook raised",
    "queue-full": "the queue was full and this was the oldest record in it",
    "redirect": "the backend redirected, which is never followed",
    "rejected": "the backend refused it",
    "shutdown": "the time for shutting down was over",
    "stopped": "the provider was stopped, for example for a wrong key",
    "too-large": "over the backend's limit for one record",
    "unusable": "nothing of what was passed could be read, for example just below the recursion limit",
    "unregistered": "the provider was unregistered",
}


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


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """The whole tracker's counters.

    Attributes:
        tracked: records that ``track()`` and ``identify()`` were given.
        salvaged: records in which something was changed so that the rest could be sent.
        dropped: records that no provider was given, by reason.
        intake: records that the dispatcher has not taken yet.
        providers: each provider's own counters.
    """

    tracked: int = 0
    salvaged: int = 0
    dropped: dict[str, int] = {}
    intake: int = 0
    providers: dict[str, ProviderStats] = {}


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
        return not self.dropped and not self.waiting


#: The most reasons that one provider's drops are counted under: its texts must not fill the memory.
_MOST_REASONS = 50


class LaneCounters:
    """One lane's counters, changed by its own thread and by the dispatcher."""

    def __init__(self) -> None:
        # One that its holder may take again: a finalizer or a signal handler may ask for the numbers.
        self._lock = RLock()
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
            if not self._closed:
                self._accepted += count

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

    def close(self, reason: str) -> int:
        """Count what is not settled as dropped, and nothing more from now on; return how many that was."""
        with self._lock:
            left = self._accepted - self._delivered - sum(self._dropped.values())
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

    def snapshot(self, busy: float | None = None) -> ProviderStats:
        """Return the counters of this moment; ``busy``: see :class:`ProviderStats`."""
        with self._lock:
            settled = self._delivered + sum(self._dropped.values())
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
            )
