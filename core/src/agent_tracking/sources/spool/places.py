"""One provider's offsets by segment: in memory where this process delivers, else as the file says."""

from __future__ import annotations

import os
import time

from agent_tracking.sources.spool.folder import Folder
from agent_tracking.sources.spool.position import Position, PositionFile, load_position
from agent_tracking.sources.spool.segments import Index, Segment

__all__ = ["Places"]

#: Seconds after which the file of a provider that has nothing to do is touched, so that it counts as alive.
_ALIVE = 30.0
_CHUNK = 64 * 1024


class Places:
    """How far a provider is.

    Attributes:
        offsets: by name of a segment; one that is not in it is not begun.
        changed: they differ from what the file says.
        known: the provider has a file.
    """

    def __init__(self, provider: str, folder: Folder, index: Index) -> None:
        self._folder = folder
        self._index = index
        self._path = folder.of(provider, "pos")
        self._file = PositionFile(folder, self._path)
        self._position = Position(provider=provider)
        self._touched = 0.0
        self._stamp: object = None
        self.offsets: dict[str, int] = {}
        self.changed = False
        self.known = False

    def join(self, *, from_the_start: bool) -> None:
        """Make the file if there is none: a new provider begins at the present end. Under the lock."""
        if not os.path.lexists(self._path):
            if not self.known and not from_the_start:
                self._index.scan(force=True)
                self.offsets = {segment.name: self._last_end(segment) for segment in self._index.readable()}
            self._position.joined = self._position.joined or time.time()
            self.changed = True
            self.save()
        self.known = True

    def load(self) -> None:
        """Read the file, to go on from there; from what is known here, if it is damaged or gone.

        That is from the start, if nothing is known: rather twice than never.
        """
        position = load_position(self._folder, self._path)
        if position is None:
            self.changed = True
            return
        self.offsets, self._position = position.segments, position

    def move(self, name: str, offset: int) -> None:
        """Set how far a segment is."""
        if self.offsets.get(name) != offset:
            self.offsets[name] = offset
            self.changed = True

    def skip(self) -> None:
        """Go to the present end, whatever waits before it."""
        for segment in self._index.readable():
            self.move(segment.name, segment.size if segment.sealed else self._last_end(segment))

    def refresh(self) -> None:
        """Read the file again if another process has changed it."""
        try:
            status = self._folder.files.stat(self._path)
        except FileNotFoundError:
            return
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._stamp = stamp
            position = load_position(self._folder, self._path)
            if position is not None:
                self.offsets = position.segments

    def save(self, *, touch: bool = False) -> None:
        """Write the file if anything changed; ``touch``: see that it is there, and looks alive."""
        now = time.monotonic()
        if touch and not self._file.is_there():
            self._file.close()
            self.changed = True
        if self.changed:
            there = self._index.segments
            if any(name not in there for name in self.offsets):
                self.offsets = {name: offset for name, offset in self.offsets.items() if name in there}
            self._position.segments = self.offsets
            self._file.save(self._position)
            self.changed, self._touched = False, now
        elif touch and now - self._touched > _ALIVE:
            self._file.touch()
            self._touched = now

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _last_end(self, segment: Segment) -> int:
        """Return the offset behind a segment's last whole line."""
        files = self._folder.files
        try:
            fd = files.open(segment.path, os.O_RDONLY)
        except FileNotFoundError:
            return 0
        try:
            end = files.fstat(fd).st_size
            while end > 0:
                begin = max(0, end - _CHUNK)
                chunk = files.read(fd, end - begin, begin)
                found = chunk.rfind(b"\n")
                if found >= 0:
                    return begin + found + 1
                end = begin
            return 0
        finally:
            files.close(fd)
