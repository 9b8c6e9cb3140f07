"""Lines that were read or written are kept for a moment: the lanes of one process read the same in turn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from threading import Lock
from typing import NamedTuple
from zlib import crc32

from agent_tracking.events import Record
from agent_tracking.names import IdPrefix
from agent_tracking.sources.spool.lines import decode

__all__ = ["Kept", "Parsed", "parse", "piece_of"]

#: The most pieces that are kept, and the bytes of a piece that is worth keeping.
_MOST = 8
_BYTES = 256 * 1024


class Parsed(NamedTuple):
    """Lines of a segment: where each ends and its record, or the reason why there is none."""

    ends: Sequence[int]
    records: Sequence[Record | str]


def parse(chunk: bytes, start: int, ids: IdPrefix) -> Parsed:
    """Return what is in ``chunk``, whole lines that begin at the offset ``start`` of their segment."""
    lines = chunk.split(b"\n")
    lines.pop()
    ends: list[int] = []
    records: list[Record | str] = []
    for line in lines:
        start += len(line) + 1
        record: Record | str = "corrupt"
        try:
            text = line[9:]
            if text and int(line[:9], 16) == crc32(text):  # lines.text_of, without the call
                record = "unusable"
                record = decode(text, ids)
        except Exception:  # noqa: BLE001, S110  nothing that a file holds may stop the lane
            pass
        ends.append(start)
        records.append(record)
    return Parsed(ends, records)


def piece_of(lines: Sequence[bytes], start: int, records: Sequence[Record]) -> Parsed:
    """Return what ``lines`` hold, which begin at the offset ``start``; their records are known already."""
    return Parsed([*accumulate(map(len, lines), initial=start)][1:], records)


class Kept:
    """The pieces that were parsed or written last, by segment and offset."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._pieces: dict[tuple[str, int], Parsed] = {}

    def get(self, segment: str, start: int) -> Parsed | None:
        """Return the piece that begins there, if it is still known."""
        return self._pieces.get((segment, start))

    def put(self, segment: str, start: int, piece: Parsed) -> None:
        """Keep a piece for those who come next."""
        if not piece.ends or piece.ends[-1] - start > _BYTES:
            return
        with self._lock:
            pieces = self._pieces
            pieces.pop((segment, start), None)
            pieces[segment, start] = piece
            while len(pieces) > _MOST:
                del pieces[next(iter(pieces))]

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._pieces.clear()
