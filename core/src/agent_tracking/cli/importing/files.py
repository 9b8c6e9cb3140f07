"""The input: which file it is, what it is made of, and its lines from a position on."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import stat
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import PurePath
from typing import BinaryIO, Literal, cast

import msgspec

from agent_tracking.cli.importing.problems import BadInput, quoted

__all__ = ["TOO_LONG", "Form", "Identity", "Input", "Lines", "form_of", "open_input"]

Form = Literal["jsonl", "csv"]

#: By the end of a name, without ``.gz``.
_FORMS: dict[str, Form] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}
_GZIP = b"\x1f\x8b"
_BLOCK = 1024 * 1024
#: The most bytes of a line; a record has at most a million.
_LONGEST = 8 * 1024 * 1024
#: How much of the beginning tells one file from another, in bytes.
_HEAD = 64 * 1024
#: Comes in place of a line that is longer than any record may be.
TOO_LONG = b"\n too long \n"


class Identity(msgspec.Struct, frozen=True):
    """By what a file is known again: bytes, time of its last change, digest of its beginning."""

    size: int
    mtime_ns: int
    head: str


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """An open input.

    Attributes:
        name: for people.
        stream: its bytes, decompressed.
        raw: the same as they stand in the file.
        size: bytes of the file; ``None`` if that is not known.
        identity: ``None`` for what can't be read a second time.
        mtime: its last change in seconds since 1970; now, for what has none.
    """

    name: str
    stream: BinaryIO
    raw: BinaryIO
    size: int | None
    identity: Identity | None
    mtime: float

    def read_bytes(self) -> int:
        """Return how far into the file it was read."""
        if self.size is None:
            return 0
        with suppress(OSError, ValueError):
            return self.raw.tell()
        return 0

    def lock(self) -> None:
        """Keep other imports of the same file away until the process ends."""
        try:
            fcntl.flock(self.raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{self.name} is being imported by another process") from None
        except OSError:  # a file system without locks
            return


def form_of(path: str, given: str | None) -> Form:
    """Return the format, as given or by the file's name."""
    if given is not None:
        return cast("Form", given)
    suffixes = [suffix.lower() for suffix in PurePath(path).suffixes]
    last = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
    form = _FORMS.get(last[0]) if last else None
    if form is None:
        if path != "-":
            _opened_for_reading(path).close()  # a name that is no file's is told first
        what = "standard input" if path == "-" else quoted(path, 200)
        raise BadInput(f"the format of {what} is not known by its name: add --format jsonl or --format csv")
    return form


def open_input(path: str) -> Input:
    """Open a file, or standard input for ``-``; what begins like gzip is decompressed."""
    raw = _opened_for_reading(path)
    name = "standard input" if path == "-" else path
    try:
        return _opened(name, raw, path)
    except OSError as error:
        raise BadInput(f"{quoted(name, 200)} cannot be read: {error.strerror}") from None


def _opened_for_reading(path: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: PTH123
    except (OSError, ValueError, AttributeError) as error:  # a NUL in a path; no standard input at all
        reason = getattr(error, "strerror", None) or "no such file"
        raise BadInput(f"{quoted(path, 200)} cannot be read: {reason}") from None


def _opened(name: str, raw: BinaryIO, path: str) -> Input:
    status = os.fstat(raw.fileno())
    identity = None
    if path != "-" and stat.S_ISREG(status.st_mode):
        head = sha256(raw.read(_HEAD)).hexdigest()
        raw.seek(0)
        identity = Identity(status.st_size, status.st_mtime_ns, head)
    begins = raw.peek(2)[:2] if isinstance(raw, io.BufferedReader) else b""
    if path.endswith(".gz") and begins != _GZIP:
        raise BadInput(f"{quoted(path, 200)} is not gzip, although its name says so")
    return Input(
        name=name,
        stream=gzip.GzipFile(fileobj=raw, mode="rb") if begins == _GZIP else raw,  # type: ignore[arg-type]
        raw=raw,
        size=None if identity is None else identity.size,
        identity=identity,
        mtime=time.time() if identity is None else identity.mtime_ns / 1e9,
    )


class Lines:
    """The lines of a stream without their ends, and how far they were taken.

    Attributes:
        position: bytes of the stream up to the end of the line that was given out last.
        number: how many lines these are.
        broken: why there are no more lines although the file goes on; empty as a rule.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.position = 0
        self.number = 0
        self.broken = ""
        self._first = True
        self._rest = b""
        self._lines = self._all()

    def skip_to(self, position: int, number: int) -> None:
        """Go on from where lines were taken up to before; compressed files are read up to there."""
        try:
            self._stream.seek(position)
        except (OSError, EOFError, zlib.error) as error:
            raise BadInput(f"it cannot be read up to where the import was: {_why(error)}") from None
        self.position, self.number = position, number
        self._first = position == 0
        self._lines = self._all()

    def __iter__(self) -> Iterator[bytes]:
        """Return the one iterator: who begins anew goes on where the one before stopped."""
        return self._lines

    def _all(self) -> Iterator[bytes]:
        tail = b""
        while block := self._read():
            parts = (tail + block if tail else block).split(b"\n")
            tail = parts.pop()
            for part in parts:
                self.position += len(part) + 1
                self.number += 1
                yield part
            if len(tail) > _LONGEST:
                yield from self._overlong(len(tail))
                tail = self._rest
        if tail and not self.broken:
            self.position += len(tail)
            self.number += 1
            yield tail

    def _overlong(self, size: int) -> Iterator[bytes]:
        """Read on to the end of a line that is too long; what follows it is in ``_rest``."""
        self._rest = b""
        while block := self._read():
            head, end, self._rest = block.partition(b"\n")
            size += len(head) + len(end)
            if end:
                break
        self.position += size
        self.number += 1
        yield TOO_LONG

    def _read(self) -> bytes:
        try:
            block = self._stream.read(_BLOCK)
        except (OSError, EOFError, zlib.error) as error:
            self.broken = _why(error)
            return b""
        if self._first:
            self._first = False
            if block.startswith(b"\xef\xbb\xbf"):  # what some editors put in front of UTF-8
                self.position += 3
                return block[3:] or self._read()
        return block


def _why(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "the compressed file ends too early: it is not complete"
    if isinstance(error, zlib.error | gzip.BadGzipFile):
        return "the compressed file is damaged"
    return getattr(error, "strerror", None) or type(error).__name__
