"""Which segments the folder holds; and a segment's lines, read in order."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

import msgspec

from agent_tracking.events import Record
from agent_tracking.names import IdPrefix
from agent_tracking.sources.spool.files import Files
from agent_tracking.sources.spool.folder import Folder
from agent_tracking.sources.spool.lines import LINE_BYTES, VERSION, Header, read_header
from agent_tracking.sources.spool.parsed import Kept, Parsed, parse

__all__ = ["Cursor", "Index", "Item", "Segment", "header_of", "is_sealed"]

#: Bytes read at once: what is read ahead is about as much.
CHUNK = 128 * 1024
#: Seconds between two looks into the folder at least.
_EVERY = 0.08


class Segment:
    """One file: ``sealed`` once nobody writes to it any more; ``foreign`` if a newer version wrote it.

    ``first`` is where its first record begins.
    """

    __slots__ = ("created", "first", "foreign", "name", "path", "sealed", "size", "written")

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.size = 0
        self.first = 0
        self.written = 0.0
        self.sealed = False
        self.foreign = False
        milliseconds = name.partition("-")[0]
        self.created = int(milliseconds) / 1000 if milliseconds.isdigit() and len(milliseconds) < 16 else 0.0


class Index:
    """The segments of a folder, oldest first.

    ``segments`` is replaced as a whole, so it may be read on any thread; ``scan`` belongs to one.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._next = 0.0
        self.segments: dict[str, Segment] = {}
        #: What was parsed last, for all who read here.
        self.kept = Kept()
        #: Names of segments that a newer version wrote.
        self.foreign: set[str] = set()

    def add(self, name: str) -> Segment:
        """Note a segment that was just made."""
        segment = self._new(name)
        self.segments = {**self.segments, name: segment}
        return segment

    def scan(self, *, force: bool = False) -> None:
        """Look which there are, and how large; not more often than makes sense unless forced."""
        now = time.monotonic()
        if now < self._next and not force:
            return
        self._next = now + _EVERY
        known = self.segments
        found = {name: known.get(name) or self._new(name) for name in self._folder.names(".seg")}
        for name, segment in list(found.items()):
            if segment.sealed:
                continue
            try:
                status = self._folder.files.stat(segment.path)
            except OSError:  # gone meanwhile
                del found[name]
                continue
            segment.size, segment.written = status.st_size, status.st_mtime
        self.segments = found

    def _new(self, name: str) -> Segment:
        segment = Segment(name, self._folder.file(name))
        try:
            header = header_of(self._folder.files, segment)
        except OSError:
            return segment
        segment.first, segment.foreign = header.size, header.version > VERSION
        if segment.foreign:
            self.foreign.add(name)
        return segment

    def readable(self) -> list[Segment]:
        """Return those that this version can read, oldest first."""
        return [segment for segment in self.segments.values() if not segment.foreign]

    def seal(self) -> None:
        """Find out of each segment whether somebody still writes to it."""
        for segment in self.segments.values():
            if segment.sealed:
                continue
            try:
                fd = self._folder.files.open(segment.path, os.O_RDONLY)
            except OSError:
                continue
            try:
                is_sealed(self._folder.files, fd, segment)
            finally:
                self._folder.files.close(fd)


def header_of(files: Files, segment: Segment) -> Header:
    """Return a segment's header; ``OSError`` if it cannot be read."""
    fd = files.open(segment.path, os.O_RDONLY)
    try:
        return read_header(files.read(fd, 4096, 0), segment.name)
    finally:
        files.close(fd)


def is_sealed(files: Files, fd: int, segment: Segment) -> bool:
    """Return whether nobody writes to the segment any more, and how large it has become by then."""
    if not segment.sealed and files.lock(fd, shared=True):
        files.unlock(fd)
        status = files.fstat(fd)
        segment.size, segment.written = status.st_size, status.st_mtime
        segment.sealed = True
    return segment.sealed


class Item(msgspec.Struct, gc=False):
    """One record that was read: where it stands, and when it was seen (``time.monotonic``)."""

    cursor: Cursor
    start: int
    end: int
    record: Record
    seen: float


class Cursor:
    """Reads one segment for one provider.

    Attributes:
        settled: the offset up to which all is settled.
        read: the offset up to which lines were read.
        items: what was read and not taken yet.
        ended: nothing more will come.
    """

    def __init__(
        self, files: Files, segment: Segment, offset: int, provider: str, kept: Kept | None = None
    ) -> None:
        self._files = files
        self._kept = kept or Kept()
        self._provider = provider
        self._fd = files.open(segment.path, os.O_RDONLY)
        self.segment = segment
        self.items: deque[Item] = deque()
        self.ended = False
        header = read_header(files.read(self._fd, 4096, 0), segment.name)
        self._ids = IdPrefix(header.ids)
        self.settled = offset
        self.read = max(offset, header.size)

    def close(self) -> None:
        """Close the file."""
        self._files.close(self._fd)
        self.items.clear()  # they know this cursor: a ring that nobody would find

    def fill(self, skipped: Callable[[str], None]) -> bool:
        """Read the next lines into ``items``; return whether there were any lines.

        Args:
            skipped: told the reason for each line that holds no usable record.
        """
        name = self.segment.name
        if (piece := self._kept.get(name, self.read)) is not None:
            self._add(piece, skipped)
            return True
        size = CHUNK
        while True:
            chunk = self._files.read(self._fd, size, self.read)
            end = chunk.rfind(b"\n") + 1
            if end:
                piece = parse(chunk[:end], self.read, self._ids)
                self._kept.put(name, self.read, piece)
                self._add(piece, skipped)
                return True
            if len(chunk) < size:
                return self._at_end(len(chunk), skipped)
            if size >= LINE_BYTES:  # no line is that long
                skipped("corrupt")
                self.read += len(chunk)
                return True
            size = min(size * 4, LINE_BYTES)

    def _at_end(self, rest: int, skipped: Callable[[str], None]) -> bool:
        """Return whether more was written meanwhile; what a dead writer left unfinished is skipped."""
        was_sealed = self.segment.sealed
        if not is_sealed(self._files, self._fd, self.segment):
            return False
        if not was_sealed and self.segment.size > self.read + rest:
            return self.fill(skipped)
        if self.ended:
            return False
        if rest:
            skipped("corrupt")
        self.read += rest
        self.ended = True
        return False

    def _add(self, piece: Parsed, skipped: Callable[[str], None]) -> None:
        """Append the records of a piece that begins here."""
        start = self.read
        now = time.monotonic()
        provider, items = self._provider, self.items
        for end, record in zip(piece.ends, piece.records, strict=True):
            if isinstance(record, str):
                skipped(record)
            elif (record.only is None and not record.never) or record.goes_to(provider):
                items.append(Item(self, start, end, record, now))
            start = end
        self.read = start

    def position(self, leased: int | None) -> int:
        """Return the offset before which all is settled, given the start of the first leased record."""
        if leased is not None:
            return leased
        return self.items[0].start if self.items else self.read
