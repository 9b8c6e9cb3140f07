"""The spool as the source of one lane: what all processes wrote, read by the one that delivers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from threading import RLock
from typing import Protocol

from agent_tracking.events import Record
from agent_tracking.sources.memory import MemorySource
from agent_tracking.sources.spool.dead import DeadLetters
from agent_tracking.sources.spool.folder import Folder
from agent_tracking.sources.spool.housekeeping import take_lost
from agent_tracking.sources.spool.leader import Leadership
from agent_tracking.sources.spool.own import Own
from agent_tracking.sources.spool.places import Places
from agent_tracking.sources.spool.position import NewerError, TrialFile
from agent_tracking.sources.spool.reading import Reading
from agent_tracking.sources.spool.segments import Index, Item
from agent_tracking.sources.spool.trial import Suspicion

__all__ = ["SpoolSource", "Tally"]

#: Seconds between two tries to become the one that delivers, and between two checks that it still is.
LEAD_EVERY = 1.0
_MEMORY = ""
_MOST_NOTES = 100
#: Batches that are remembered until the next look; beyond that a full spool may count a record twice.
_MOST_RECENT = 32


class Tally(Protocol):
    """Counts a lane's records: :class:`agent_tracking.counters.LaneCounters`."""

    def accept(self, count: int) -> None:
        """Count records that the lane was given."""

    def drop(self, reason: str, count: int) -> None:
        """Count records that were given up."""


class SpoolSource:
    """Reads for one provider, if this process is the one that delivers for it.

    What could not be written to the disk comes through ``put`` and waits in memory.

    Args:
        provider: its name.
        folder, index: the spool's.
        memory: for what could not be written.
        tally: counts what is taken and what was lost.
        role: for display.
        warn: told a kind, a text and a count for the log.
    """

    durable = True

    def __init__(
        self,
        provider: str,
        folder: Folder,
        index: Index,
        memory: MemorySource,
        tally: Tally,
        *,
        role: str = "app",
        warn: Callable[[str, str, int], None] = lambda _kind, _text, _count: None,
    ) -> None:
        self.provider = provider
        #: The folder knows the provider.
        self.joined = False
        self._folder = folder
        self._index = index
        self._memory = memory
        self._tally = tally
        self._warn = warn
        self._lock = RLock()
        #: What is to be logged once the lock is free: handlers of the application may ask for numbers.
        self._notes: list[tuple[str, str, int]] = []
        self._leadership = Leadership(folder, folder.of(provider, "lock"), role)
        self.places = Places(provider, folder, index)
        self._own = Own(self._reached)
        self._dead = DeadLetters(folder)
        self._reading = Reading(provider, folder, index, self.places, self._skip, self._trouble)
        self._suspicion: Suspicion | None = None
        self._lease: list[Item] = []
        #: Batches since the last look: what becomes of their records is counted, whoever has removed them.
        self._recent: deque[list[Item]] = deque(maxlen=_MOST_RECENT)
        self._from_memory = False
        self._turn = 0
        self._urgent = False
        self._pressed_at = 0
        self._next_check = 0.0
        self._closed = False

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Hold the lock; report what the disk refused; write to the log when the lock is free again."""
        with self._lock:
            try:
                yield
            except OSError as error:
                self._trouble(error)
            except NewerError:
                self._note("newer", "a newer version of agent-tracking has delivered for it: left alone", 0)
            notes, self._notes = self._notes, []
        for kind, text, count in notes:
            self._warn(kind, text, count)

    # What this process put in.

    def wrote(self, count: int, segment: str, start: int, end: int) -> None:
        """Note that this process wrote records to a segment, between two offsets."""
        with self._lock:
            self._own.add(count, segment, start, end)

    def put(self, records: Sequence[Record], size: int) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            start = self._memory.end()
            dropped = self._memory.put(records, size)
            self._own.add(len(records), _MEMORY, start, self._memory.end())
            return dropped

    def end(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        return self._own.end()

    def settled(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            return self._own.settled()

    def _reached(self, place: str) -> float:
        if place == _MEMORY:
            return self._memory.settled()
        if place not in self._index.segments:
            return float("inf")
        return self._reading.offset(place, self._lease)

    def leads(self) -> bool:
        """See :class:`agent_tracking.sources.Source`."""
        return self._leadership.held or self._memory.end() > self._memory.settled()

    def hurry(self) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._guarded():
            if not self._leadership.held and not self._closed:
                self._folder.files.touch(self._folder.of(self.provider, "flush"))

    # What the lane takes out.

    def look(self) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._guarded():
            if self._closed or not self.joined:
                return
            now = time.monotonic()
            check = now >= self._next_check
            if check:
                self._next_check = now + LEAD_EVERY
            if self._leadership.held:
                if check and not self._leadership.still():
                    self._resign()
                    return
            elif not check or not self._lead():
                self.places.refresh()
                return
            self._take_over_losses()
            self._look_for_press()
            self._reading.forget_gone(self._lease)
            self._reading.look(check=check)
            if not self.waiting():
                self._urgent = False
            self._save(touch=check)

    @property
    def leading(self) -> bool:
        """Whether this process is the one that delivers from the folder."""
        return self._leadership.held

    def join(self, *, from_the_start: bool) -> None:
        """Make the provider known in the folder; under its lock."""
        with self._lock:
            self.places.join(from_the_start=from_the_start)
            self.joined = True

    def _lead(self) -> bool:
        """Try to become the one that delivers; return whether that is so now."""
        if not self._leadership.take():
            return False
        try:
            self._index.scan(force=True)
            self.places.load()
            self._suspicion = Suspicion(TrialFile(self._folder, self._folder.of(self.provider, "try")))
        except (OSError, NewerError):
            self._leadership.give_up()
            raise
        self._pressed_at = self._press_time()
        self._urgent = True  # whatever is there has waited for long
        return True

    def _resign(self) -> None:
        self._reading.close()
        self.places.close()
        if self._suspicion is not None:
            self._suspicion.close()
            self._suspicion = None
        self._leadership.give_up()

    def take(self, records: int, size: int) -> list[Record]:
        """See :class:`agent_tracking.sources.Source`."""
        with self._guarded():
            self._turn += 1
            memory, ahead = self._memory.waiting(), self._reading.ahead()
            self._from_memory = memory > 0 and (self._turn % 2 == 0 or not ahead)
            self._give_back(self._lease)  # left by a lane that went wrong: its position must not pass them
            if self._from_memory:
                return self._memory.take(records, size)
            if not self._closed and self._leadership.held:
                self._reading.take(records, size, self._lease)
        self._tally.accept(len(self._lease))
        return [item.record for item in self._lease]

    def _skip(self, reason: str) -> None:
        self._tally.accept(1)
        self._tally.drop(reason, 1)
        self._note(reason, f"a record of the spool cannot be used: {reason}", 1)

    def settle(self, count: int, left: Sequence[Record] = ()) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._guarded():  # what cannot be saved is saved at the next look
            if self._from_memory:
                self._memory.settle(count, left)
                return
            keep = {id(record) for record in left}
            self._recent.append(self._lease)
            self._lease = [item for item in self._lease if id(item.record) in keep]
            if not self._closed and self._leadership.held:
                self._save()

    def _save(self, *, touch: bool = False) -> None:
        self._reading.settle(self._lease)
        self.places.save(touch=touch)

    def release(self, records: Sequence[Record]) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            if self._from_memory:
                self._memory.release(records)
                return
            given = {id(record) for record in records}
            self._give_back([item for item in self._lease if id(item.record) in given])

    def _give_back(self, items: Sequence[Item]) -> None:
        gone = self._reading.give_back(items)
        if gone:
            self._recent.append(
                [item for item in items if item.cursor.segment.name not in self._index.segments]
            )
        self._tally.accept(gone - len(items))
        self._tally.drop("queue-full", gone)  # not counted before, since a request carried them
        self._lease = []

    def waiting(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            return self._memory.waiting() + self._reading.waiting()

    def since(self) -> float | None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            times = self._reading.seen()
        memory = self._memory.since()
        return min(times if memory is None else [*times, memory], default=None)

    def urgent(self) -> bool:
        """See :class:`agent_tracking.sources.Source`."""
        return self._urgent

    def close(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        with self._guarded():
            self._closed = True
            self._resign()
        return 0 if self._from_memory else len(self._lease)

    # What survives the process.

    def hand_over(self, records: Sequence[Record]) -> Collection[int]:  # noqa: ARG002
        """See :class:`agent_tracking.sources.Source`."""
        with self._guarded():
            if not self._from_memory and self._suspicion is not None:
                return self._suspicion.batch(self._lease)
        return ()

    def hand_over_one(self, record: Record, tries: int) -> bool:
        """See :class:`agent_tracking.sources.Source`."""
        with self._guarded():
            item = next((item for item in self._lease if item.record is record), None)
            if item is not None and self._suspicion is not None:
                return self._suspicion.one(item, tries)
        return True

    def handed_over(self) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._guarded():
            if self._suspicion is not None:
                self._suspicion.over(self._lease)

    def excuse(self) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._guarded():
            if self._suspicion is not None:
                self._suspicion.clear()

    def set_aside(self, record: Record, reason: str) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        try:
            gone = self._dead.add(self.provider, record, reason)
        except OSError as error:
            self._warn("dead", f"a record cannot be set aside: {error.strerror or error}", 1)
        else:
            if gone:
                self._warn("dead", "of the records set aside the oldest are removed to make room", gone)

    # What others did.

    def _take_over_losses(self) -> None:
        for lost in take_lost(self._folder, self._folder.of(self.provider, "lost")):
            # Those that a request carries, or has carried meanwhile, are counted by what becomes of it.
            carried = len(
                {
                    item.start
                    for item in chain(self._lease, *self._recent)
                    if item.start >= lost.start and item.cursor.segment.name == lost.segment
                }
            )
            count = max(0, lost.count - carried)
            self._tally.accept(count)
            self._tally.drop(lost.reason, count)
            self._note(lost.reason, f"records of the spool dropped: {lost.reason}", count)
        self._recent.clear()

    def _press_time(self) -> int:
        try:
            return self._folder.files.stat(self._folder.of(self.provider, "flush")).st_mtime_ns
        except OSError:
            return 0

    def _look_for_press(self) -> None:
        pressed = self._press_time()
        if pressed != self._pressed_at:
            self._pressed_at, self._urgent = pressed, True
            self._index.scan(force=True)  # what was written before is seen by now

    def _note(self, kind: str, text: str, count: int) -> None:
        if len(self._notes) < _MOST_NOTES:
            self._notes.append((kind, text, count))

    def _trouble(self, error: OSError) -> None:
        self._note("spool", f"the spool cannot be used as it should: {error.strerror or error}", 0)
