"""A lane: one provider's own queue, thread, batch and counters. Lanes share nothing."""

from __future__ import annotations

import inspect
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Thread
from typing import TYPE_CHECKING, Any

import msgspec

from agent_tracking import forks
from agent_tracking.bell import Bell
from agent_tracking.counters import LaneCounters
from agent_tracking.delivery.backoff import RetryPolicy, pause_of
from agent_tracking.delivery.outbox import Stopped
from agent_tracking.events import Record, TrackingEvent
from agent_tracking.exceptions import Reject, RetryLater
from agent_tracking.logs import one_line
from agent_tracking.sources.memory import MemorySource

if TYPE_CHECKING:
    from agent_tracking.delivery.loop import LaneLoop
    from agent_tracking.delivery.sending import LaneSender
    from agent_tracking.hooks import Hook, Hooks
    from agent_tracking.logs import Reporter

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


class _Outcome:
    """What became of the records of one attempt."""

    __slots__ = ("after", "dropped", "fix", "left", "stop")

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.left: Sequence[Record] = ()
        self.after: float | None = None
        self.stop = ""
        self.fix = ""

    def check(self, records: Sequence[Record]) -> None:
        """Bring what a provider said of ``records`` into order; raise for what makes no sense."""
        self.after = pause_of(self.after)
        if self.left:
            own = {record.message_id: record for record in records}
            self.left = [own[key] for key in dict.fromkeys(record.message_id for record in self.left)]
        if self.dropped:
            counts = list(self.dropped.values())
            if min(counts) < 0 or sum(counts) > len(records) - len(self.left):
                raise ValueError("more records are said to be dropped than there are")
            given = self.dropped
            self.dropped = Counter()
            for reason, count in given.items():
                self.dropped[one_line(str(reason), 60)] += int(count)


class Lane:
    """Takes records from its source and hands them to one provider's hooks, on its own thread.

    Args:
        name: the provider's.
        hooks: what ``find_hooks`` returned.
        source: where the records wait.
        report: logs what goes wrong.
        settled: called after every batch, so that flushes that wait can look.
        stopping: called with the reason and the fix when the provider must not be used any more.
        stopped: called after that, once everything that waited is dropped and counted.
    """

    def __init__(
        self,
        name: str,
        hooks: Hooks,
        source: MemorySource,
        report: Reporter,
        *,
        schedule: Schedule = Schedule(),  # noqa: B008  frozen
        policy: RetryPolicy = RetryPolicy(),  # noqa: B008  frozen
        settled: Callable[[], None] = lambda: None,
        stopping: Callable[[str, str], None] = lambda _reason, _fix: None,
        stopped: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.hooks = hooks
        self.source = source
        self.counters = LaneCounters()
        self.bell = Bell()
        self.busy_since: float | None = None
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
        self.sender: LaneSender | None = None
        self._loop: LaneLoop | None = None

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

    def due(self) -> bool:
        """Return whether it is time to send."""
        waiting = self.source.waiting()
        if not waiting:
            return False
        since = self.source.since()
        return (
            waiting >= self._schedule.flush_at
            or self._flush_to > self.source.settled()
            or (since is not None and self._clock() - since >= self._schedule.flush_interval)
        )

    def flush_to(self, position: int) -> None:
        """Send everything up to ``position`` as soon as the provider is free."""
        self._flush_to = max(self._flush_to, position)
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

    def disconnect(self) -> None:
        """Close the connections of a lane that another thread delivers for: nobody else will."""
        if self.sender is not None and (self.thread is None or not self.thread.is_alive()):
            self.sender.close()

    def close(self, reason: str) -> int:
        """Stop; count what is left, in flight or waiting, as dropped; return how many that was."""
        if self._gone:
            return 0
        self._closing = self._gone = True
        left = self.counters.close(reason)
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
        if self._loop is not None:
            self._loop.close()
        if self.sender is not None:
            self.sender.close()

    def deliver(self) -> None:
        """Take one batch and see it through."""
        records: Sequence[Record] = self.source.take(self._schedule.records, self._schedule.size)
        first = self._clock()
        tries = 0
        try:
            while records:
                outcome = self._guarded_attempt(records)
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
            if deadline is not None and end > deadline:
                if now + _LAST_TRY_SECONDS >= deadline:
                    return False
                end = min(end, now + _LAST_TRY_SECONDS)
            if now >= end:
                return True
            self.bell.wait(end - now)
        return False

    def _count(self, records: Sequence[Record], outcome: _Outcome) -> None:
        if self._gone:
            return
        dropped = sum(outcome.dropped.values())
        for reason, count in outcome.dropped.items():
            self.counters.drop(reason, count)
            self._report.warn(self.name, reason, f"records dropped: {reason}", count)
        self.counters.deliver(len(records) - dropped - len(outcome.left))
        self.source.settle(len(records) - len(outcome.left))

    def _give_up(self, records: Sequence[Record]) -> None:
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

    def _guarded_attempt(self, records: Sequence[Record]) -> _Outcome:
        """Hand ``records`` to the hooks once; a provider that says nonsense loses them, counted."""
        try:
            outcome = self._attempt(records)
            outcome.check(records)
        except BaseException as error:  # noqa: BLE001  even what its exceptions hold is the provider's
            outcome = _Outcome()
            self._failed(error, len(records), outcome)
        return outcome

    def _attempt(self, records: Sequence[Record]) -> _Outcome:
        """Hand ``records`` to the hooks once."""
        outcome = _Outcome()
        handed: list[Record] = []
        for place, record in enumerate(records):
            hook = self.hooks.track if isinstance(record, TrackingEvent) else self.hooks.identify
            if hook is None:
                continue
            error = self._call(hook, record)
            if error is None:
                handed.append(record)
            elif _may_pass(error):
                outcome.left, outcome.after = records[place:], getattr(error, "after", None)
                break
            else:
                self._refused(error, 1, outcome)
        if self.hooks.flush is not None and handed:
            self._flush(handed, outcome)
        return outcome

    def _flush(self, handed: Sequence[Record], outcome: _Outcome) -> None:
        error = self._call(self.hooks.flush)  # type: ignore[arg-type]
        if error is None:
            return
        if _may_pass(error):
            left = getattr(error, "records", None)
            outcome.dropped.update(getattr(error, "rejected", {}))
            outcome.left = [*(handed if left is None else left), *outcome.left]
            outcome.after = getattr(error, "after", None)
            if isinstance(error, Stopped):
                outcome.stop, outcome.fix = str(error), error.fix
        else:
            self._refused(error, len(handed), outcome)

    def _call(self, hook: Hook, *arguments: object) -> BaseException | None:
        """Call a hook, guarded; return what it raised."""
        self.busy_since = self._clock()
        try:
            result = hook(*arguments)
            if result is not None and inspect.iscoroutine(result):
                self._run_coroutine(result)
        except BaseException as error:  # noqa: BLE001  even SystemExit ends no lane
            return error
        finally:
            self.busy_since = None
        return None

    def _run_coroutine(self, coroutine: Any) -> None:  # noqa: ANN401
        if self._loop is None:
            with forks.BOOT:  # it imports modules
                from agent_tracking.delivery.loop import LaneLoop

            self._loop = LaneLoop()
        self._loop.run(coroutine)

    def _refused(self, error: BaseException, count: int, outcome: _Outcome) -> None:
        if isinstance(error, Reject):
            counts = error.counts
            if count == 1 and sum(counts.values()) != 1:
                counts = {error.reason: 1}
            outcome.dropped.update(counts)
            return
        self._failed(error, count, outcome)

    def _failed(self, error: BaseException, count: int, outcome: _Outcome) -> None:
        outcome.dropped["provider-error"] += count
        text = f"the provider raised {type(error).__name__}"  # its own text may hold a secret
        self.counters.error(text)
        self._report.warn(self.name, type(error).__name__, text, count)


#: When the process ends, a backoff is cut short to this many seconds for one more try.
_LAST_TRY_SECONDS = 1.0


def _may_pass(error: BaseException) -> bool:
    """Return whether the same records may be taken later."""
    if isinstance(error, RetryLater | OSError):
        return True
    httpx = sys.modules.get("httpx")
    return httpx is not None and isinstance(error, httpx.TransportError)
