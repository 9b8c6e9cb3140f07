"""Finds the record that kills the process: what the hooks were given when processes died is tried one by one.

A batch that a process died of while it was handed to the hooks is handed over record by record the next time;
so the second death names the record. A death at any other moment, such as a kill while a request is in
flight, leaves no trace: the note is cleared before that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agent_tracking.sources.spool.position import Range, Trial, TrialFile
from agent_tracking.sources.spool.segments import Item

__all__ = ["RANGES", "Suspicion"]

#: The most segments that one batch may be taken from: so many ranges fit into the file.
RANGES = 8


class Suspicion:
    """What one provider's hooks are being given, and what is suspected."""

    def __init__(self, file: TrialFile) -> None:
        self._file = file
        left = file.load() or Trial()
        self._suspect, self._tries = left.suspect, left.tries
        #: Records that are handed over one by one.
        self._careful = list(left.ranges) + ([left.suspect] if left.suspect is not None else [])

    def batch(self, items: Sequence[Item]) -> Collection[int]:
        """Note a batch; return the ``id()`` of each record that has to be noted by itself."""
        careful: set[int] = set()
        if self._careful:
            careful = {id(item.record) for item in items if self._is_careful(item)}
            items = [item for item in items if id(item.record) not in careful]
        self._write(Trial(_ranges(items), self._suspect, self._tries))
        return careful

    def one(self, item: Item, tries: int) -> bool:
        """Note one record; false if so many processes have died of it already."""
        name = item.cursor.segment.name
        if self._suspect is not None and self._suspect.holds(name, item.start):
            if self._tries >= tries:
                self._suspect, self._tries = None, 0
                return False
            self._tries += 1
        else:
            self._suspect, self._tries = Range(name, item.start, item.end), 1
        self._write(Trial([], self._suspect, self._tries, alone=True))
        return True

    def over(self, items: Sequence[Item]) -> None:
        """Note that the hooks have got the batch."""
        self.clear()
        if not self._careful:
            return
        ends: dict[str, int] = {}
        for item in items:
            name = item.cursor.segment.name
            ends[name] = max(item.end, ends.get(name, 0))
        for careful in self._careful:
            careful.start = max(careful.start, ends.get(careful.segment, 0))
        self._careful = [careful for careful in self._careful if careful.start < careful.end]
        if self._suspect is not None and ends.get(self._suspect.segment, 0) >= self._suspect.end:
            self._suspect, self._tries = None, 0

    def clear(self) -> None:
        """Note that nothing is being handed over."""
        self._file.clear()

    def close(self) -> None:
        """Leave nothing behind."""
        self._file.clear()
        self._file.close()

    def _is_careful(self, item: Item) -> bool:
        name = item.cursor.segment.name
        return any(careful.holds(name, item.start) for careful in self._careful)

    def _write(self, trial: Trial) -> None:
        self._file.write(trial)


def _ranges(items: Sequence[Item]) -> list[Range]:
    """Return where the items stand; those of one segment follow each other in order."""
    ranges: list[Range] = []
    cursor = None
    for item in items:
        if item.cursor is not cursor:
            cursor = item.cursor
            ranges.append(Range(cursor.segment.name, item.start, item.end))
        ranges[-1].end = item.end
    return ranges
