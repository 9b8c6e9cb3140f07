"""A lane: one provider's own queue, thread, batch and counters. Lanes share nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Thread
from typing import TYPE_CHECKING

import msgspec

from agent_tracking.bell import Bell
from agent_tracking.counters import LaneCounters
from agent_tracking.delivery.attempt import Attempt, Outcome
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.events import Record

if TYPE_CHECKING:
    from agent_tracking.delivery.outbox import Outbox
    from agent_tracking.delivery.sending import LaneSender
    from agent_tracking.hooks import Hooks
    from agent_tracking.logs import Reporter
    from agent_tracking.sources.protocol import Source

__all__ = ["STALLED_SECONDS", "Lane", "Schedule"]

#: A call of a hook, or a request, that takes longer than this is reported.
STALLED_SECONDS = 30.0


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a lane sends, and how much it takes at once.

    Attributes:
        flush_at: records; flush_interval: seconds; whichever comes first.
        records, size: the most that one batch takes, in records and bytes.
    """

    flush_at: int = 50
    flush_interval: float = 10.0
    records: int = 500
    size: int = 5 * 1024 * 1024


class Lane:
    """Takes records from its source and hands them to one provider's hooks, on its own thread.

    Args:
        name: the provider's.
        hooks: what ``find_hooks`` returned.
        source: where the records wait.
        report: logs what goes wrong.
        settled: called after every batch, so that flushes that wait can look.
        stopping: called with the reason and the fix when the provider must not be used any more.
        stopped: called after that, once everything that waited in memory is dropped and counted.
        counters: those that the source counts with, if it does.
    """

    def __init__(
        self,
        name: str,
        hooks: Hooks,
        source: Source,
        report: Reporter,
        *,
        schedule: Schedule = Schedule(),  # noqa: B008  frozen
        policy: RetryPolicy = RetryPolicy(),  # noqa: B008  frozen
        settled: Callable[[], None] = lambda: None,
        stopping: Callable[[str, str], None] = lambda _reason, _fix: None,
        stopped: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        counters: LaneCounters | None = None,
    ) -> None:
        self.name = name
        self.hooks = hooks
        self.source = source
        self.counters = counters or LaneCounters()
        self.bell = Bell()
        self._report = report
        self._schedule = schedule
        self._policy = policy
        self._settled = settled
        self._stopping = stopping
        self._stopped = stopped
        self._clock = clock
        self._flush_to = 0
        self._closing = False
        self._draining_until: float | None = None
        self._gone = False
        self.thread: Thread | None = None
        #: A batch is under way.
        self.delivering = False
        self.sender: LaneSender | None = None
        self._attempt = Attempt(hooks, source, self._failed, clock)

    def encode_with(self, outbox: Outbox) -> None:
        """Hand batches to the outbox itself: the provider's hooks do no more than that."""
        self._attempt.outbox = outbox

    # The dispatcher's side.

    def put(self, records: Sequence[Record], size: int) -> None:
        """Queue records for this provider; what does not fit is dropped and counted."""
        if self._gone:
            return
        self.counters.accept(len(records))
        if dropped := self.source.put(records, size):
            self.counters.drop("queue-full", dropped)
            self._report.warn(
                self.name,
                "queue-full",
                "the queue is full: the oldest records are dropped; the backend is too slow or down"
                " (see AGENT_TRACKING_QUEUE_RECORDS, AGENT_TRACKING_QUEUE_BYTES)",
                dropped,
            )

    @property
    def busy_since(self) -> float | None:
        """When the hook or the request that runs now began."""
        return self._attempt.busy_since

    @busy_since.setter
    def busy_since(self, moment: float | None) -> None:
        self._attempt.busy_since = moment

    def look(self) -> None:
        """Notice what came from elsewhere."""
        try:
            self.source.look()
        except Exception as error:  # noqa: BLE001  the other lanes have to go on
            text = f"looking for its records raised {type(error).__name__}"
            self._report.warn(self.name, "source", text, 0)

    def due(self) -> bool:
        """Return whether it is time to send."""
        waiting = self.source.waiting()
        if not waiting:
            return False
        if self._draining_until is not None and self.source.durable:
            return not self._owes_nothing()  # what others put in stays for whoever comes next
        since = self.source.since()
        return (
            waiting >= self._schedule.flush_at
            or not self._owes_nothing()
            or self.source.urgent()
            or (since is not None and self._clock() - since >= self._schedule.flush_interval)
        )

    def flush_to(self, position: int) -> None:
        """Send everything up to ``position`` as soon as the provider is free."""
        self._flush_to = max(self._flush_to, position)
        if self.unsettled(position):
            self.source.hurry()
        self.bell.ring()

    def unsettled(self, position: int | None = None) -> int:
        """Return how many records up to ``position`` (default: all) are not settled yet."""
        if self._gone:
            return 0
        return max(0, (self.source.end() if position is None else position) - self.source.settled())

    def start(self) -> None:
        """Start the thread, unless it runs or has ended; ``RuntimeError`` when no thread can be started."""
        if not self._closing and (self.thread is None or not self.thread.is_alive()):
            # Known before it runs: a flush() from its first hook call must find out that it is a lane's.
            self.thread = Thread(target=self._run, name=f"agent_tracking.{self.name}", daemon=True)
            self.thread.start()

    def enforce(self, now: float) -> None:
        """End a request that is over its deadline; say so of a call that is not ended by that."""
        if self.sender is not None:
            self.sender.enforce(now)
        seconds = self.busy()
        if seconds is not None and seconds > _WAITS_FROM:
            self._attempt.excuse()
        if seconds is not None and seconds > STALLED_SECONDS:
            self._report.warn(
                self.name,
                "stalled",
                f"a call of its hook, or a request, has been running for {seconds:.0f} s;"
                f" {self.unsettled()} records wait for it",
                0,
            )

    def busy(self) -> float | None:
        """Return for how many seconds the hook or the request that runs now has been running."""
        since = self.busy_since
        return None if since is None else max(0.0, self._clock() - since)

    @property
    def ended(self) -> bool:
        """Whether the lane takes no more batches."""
        return self._closing

    def drain_until(self, deadline: float) -> None:
        """From now on wait for nothing beyond ``deadline``: the process ends."""
        self._draining_until = deadline
        self.bell.ring()

    def wind_down(self) -> None:
        """End after the batch that is under way; what is left of it by then is given back."""
        self._closing = True
        self.bell.ring()

    def disconnect(self) -> None:
        """Close the connections of a lane that another thread delivers for: nobody else will."""
        if self.sender is not None and (self.thread is None or not self.thread.is_alive()):
            self.sender.close()

    def close(self, reason: str) -> int:
        """Stop; count what is left, in flight or waiting in memory, as dropped; return how many that was."""
        if self._gone:
            return 0
        self._closing = self._gone = True
        left = self.counters.close(reason, self.source.close())
        self.bell.ring()
        return left

    # The lane's own thread.

    def _run(self) -> None:
        while not self._closing:
            try:
                if self.due():
                    self.deliver()
                else:
                    self.bell.wait(None)
            except BaseException as error:  # noqa: BLE001  the lane outlives whatever a provider raises
                self._report.warn(self.name, "lane", f"the lane went on after {type(error).__name__}", 0)
        self._attempt.close()
        if self.sender is not None:
            self.sender.close()

    def deliver(self) -> None:
        """Take one batch and see it through."""
        self.delivering = True
        records: Sequence[Record] = self.source.take(self._schedule.records, self._schedule.size)
        first = self._clock()
        tries = 0
        try:
            while records:
                outcome = self._attempt(records)
                tries += 1
                self._count(records, outcome)
                if not outcome.left or self._gone:
                    return
                records = outcome.left
                if outcome.stop:
                    self._stop(outcome.stop, outcome.fix)
                    return
                if self._policy.over(tries, self._clock() - first):
                    self._give_up(records)
                    return
                delay = self._policy.delay(tries) if outcome.after is None else outcome.after
                if not self.pause(delay):
                    self.source.release(records)
                    self._closing = True
                    return
                self.counters.retry(len(records))
        finally:
            self.busy_since = None
            self.delivering = False
            self._settled()

    def pause(self, seconds: float) -> bool:
        """Wait so long; false, at once, when the lane must stop or cannot wait so long any more."""
        was_busy, self.busy_since = self.busy_since, None
        try:
            return self._pause(seconds)
        finally:
            self.busy_since = None if was_busy is None else self._clock()

    def _pause(self, seconds: float) -> bool:
        end = self._clock() + seconds
        while not self._closing:
            now = self._clock()
            deadline = self._draining_until
            if deadline is not None and self.source.durable and self._owes_nothing():
                return False
            if deadline is not None and end > deadline:
                if now + _LAST_TRY_SECONDS >= deadline:
                    return False
                end = min(end, now + _LAST_TRY_SECONDS)
            if now >= end:
                return True
            self.bell.wait(end - now)
        return False

    def _owes_nothing(self) -> bool:
        """Return whether everything is settled that a flush of this process waits for."""
        return self._flush_to <= self.source.settled()

    def _count(self, records: Sequence[Record], outcome: Outcome) -> None:
        if self._gone:
            return
        dropped = sum(outcome.dropped.values())
        for reason, count in outcome.dropped.items():
            self.counters.drop(reason, count)
            self._report.warn(self.name, reason, f"records dropped: {reason}", count)
        self.counters.deliver(len(records) - dropped - len(outcome.left))
        self.source.settle(len(records) - len(outcome.left), outcome.left)

    def _give_up(self, records: Sequence[Record]) -> None:
        for record in records:
            self.source.set_aside(record, "gave-up")
        self.counters.drop("gave-up", len(records))
        self.source.settle(len(records))
        self._report.warn(self.name, "gave-up", "records dropped: gave-up", len(records))

    def _stop(self, reason: str, fix: str) -> None:
        # The listing and the log first: closing ends the flushes that wait, and who asks then must see it.
        self._stopping(reason, fix)
        self.counters.error(reason)
        self._report.warn(
            self.name,
            "stopped",
            f"stopped until it is registered anew or the process restarts: {reason}"
            + (f" ({fix})" if fix else ""),
            self.counters.snapshot().waiting,
        )
        self.close("stopped")
        self._stopped()

    def _failed(self, kind: str, text: str, count: int) -> None:
        self.counters.error(text)
        self._report.warn(self.name, kind, text, count)


#: A call of a hook that delivers by itself is waiting when it takes longer than this, in seconds.
_WAITS_FROM = 0.2
#: When the process ends, a backoff is cut short to this many seconds for one more try.
_LAST_TRY_SECONDS = 1.0
