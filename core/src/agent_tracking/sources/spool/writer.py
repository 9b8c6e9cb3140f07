"""Appends groups of records to a segment of this process's own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from itertools import count

from agent_tracking.sources.spool.folder import Folder
from agent_tracking.sources.spool.lines import Header

__all__ = ["Writer"]

#: Seconds between two looks whether the segment is still there: what is written in between to one that
#: somebody removed is gone with it. Right after a sleep a look costs as much as a write of 50 records.
_LOOK = 0.25

_numbers = count()
_last_made = 0


class Writer:
    """One process's segments: the newest is open and locked; that its lock is free tells that it is done.

    A line that was written as a whole is never taken back: somebody may have read it.

    Args:
        folder: where.
        ids: what the message ids of the entries begin with.
        most: bytes after which a new segment is begun; seconds: the same for its age.
        fsync: wait for each group until it would survive a power cut.
        make_room: called with the bytes that a new segment may come to need, under the folder's lock; raises
            if there is no room.
    """

    def __init__(
        self,
        folder: Folder,
        ids: str,
        *,
        most: int,
        seconds: float,
        fsync: bool = False,
        make_room: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self._folder = folder
        self._files = folder.files
        self._ids = ids
        self._most = most
        self._seconds = seconds
        self._fsync = fsync
        self._make_room = make_room
        self._fd: int | None = None
        self._begun = 0.0
        self._looks = 0.0  # when the next look is due
        #: The name of the open segment, the bytes in it, and those before the group that was written last.
        self.name = ""
        self.offset = 0
        self.start = 0

    def append(self, lines: Sequence[bytes]) -> int:
        """Write the lines; return how many, from the first, are in the file as a whole.

        Raises:
            OSError: none was written; the next call begins a new segment if need be.
        """
        data = b"".join(lines)
        if self._fd is None or self.offset + len(data) > self._most or self._is_over():
            self._begin(len(data))
        if self._fd is None:  # pragma: no cover  _begin raises
            return 0
        self.start = start = self.offset
        try:
            self._write(self._fd, data)
            if self._fsync:
                self._files.sync(self._fd)
        except OSError:
            written = self._whole(lines, start)
            if not written:
                raise
            return written
        return len(lines)

    def _is_over(self) -> bool:
        """Return whether the segment is old enough, or gone: that is looked at now and then."""
        now = time.monotonic()
        if now - self._begun > self._seconds:
            return True
        if now < self._looks:
            return False
        self._looks = now + _LOOK
        try:
            self._files.stat(self._folder.file(self.name))
        except OSError:
            return True
        return False

    def _write(self, fd: int, data: bytes) -> None:
        left: bytes | memoryview = data
        while taken := self._files.write(fd, left):
            self.offset += taken
            if taken == len(left):
                return
            left = memoryview(left)[taken:]
        raise OSError("nothing more is taken")

    def _whole(self, lines: Sequence[bytes], start: int) -> int:
        """After a failure: return how many lines are in the file, cut off the one that is not; or seal it."""
        end, whole = start, 0
        while whole < len(lines) and end + len(lines[whole]) <= self.offset:
            end += len(lines[whole])
            whole += 1
        failed = whole == len(lines)  # they are there, but perhaps not on the disk
        if not failed and self._fd is not None:
            try:
                self._files.cut(self._fd, end)
                self.offset = end
            except OSError:
                failed = True
        if failed:
            self.seal()
            return 0 if whole == len(lines) else whole
        return whole

    def _begin(self, size: int) -> None:
        self.seal()
        with self._folder.exclusive():
            header = Header(
                ids=self._ids, pid=os.getpid(), host=socket.gethostname(), created=time.time()
            ).line()
            self._make_room(max(self._most, len(header) + size))
            name = _name()
            fresh = self._folder.file(f"{name}.new")
            fd = self._files.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                if not self._files.lock(fd):
                    raise OSError(f"{fresh} is locked by another process")
                self.offset = 0
                self._write(fd, header)
                self._files.rename(fresh, self._folder.file(name))
                if self._fsync:
                    self._files.sync_folder(self._folder.path)
            except OSError:
                self._files.close(fd)
                self._files.remove(fresh)
                raise
        self._fd, self.name, self._begun = fd, name, time.monotonic()

    def seal(self) -> None:
        """Write no more to the open segment."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._files.close(fd)


def _name() -> str:
    """Return the name of a new segment, which sorts behind all that this process has made."""
    global _last_made  # noqa: PLW0603
    _last_made = max(_last_made + 1, time.time_ns() // 1_000_000)
    return f"{_last_made:013d}-{os.getpid()}-{next(_numbers)}{os.urandom(2).hex()}.seg"
