"""What keeps the folder within its bounds: segments that are done go, and the oldest when there is no room.

All of it happens under the folder's lock, so that each record that is dropped is counted once for each
provider, in ``<provider>.lost``, from where whoever delivers for it takes over the number.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping

import msgspec

from agent_tracking.sources.spool.folder import Folder, SpoolError
from agent_tracking.sources.spool.position import NewerError, load_position
from agent_tracking.sources.spool.segments import Index, Segment, header_of

__all__ = ["Housekeeper", "Lost", "take_lost"]

#: Seconds between two rounds.
_EVERY = 1.0
#: Seconds after which a file that was never given its name is left from a process that died.
_ORPHANED = 60.0
#: A provider's position is removed by who has delivered for so long itself, in seconds, at most.
_SETTLED_IN = 3600.0
_CHUNK = 1 << 20


class Lost(msgspec.Struct, frozen=True):
    """Records of one segment that a provider will not get: from the byte ``start`` on, how many, and why."""

    segment: str
    start: int
    count: int
    reason: str


class Housekeeper:
    """Removes segments.

    Args:
        folder, index: whose.
        most: the most bytes of all segments together.
        reserve: the bytes that a segment which somebody writes to may come to have.
        age: seconds after which records are given up.
        leading: by file name of a provider, its offsets by segment, where this process delivers.
        dropped: told a reason, how many records were dropped, and whether providers will count them.
    """

    def __init__(
        self,
        folder: Folder,
        index: Index,
        *,
        most: int,
        reserve: int,
        age: float,
        leading: Callable[[], Mapping[str, Mapping[str, int]]],
        dropped: Callable[[str, int, bool], None],
    ) -> None:
        self._folder = folder
        self._index = index
        self._most = most
        self._reserve = reserve
        self._age = age
        self._leading = leading
        self._dropped = dropped
        self._next = 0.0
        self._since = time.monotonic()

    def make_room(self, size: int) -> None:
        """Remove the oldest segments until ``size`` more bytes have room; under the folder's lock.

        Raises:
            SpoolError: everything that could go is gone.
        """
        self._index.scan(force=True)
        if self._bytes() + size <= self._most:
            return
        if size > self._most:
            raise self._full()
        self._index.seal()
        positions = self._positions()
        for segment in self._index.readable():
            if self._bytes() + size <= self._most:
                return
            if segment.sealed:
                self._drop(segment, "queue-full", positions)
        if self._bytes() + size > self._most:
            raise self._full()

    def _full(self) -> SpoolError:
        return SpoolError(
            errno.ENOSPC, "its bound is reached (AGENT_TRACKING_SPOOL_BYTES)", self._folder.path
        )

    def tidy(self, *, force: bool = False) -> None:
        """Remove what is settled and what is too old; now and then. Called by who delivers."""
        now = time.monotonic()
        if now < self._next and not force:
            return
        self._next = now + _EVERY
        if not any(self._may_go(segment) for segment in self._index.readable()):
            self._remove_orphans()
            return
        with self._folder.exclusive():
            positions = self._positions()
            for segment in self._index.readable():
                if not segment.sealed:
                    continue
                if positions and all(
                    offsets.get(segment.name, 0) >= segment.size for offsets in positions.values()
                ):
                    self._remove(segment)
                elif self._is_old(segment):
                    self._drop(segment, "expired", positions)
        self._remove_orphans()

    def _bytes(self) -> int:
        return sum(
            segment.size if segment.sealed else max(segment.size, self._reserve)
            for segment in self._index.readable()
        )

    def _may_go(self, segment: Segment) -> bool:
        return segment.sealed and (
            self._is_old(segment)
            or all(offsets.get(segment.name, 0) >= segment.size for offsets in self._leading().values())
        )

    def _is_old(self, segment: Segment) -> bool:
        return time.time() - segment.written > self._age

    def _positions(self) -> dict[str, Mapping[str, int]]:
        """Return each known provider's offsets by segment."""
        found: dict[str, Mapping[str, int]] = {}
        for name in self._folder.providers():
            try:
                position = load_position(self._folder, self._folder.file(f"{name}.pos"))
            except NewerError:
                found[name] = {}
                continue
            found[name] = {} if position is None else position.segments
        found.update(self._leading())
        return found

    def _drop(self, segment: Segment, reason: str, positions: Mapping[str, Mapping[str, int]]) -> None:
        """Remove a segment, and count what each provider has not settled of it."""
        starts = {name: offsets.get(segment.name, 0) for name, offsets in positions.items()}
        counts = self._lines(segment, {"": 0, **starts})
        noted = bool(starts)
        for name, start in starts.items():
            if counts[name]:
                lost = Lost(segment.name, start, counts[name], reason)
                try:
                    self._folder.append(self._folder.file(f"{name}.lost"), msgspec.json.encode(lost) + b"\n")
                except OSError:  # the disk is full: all the more must the segment go
                    noted = False
        self._remove(segment)
        count = max((counts[name] for name in starts), default=counts[""])
        if count:
            self._dropped(reason, count, noted)

    def _lines(self, segment: Segment, starts: Mapping[str, int]) -> dict[str, int]:
        """Return how many lines there are from each start on."""
        files = self._folder.files
        first = header_of(files, segment).size
        begins = {name: max(start, first) for name, start in starts.items()}
        counts = dict.fromkeys(starts, 0)
        offset = min(begins.values())
        fd = files.open(segment.path, os.O_RDONLY)
        try:
            while chunk := files.read(fd, _CHUNK, offset):
                for name, begin in begins.items():
                    counts[name] += chunk.count(b"\n", max(0, begin - offset))
                offset += len(chunk)
        finally:
            files.close(fd)
        return counts

    def _remove(self, segment: Segment) -> None:
        self._folder.files.remove(segment.path)
        self._index.segments = {
            name: known for name, known in self._index.segments.items() if known is not segment
        }

    def _remove_orphans(self) -> None:
        """Remove what a process that died left half made, and what belongs to nobody any more."""
        files, now = self._folder.files, time.time()
        for name in self._folder.names(".seg.new"):
            path = self._folder.file(name)
            try:
                if now - files.stat(path).st_mtime > _ORPHANED:
                    files.remove(path)
            except FileNotFoundError:  # it has its name now
                continue
        if time.monotonic() - self._since < min(self._age, _SETTLED_IN):
            return
        leading = self._leading()
        for name in self._folder.providers():
            age = now - files.stat(self._folder.file(f"{name}.pos")).st_mtime
            if name not in leading and age > self._age:
                for kind in ("pos", "try", "lost", "flush", "lock"):
                    files.remove(self._folder.file(f"{name}.{kind}"))


def take_lost(folder: Folder, path: str) -> list[Lost]:
    """Return what was counted in a provider's file, and empty it."""
    try:
        if not folder.files.stat(path).st_size:
            return []
    except FileNotFoundError:
        return []
    with folder.exclusive():
        data = folder.read(path)
        folder.files.remove(path)
    found = []
    for line in data.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Lost))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return found
