"""How far a provider's delivery is, in each segment; and what was being handed to its hooks.

Both are small files that survive the process at any moment: each is written in place, with a checksum.
"""

from __future__ import annotations

import os
from zlib import crc32

import msgspec

from agent_tracking.sources.spool.folder import Folder

__all__ = ["NewerError", "Position", "PositionFile", "Range", "Trial", "TrialFile", "load_position"]

_VERSION = 1
_TRIAL_BYTES = 1024
_HALF_BYTES = 4096


class NewerError(Exception):
    """A newer version of agent-tracking wrote this."""


class Position(msgspec.Struct, kw_only=True):
    """Where everything before is settled, by segment; a segment that is not named is not begun.

    ``joined`` is when the provider came, in seconds since 1970; ``turn`` grows each time it is written.
    """

    provider: str
    joined: float = 0.0
    segments: dict[str, int] = {}
    turn: int = 0
    version: int = _VERSION


class _Version(msgspec.Struct):
    version: int = _VERSION


def load_position(folder: Folder, path: str) -> Position | None:
    """Return what a file holds; ``None`` if there is none, or it is damaged.

    Raises:
        NewerError: its version is a newer one.
        OSError: it cannot be read.
    """
    data = folder.read(path)
    half = len(data) // 2
    found = [each for each in map(_position, (data[:half], data[half:])) if each is not None]
    return max(found, key=lambda each: each.turn, default=None)


def _position(half: bytes) -> Position | None:
    text = _checked(half)
    if text is None:
        return None
    try:
        if msgspec.json.decode(text, type=_Version).version > _VERSION:
            raise NewerError
        position = msgspec.json.decode(text, type=Position)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return position if min(position.segments.values(), default=0) >= 0 else None


class PositionFile:
    """Writes a provider's position, into two halves of one file by turns: so one of them is always whole.

    That is in place: it needs no room on a full disk, and much less time than a new file.
    """

    def __init__(self, folder: Folder, path: str) -> None:
        self._folder = folder
        self._path = path
        self._fd: int | None = None
        self._half = 0

    def save(self, position: Position) -> None:
        """Write the position; ``OSError`` if it could not be written, and the one before stands."""
        position.turn += 1
        text = _with_check(msgspec.json.encode(position)) + b"\n"
        if self._fd is None or len(text) > self._half:
            self._make(position, text)
        elif self._folder.files.write_at(self._fd, text, position.turn % 2 * self._half) != len(text):
            self.close()
            raise OSError(f"{self._path} could not be written as a whole")

    def _make(self, position: Position, text: bytes) -> None:
        """Put a file in place in which there is room."""
        self.close()
        half = max(_HALF_BYTES, 2 * len(text))
        halves = [b" " * half, b" " * half]
        halves[position.turn % 2] = text.ljust(half)
        self._folder.replace(self._path, b"".join(halves))
        self._fd = self._folder.files.open(self._path, os.O_RDWR)
        self._half = half

    def is_there(self) -> bool:
        """Return whether it is still the file of that name."""
        try:
            there = self._folder.files.stat(self._path)
        except FileNotFoundError:
            return False
        if self._fd is None:
            return True
        own = self._folder.files.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)

    def touch(self) -> None:
        """Show that somebody delivers."""
        self._folder.files.touch(self._path)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._folder.files.close(fd)


class Range(msgspec.Struct, array_like=True):
    """Records of one segment: from the byte ``start`` up to ``end``."""

    segment: str
    start: int
    end: int

    def holds(self, segment: str, start: int) -> bool:
        """Return whether the record that starts there is one of them."""
        return segment == self.segment and self.start <= start < self.end


class Trial(msgspec.Struct):
    """What the hooks were being given.

    Attributes:
        ranges: records that were given together.
        suspect: the one that was given alone, and perhaps again; ``tries``: how often in a row.
        alone: the suspect was the one that was given.
    """

    ranges: list[Range] = []
    suspect: Range | None = None
    tries: int = 0
    alone: bool = False


class TrialFile:
    """A trial on disk: written before records are handed over, cleared after it.

    So it is left behind only by a process that died in between.
    """

    def __init__(self, folder: Folder, path: str) -> None:
        self._files = folder.files
        self._fd = self._files.open(path, os.O_RDWR | os.O_CREAT)
        self._blank = True

    def load(self) -> Trial | None:
        """Return what a process that died has left."""
        self._blank = False
        text = _checked(self._files.read(self._fd, _TRIAL_BYTES, 0))
        try:
            return None if text is None else msgspec.json.decode(text, type=Trial)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    def write(self, trial: Trial) -> None:
        """Note down what is handed over from now on."""
        text = _with_check(msgspec.json.encode(trial))
        if len(text) >= _TRIAL_BYTES:
            return
        self._files.write_at(self._fd, text.ljust(_TRIAL_BYTES - 1) + b"\n", 0)
        self._blank = False

    def clear(self) -> None:
        """From now on it is nobody's fault."""
        if not self._blank:
            self._files.write_at(self._fd, b" ".ljust(_TRIAL_BYTES - 1) + b"\n", 0)
            self._blank = True

    def close(self) -> None:
        """Close the file."""
        self._files.close(self._fd)


def _with_check(text: bytes) -> bytes:
    return b"%08x %b" % (crc32(text), text)


def _checked(half: bytes) -> bytes | None:
    line = half.partition(b"\n")[0]
    text = line[9:].rstrip()
    try:
        return text if text and int(line[:8], 16) == crc32(text) else None
    except ValueError:
        return None
