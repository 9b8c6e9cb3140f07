"""What a segment holds: a header, then one line for each record, each with a checksum of its own.

Whatever is damaged costs the lines that it hits: the next newline is where reading goes on. A line is
``<crc32 of the text, 8 hex digits> <text>``; the text is the intake's own entry, or, for a record that
processors saw, a finished record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from zlib import crc32

import msgspec

from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.names import IdPrefix
from agent_tracking.prepare import prepare

__all__ = [
    "FRAME",
    "LINE_BYTES",
    "VERSION",
    "Header",
    "decode",
    "encode",
    "frames",
    "read_header",
    "text_of",
    "time_of",
]

#: The version of the format that this code writes; it leaves newer ones alone.
VERSION = 1
#: The most bytes of one line: what seems to be longer is damaged. A record has at most 1 MB of data.
LINE_BYTES = 4 * 1024 * 1024

#: What a line has beside its text, in bytes.
FRAME = 10

_MAGIC = b"agent-tracking-spool "
#: The first element of a finished record, beside those of :mod:`agent_tracking.snapshot`.
_EVENT, _IDENTITY = 2, 3
_FINISHED = b"23"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a segment: who wrote it.

    Attributes:
        ids: what the message ids of its entries begin with (see :class:`agent_tracking.names.IdPrefix`).
        version: see :data:`VERSION`; 0 where the line is damaged.
        size: bytes of the line.
    """

    ids: str
    pid: int = 0
    host: str = ""
    created: float = 0.0
    version: int = VERSION
    size: int = 0

    def line(self) -> bytes:
        """Return the line, with its end."""
        text = msgspec.json.encode(
            {"ids": self.ids, "pid": self.pid, "host": self.host, "created": self.created}
        )
        return _MAGIC + b"%d %08x %b\n" % (self.version, _header_check(b"%d" % self.version, text), text)


def read_header(start: bytes, segment: str) -> Header:
    """Return the header of a segment that starts so.

    Where it is damaged, ids made from the segment's name take the place of the writer's: then the records
    are still delivered, to all providers with the same message ids.
    """
    line, newline, _ = start.partition(b"\n")
    number, _, rest = line.removeprefix(_MAGIC).partition(b" ")
    check, _, text = rest.partition(b" ")
    size = len(line) + 1
    if newline and line.startswith(_MAGIC) and check == b"%08x" % _header_check(number, text):
        if number != b"%d" % VERSION:
            return Header(ids="", version=int(number) if number.isdigit() else VERSION + 1, size=size)
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.structs.replace(msgspec.json.decode(text, type=Header), size=size)
    head = hashlib.sha256(segment.encode()).hexdigest()
    ids = f"{head[:8]}-{head[8:12]}-4{head[12:15]}-8{head[16:19]}-"
    return Header(ids=ids, version=0, size=size if newline and line.startswith(_MAGIC[:8]) else 0)


def _header_check(version: bytes, text: bytes) -> int:
    return crc32(version + b" " + text)


class _Finished(msgspec.Struct, array_like=True, gc=False):
    """A record as providers get it, as a JSON array of these fields; the third is the time it was written."""

    kind: int
    number: int
    now: float
    message_id: str
    time: float
    user_id: str | None
    anonymous_id: str | None
    only: frozenset[str] | None
    never: frozenset[str]
    name: str
    session_id: str | None
    data: msgspec.Raw


_finished = msgspec.json.Decoder(_Finished).decode
_anything = msgspec.json.Decoder(Any).decode


def frames(texts: Iterable[bytes]) -> list[bytes]:
    """Return the lines of entries and finished records, whose own ends may be there already."""
    return [b"%08x %b\n" % (crc32(text), text) for text in map(bytes.rstrip, texts)]


def text_of(line: bytes) -> bytes | None:
    """Return the text of a line without its end; ``None`` if it is damaged."""
    text = line[9:]
    try:
        return text if text and int(line[:9], 16) == crc32(text) else None
    except ValueError:
        return None


def encode(record: Record, now: float) -> bytes | None:
    """Return a record as the text of a line; ``None`` if its data is no JSON or too large."""
    event = isinstance(record, TrackingEvent)
    data = record.data_json
    try:
        if b"\n" in data:
            data = msgspec.json.encode(_anything(data))
        text = msgspec.json.encode(
            _Finished(
                _EVENT if event else _IDENTITY,
                0,
                now,
                record.message_id,
                record.time,
                record.user_id,
                record.anonymous_id,
                record.only,
                record.never,
                record.name if isinstance(record, TrackingEvent) else "",
                record.session_id if isinstance(record, TrackingEvent) else None,
                msgspec.Raw(data),
            )
        )
        _finished(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError):
        return None
    return text if len(text) <= LINE_BYTES - 64 else None


def decode(text: bytes, ids: IdPrefix) -> Record | str:
    """Return the record of a line's text, or the reason for which it is dropped."""
    if text[1:2] not in _FINISHED:
        return prepare(text, ids)[0]
    raw = _finished(text)
    if raw.kind == _IDENTITY:
        if raw.user_id is None:
            return "bad-id"
        return Identity(
            message_id=raw.message_id,
            time=raw.time,
            user_id=raw.user_id,
            anonymous_id=raw.anonymous_id,
            traits_json=bytes(raw.data),
            only=raw.only,
            never=raw.never,
        )
    return TrackingEvent(
        message_id=raw.message_id,
        time=raw.time,
        user_id=raw.user_id,
        anonymous_id=raw.anonymous_id,
        session_id=raw.session_id,
        name=raw.name,
        properties_json=bytes(raw.data),
        only=raw.only,
        never=raw.never,
    )


def time_of(line: bytes) -> float | None:
    """Return when a line's record was tracked or written, by its first bytes; ``None`` if damaged."""
    fields = line[9:80].split(b",", 3)
    try:
        return float(fields[2]) if len(fields) == 4 else None
    except ValueError:
        return None
