"""The dispatcher: takes records from the intake, runs the processors, hands them to every lane.

One thread. It sleeps while there is nothing to do; as long as anything waits it looks every quarter of a
second, so that callers wake nobody: a wake-up for each call costs the caller more than all the rest.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from threading import current_thread, get_ident
from typing import TYPE_CHECKING

from agent_tracking import forks
from agent_tracking.counters import FlushResult, Stats
from agent_tracking.exceptions import TrackingError
from agent_tracking.flushing import FlushRequest
from agent_tracking.handout import HandOut
from agent_tracking.logs import Reporter
from agent_tracking.settings import read_settings
from agent_tracking.status import StatusWriter, status_folder

if TYPE_CHECKING:
    from agent_tracking.delivery.lane import Lane
    from agent_tracking.elsewhere import Elsewhere
    from agent_tracking.records import ProviderRecord
    from agent_tracking.registry import Registry
    from agent_tracking.spooling import Spooling
    from agent_tracking.tracker import Tracker

__all__ = ["GAP", "Dispatcher"]

#: Seconds between two looks while anything waits: "50 records" means noticed within this time.
GAP = 0.25
#: Seconds between two looks whether batches are done or its thread has ended, at the end of the process.
_LOOK = 0.005
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
        self._spooling: Spooling | None = None
        if self.settings.spool and not self.settings.disabled:
            from agent_tracking.spooling import Spooling

            self._spooling = Spooling(self.settings, tracker.ids.head, self.report, tracker.role)
        self._gap = GAP if self._spooling is None else self._spooling.gap
        self._registry = self._providers()
        self._requests: list[FlushRequest] = []
        self._handing = HandOut(tracker, self.report, lambda: self._registry.lanes, self._spooling)
        #: Records are between the intake and the lanes.
        self._handing_out = False
        self._flushed = _Totals()
        #: Writes the counters to a file, if the settings name a folder.
        self.status = StatusWriter(
            None if self.settings.disabled else status_folder(self.settings), tracker.role
        )
        self._draining_until = tracker.exit_deadline
        self._closing = False
        #: The ident of the thread that runs it, while one does.
        self._runs: int | None = None
        #: What was left in the spool when this ended, by provider.
        self._kept: dict[str, int] = {}

    def _providers(self) -> Registry | Elsewhere:
        """Return the providers; where another process delivers, none is even looked for."""
        if self._spooling is not None and self._spooling.elsewhere:
            from agent_tracking.elsewhere import Elsewhere

            return Elsewhere()
        from agent_tracking.registry import Registry

        return Registry(self._tracker, self.settings, self.report, self._settled, self._spooling)

    # Its own thread.

    def run(self) -> None:
        """Look, sleep, look again, until closed."""
        self._runs = get_ident()
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
        if self._spooling is not None:
            self._spooling.close()
        self._runs = None

    def _sleep(self, busy: bool) -> None:
        tracker = self._tracker
        if not busy:
            tracker.due = 0.0  # from now on a caller has to ring; one that came just before is seen here
            busy = bool(tracker.entries or tracker.requests)
        if busy and tracker.exit_left is None:
            tracker.due = time.time() + _AHEAD
        tracker.bell.wait(self._gap if busy else self._idle())

    def _idle(self) -> float | None:
        """Return the seconds to the next look when there is nothing to do; ``None``: until somebody rings."""
        idle = None if self._spooling is None else self._spooling.idle()
        return min((each for each in (idle, self.status.beat) if each is not None), default=None)

    def look(self) -> bool:
        """Hand out what is in the intake; return whether anything is left to look after."""
        if self._tracker.requests:
            self._requests += self._take_requests()
        lanes = self._commit_and_aim()
        now = time.monotonic()
        busy = False
        for lane in lanes.values():
            lane.enforce(now)
            self._start(lane)
            if lane.due():
                lane.bell.ring()
            busy = busy or lane.unsettled() > 0
        if self._requests:
            self._requests = [request for request in self._requests if not request.settled()]
        busy = busy or bool(self._requests) or (self._spooling is not None and self._spooling.busy())
        moved, under_way = self._progress()
        return self.status.tick(self._shown, idle=not (busy or under_way), tracked=moved) or busy

    def _progress(self) -> tuple[int, bool]:
        """Return a number that changes with all that happens, and whether lanes have something in hand.

        From a spool they take others' records, too: those count for neither ``tracked`` nor ``unsettled()``.
        """
        moved = self._handing.tracked
        if self._spooling is None or self._spooling.elsewhere:
            return moved, False
        lanes = self._registry.stats().values()
        return moved + sum(each.accepted + each.delivered for each in lanes), any(
            each.waiting for each in lanes
        )

    def _commit_and_aim(self) -> Mapping[str, Lane]:
        """Hand out what is in the intake, and tell those who wait until where; return the lanes."""
        self._handing_out = True
        self._handing.run()
        lanes = self._registry.lanes
        for lane in lanes.values():
            lane.look()
        self._handing_out = False
        if self._spooling is None or not self._spooling.unwritten:
            for request in self._requests:
                request.aim(lanes, ending=self._draining_until is not None)
        return lanes

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

    def records(self, *, discover: bool = True) -> tuple[ProviderRecord, ...]:
        """Return every provider's record."""
        if discover:
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
        self._requests += self._take_requests()
        behind = list(self._commit_and_aim().values())
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

    def hurry(self) -> None:
        """Have the lanes deliver what they have, now."""
        for lane in self._registry.lanes.values():
            lane.flush_to(lane.source.end())

    def finish(self, deadline: float) -> None:
        """Wait until no batch from the spool is under way: a later process would send it again."""
        if self._spooling is not None:
            lanes = self._registry.lanes.values()
            while any(lane.delivering for lane in lanes) and time.monotonic() < deadline:
                time.sleep(_LOOK)

    def give_up(self, *, going_on: bool = False) -> None:
        """Drop what is left, count it, say so once; ``going_on``: what is in the intake is not left."""
        left = {}
        for name, lane in self._registry.lanes.items():
            waiting = lane.unsettled() if self._spooling is not None and lane.source.leads() else 0
            left[name] = lane.close("shutdown")
            if waiting > left[name]:
                self._kept[name] = waiting - left[name]
        if not going_on:
            left["no provider yet"] = len(self._tracker.entries)
        if unwritten := self._unwritten():
            left["not written to the spool"] = unwritten
            self._handing.dropped["shutdown"] += unwritten
        self.say_behind(left)

    def say_behind(self, waiting: Mapping[str, int]) -> None:
        """Log what was not delivered in the time for shutting down, by provider."""
        text = ", ".join(f"{name}: {count}" for name, count in waiting.items() if count)
        if text:
            self.report.warn("", "shutdown", f"the time for shutting down was over; not delivered: {text}", 0)

    def fall_silent(self) -> None:
        """Log nothing any more, and no longer count as running: the interpreter ends."""
        self.report.silent = True
        self.status.remove()

    def stop(self) -> None:
        """End the dispatcher's thread; the lanes go on with what they have."""
        self._closing = True
        self._tracker.bell.ring()

    def close(self, deadline: float = 0.0, *, going_on: bool = False) -> None:
        """Stop all threads; what is left is dropped and counted, or stays in the spool.

        Args:
            deadline: until when to wait for batches from the spool that are under way (``time.monotonic``).
            going_on: another dispatcher takes over what is in the intake.
        """
        if self._spooling is not None:
            lanes = list(self._registry.lanes.values())
            for lane in lanes:
                lane.wind_down()
            for lane in lanes:
                if lane.thread is not None and lane.thread is not current_thread():
                    lane.thread.join(max(0.0, deadline - time.monotonic()))
        self.give_up(going_on=going_on)
        self.stop()
        # Nothing is behind any more; who waits for what is still in the intake goes on to wait for that.
        self._tracker.requests.extend([each for each in self._requests if not each.settled()])
        if self._spooling is not None:
            self._leave_spool(self._spooling, deadline)
        self.status.remove()

    def _leave_spool(self, spooling: Spooling, deadline: float) -> None:
        """Have its own thread leave the spool in order, and wait for that: the process may end next."""
        if not self._running():
            spooling.close()
            return
        own = self._runs == get_ident()
        while not own and self._running() and time.monotonic() < deadline:
            time.sleep(_LOOK)

    def _running(self) -> bool:
        return self._runs is not None

    def abandon(self) -> None:
        """Close what a forked child inherited; the parent goes on with it."""
        if self._spooling is not None:
            self._spooling.abandon()

    def _unwritten(self) -> int:
        return 0 if self._spooling is None else len(self._spooling.unwritten)

    def stats(self, *, spool: bool = True) -> Stats:
        """Return the counters of this moment; ``spool=False``: without those for which files are read."""
        tracker = self._tracker
        lost = tracker.losses()
        waiting = len(tracker.entries)
        overflowed = len(tracker.overflowed)
        dropped = Counter(lost) + self._handing.dropped + Counter({"queue-full": overflowed})
        if self._spooling is not None:
            dropped.update(self._spooling.dropped)
        return Stats(
            tracked=self._handing.tracked + waiting + overflowed + sum(lost.values()),
            salvaged=self._handing.salvaged,
            dropped=dict(dropped),
            intake=waiting + self._unwritten(),
            providers=self._registry.stats(),
            spool=self._spooling.stats() if spool and self._spooling is not None else None,
        )

    def _shown(self) -> Stats:
        """Return the counters for the status file: what waits for another process, that one tells."""
        return self.stats(spool=self._spooling is not None and not self._spooling.elsewhere)

    def result(self, request: FlushRequest | None) -> FlushResult:
        """Return what a flush tells its caller, and begin counting for the next one."""
        if problems := self.report.take_problems():
            raise TrackingError("strict mode: " + "; ".join(problems))
        stats = self.stats(spool=False)
        delivered, dropped = self._flushed.since(stats)
        waiting = self._kept
        if request is not None:
            behind = request.behind()
            waiting = self._behind_now(stats) if behind is None else behind
        return FlushResult(delivered=delivered, dropped=dropped, waiting=waiting)

    def _behind_now(self, stats: Stats) -> dict[str, int]:
        """Return what waits, by provider, for a flush that ended before it was told until where."""
        waiting = {name: lane.unsettled() for name, lane in self._registry.lanes.items()}
        waiting["intake"] = stats.intake or int(self._handing_out)
        return {name: count for name, count in waiting.items() if count}


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
