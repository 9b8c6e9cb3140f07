"""The dispatcher: takes records from the intake, runs the processors, hands them to every lane.

One thread. It sleeps while there is nothing to do; as long as anything waits it looks every quarter of a
second, so that callers wake nobody: a wake-up for each call costs the caller more than all the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent_tracking import forks
from agent_tracking.counters import FlushResult, Stats
from agent_tracking.delivery.lane import Lane
from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.exceptions import TrackingError
from agent_tracking.flushing import FlushRequest
from agent_tracking.logs import Reporter
from agent_tracking.prepare import prepare
from agent_tracking.registry import Registry
from agent_tracking.settings import read_settings
from agent_tracking.sources.protocol import weight

if TYPE_CHECKING:
    from agent_tracking.records import ProviderRecord
    from agent_tracking.tracker import Tracker

__all__ = ["GAP", "Dispatcher"]

#: Seconds between two looks while anything waits: "50 records" means noticed within this time.
GAP = 0.25
#: Records taken from the intake at once, before the lanes get them.
_SLICE = 1_000
_AHEAD = 2.0  # seconds for which callers may rely on the next look


class Dispatcher:
    """The background half of a tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.report = Reporter(tracker.quiet)
        self.settings, problems = read_settings(tracker.environ, tracker.given)
        self.report.strict = self.settings.strict
        tracker.apply(
            disabled=self.settings.disabled,
            strict=self.settings.strict,
            max_records=self.settings.queue_records,
            max_bytes=self.settings.queue_bytes,
        )
        for problem in problems:
            self.report.warn("", str(problem), str(problem), 0)
        self._registry = Registry(tracker, self.settings, self.report, self._settled)
        self._requests: list[FlushRequest] = []
        self._tracked = 0
        self._salvaged = 0
        self._dropped: Counter[str] = Counter()
        self._flushed = _Totals()
        self._draining_until = tracker.exit_deadline
        self._closing = False

    # Its own thread.

    def run(self) -> None:
        """Look, sleep, look again, until closed."""
        try:
            self.prepare_providers()
        except BaseException as error:  # noqa: BLE001  for example what finds packages on a path of its own
            self.report.warn("", "discovery", f"looking for providers raised {type(error).__name__}", 0)
        while not self._closing:
            try:
                busy = self.look()
            except BaseException as error:  # noqa: BLE001  the dispatcher outlives whatever happens
                self.report.warn("", "dispatcher", f"the dispatcher went on after {type(error).__name__}", 0)
                busy = True
            self._sleep(busy)

    def _sleep(self, busy: bool) -> None:
        tracker = self._tracker
        if not busy:
            tracker.due = 0.0  # from now on a caller has to ring; one that came just before is seen here
            busy = bool(tracker.entries or tracker.requests)
        if busy and tracker.exit_left is None:
            tracker.due = time.time() + _AHEAD
        tracker.bell.wait(GAP if busy else None)

    def look(self) -> bool:
        """Hand out what is in the intake; return whether anything is left to look after."""
        requests = self._take_requests()
        self._hand_out()
        lanes = self._registry.lanes
        for request in requests:
            request.aim(lanes)
        self._requests += requests
        now = time.monotonic()
        busy = False
        for lane in lanes.values():
            lane.enforce(now)
            self._start(lane)
            if lane.due():
                lane.bell.ring()
            busy = busy or lane.unsettled() > 0
        self._requests = [request for request in self._requests if not request.settled()]
        return busy or bool(self._requests)

    def _start(self, lane: Lane) -> None:
        if self._draining_until is not None:
            lane.drain_until(self._draining_until)
        try:
            lane.start()
        except RuntimeError:  # no thread can be started; tried again at the next look
            if self._requests or self._draining_until is not None:  # somebody waits: at the end, for ever
                self._deliver_here(lane)
            else:
                self.report.warn(lane.name, "thread", "no thread can be started for it now", 0)

    def _deliver_here(self, lane: Lane) -> None:
        deadline = self._draining_until
        while lane.due() and not lane.ended and (deadline is None or time.monotonic() < deadline):
            lane.deliver()

    def _take_requests(self) -> list[FlushRequest]:
        requests = []
        while self._tracker.requests:
            requests.append(self._tracker.requests.popleft())
        return requests

    def _hand_out(self) -> None:
        tracker = self._tracker
        overflowed = 0
        while tracker.overflowed:
            tracker.overflowed.popleft()
            overflowed += 1
        if overflowed:
            self._overflow(overflowed)
        # Only those that are there now: a processor may track for each record that it sees.
        left = len(tracker.entries)
        while left > 0 and tracker.entries:
            records = []
            taken = 0
            for _ in range(min(left, _SLICE)):
                left -= 1
                try:
                    entry = tracker.entries.popleft()
                except IndexError:
                    break
                taken += len(entry)
                record = self._record(entry)
                if record is not None:
                    records.append(record)
            tracker.size = tracker.size - taken if tracker.entries else 0
            self._fan_out(records)

    def _overflow(self, count: int) -> None:
        self._tracked += count
        self._dropped["queue-full"] += count
        self.report.warn(
            "",
            "queue-full",
            "the intake is full: the oldest records are dropped (see AGENT_TRACKING_QUEUE_RECORDS,"
            " AGENT_TRACKING_QUEUE_BYTES)",
            count,
        )

    def _record(self, entry: bytes) -> Record | None:
        self._tracked += 1
        try:
            record, changed = prepare(entry, self._tracker.ids)
        except Exception:  # noqa: BLE001  nothing that was tracked may stop the dispatcher
            record, changed = "unusable", True
        self._salvaged += changed
        if isinstance(record, str):
            self._drop(record, "a record was dropped")
            return None
        return self._processed(record)

    def _processed(self, record: Record) -> Record | None:
        for processor in self._tracker.processors:
            try:
                changed = processor(record)
            except BaseException as error:  # noqa: BLE001  a processor may raise anything
                self._drop("processor-error", f"a processor raised {type(error).__name__}")
                return None
            if changed is None:
                self._dropped["processor"] += 1
                return None
            if type(changed) not in {TrackingEvent, Identity}:
                self._drop("processor-error", "a processor returned neither a record nor None")
                return None
            record = changed
        return record

    def _drop(self, reason: str, text: str) -> None:
        self._dropped[reason] += 1
        self.report.warn("", reason, f"{text}: {reason}", 1)

    def _fan_out(self, records: list[Record]) -> None:
        lanes = self._registry.lanes
        if not records:
            return
        if not lanes:
            self._dropped["no-provider"] += len(records)
            return
        routed = any(record.never or record.only is not None for record in records)
        size = sum(map(weight, records))
        for name, lane in lanes.items():
            if not routed:
                lane.put(records, size)
            elif chosen := [record for record in records if record.goes_to(name)]:
                lane.put(chosen, sum(map(weight, chosen)))

    def _settled(self) -> None:
        """End the waits that are over; on any thread, so the list itself is left to the dispatcher's."""
        for request in tuple(self._requests):
            request.settled()

    # Called from other threads.

    def prepare_providers(self) -> None:
        """Find and load the installed providers, once."""
        with forks.BOOT:
            self._registry.discover()

    def behind(self) -> bool:
        """Return whether any lane has records that are not settled."""
        return any(lane.unsettled() for lane in self._registry.lanes.values())

    def owns(self, ident: int) -> bool:
        """Return whether the thread with this ``threading.get_ident()`` is one of the lanes'."""
        threads = [lane.thread for lane in self._registry.lanes.values()]
        return any(thread is not None and thread.ident == ident for thread in threads)

    def records(self) -> tuple[ProviderRecord, ...]:
        """Return every provider's record."""
        self.prepare_providers()
        return self._registry.records()

    def register(self, provider: object, name: str | None) -> ProviderRecord:
        """Add a provider at run time."""
        with forks.BOOT:
            return self._registry.register(provider, name)

    def unregister(self, name: str) -> bool:
        """Remove a provider."""
        with forks.BOOT:
            return self._registry.unregister(name)

    def run_here(self, request: FlushRequest, deadline: float) -> None:
        """Do the work of all threads on this one: where no thread can be started any more."""
        self.prepare_providers()
        self._tracker.requests.append(request)
        self._requests += (requests := self._take_requests())
        self._hand_out()
        lanes = self._registry.lanes
        for each in requests:
            each.aim(lanes)
        behind = list(lanes.values())
        for number, lane in enumerate(behind):
            now = time.monotonic()
            lane.drain_until(now + (deadline - now) / (len(behind) - number))
            while lane.due() and not lane.ended and time.monotonic() < deadline:
                lane.deliver()
            lane.disconnect()
        self._settled()

    def drain_until(self, deadline: float) -> None:
        """The process ends: wait for nothing beyond ``deadline`` (``time.monotonic``)."""
        self._draining_until = deadline
        for lane in self._registry.lanes.values():
            lane.drain_until(deadline)

    def give_up(self) -> None:
        """Drop what is left, count it, say so once."""
        left = {lane.name: lane.close("shutdown") for lane in self._registry.lanes.values()}
        self.say_behind({**left, "no provider yet": len(self._tracker.entries)})

    def say_behind(self, waiting: Mapping[str, int]) -> None:
        """Log what was not delivered in the time for shutting down, by provider."""
        text = ", ".join(f"{name}: {count}" for name, count in waiting.items() if count)
        if text:
            self.report.warn("", "shutdown", f"the time for shutting down was over; not delivered: {text}", 0)

    def fall_silent(self) -> None:
        """Log nothing any more: the interpreter ends."""
        self.report.silent = True

    def stop(self) -> None:
        """End the dispatcher's thread; the lanes go on with what they have."""
        self._closing = True
        self._tracker.bell.ring()

    def close(self) -> None:
        """Stop all threads; what is left is dropped and counted."""
        self.give_up()
        self.stop()

    def stats(self) -> Stats:
        """Return the counters of this moment."""
        tracker = self._tracker
        lost = tracker.losses()
        waiting = len(tracker.entries)
        overflowed = len(tracker.overflowed)
        dropped = Counter(lost) + self._dropped + Counter({"queue-full": overflowed})
        return Stats(
            tracked=self._tracked + waiting + overflowed + sum(lost.values()),
            salvaged=self._salvaged,
            dropped=dict(dropped),
            intake=waiting,
            providers=self._registry.stats(),
        )

    def result(self, request: FlushRequest | None) -> FlushResult:
        """Return what a flush tells its caller, and begin counting for the next one."""
        if problems := self.report.take_problems():
            raise TrackingError("strict mode: " + "; ".join(problems))
        stats = self.stats()
        delivered, dropped = self._flushed.since(stats)
        waiting = {}
        if request is not None:
            behind = request.behind()
            if behind is None:
                behind = {"intake": stats.intake} if stats.intake else {}
            waiting = behind
        return FlushResult(delivered=delivered, dropped=dropped, waiting=waiting)


class _Totals:
    """The sums of the flush before."""

    def __init__(self) -> None:
        self._delivered = 0
        self._dropped: Counter[str] = Counter()

    def since(self, stats: Stats) -> tuple[int, dict[str, int]]:
        """Return what was delivered and dropped since the last call."""
        delivered = sum(provider.delivered for provider in stats.providers.values())
        dropped = Counter(stats.dropped)
        for provider in stats.providers.values():
            dropped.update(provider.dropped)
        before = self._delivered, self._dropped
        self._delivered, self._dropped = delivered, dropped
        return max(0, delivered - before[0]), dict(dropped - before[1])
