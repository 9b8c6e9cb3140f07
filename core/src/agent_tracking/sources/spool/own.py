"""What this process put into a source, and how much of it is settled, whoever delivers it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Own"]

#: The most marks that are kept; with more, every other is forgotten: a flush waits a little longer then.
_MOST = 1024


class _Mark(NamedTuple):
    """Records between two offsets of a place (a segment, or memory), and how many there are up to the end."""

    total: int
    place: str
    start: int
    end: int


class Own:
    """Turns offsets into one count that only grows.

    Args:
        reached: returns how far a place is settled.
    """

    def __init__(self, reached: Callable[[str], float]) -> None:
        self._reached = reached
        self._marks: deque[_Mark] = deque()
        self._passed = 0
        self._end = 0

    def add(self, count: int, place: str, start: int, end: int) -> None:
        """Note that ``count`` records more were put into a place, between two offsets."""
        self._end += count
        self._marks.append(_Mark(self._end, place, start, end))
        if len(self._marks) > _MOST:
            newest = self._marks.pop()
            self._marks = deque([*list(self._marks)[1::2], newest])

    def end(self) -> int:
        """Return how many were put in."""
        return self._end

    def settled(self) -> int:
        """Return how many, from the first, are settled; within a group about so many."""
        while self._marks:
            mark = self._marks[0]
            reached = self._reached(mark.place)
            if reached < mark.end:
                return self._within(mark, reached)
            self._passed = self._marks.popleft().total
        return self._end

    def _within(self, mark: _Mark, reached: float) -> int:
        part = max(0.0, reached - mark.start) / max(1, mark.end - mark.start)
        count = mark.total - self._passed
        return self._passed + min(count - 1, int(part * count))
