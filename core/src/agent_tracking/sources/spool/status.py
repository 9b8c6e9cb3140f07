"""What waits in a folder, read without taking part."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from agent_tracking.counters import ProviderLag, SpoolStats
from agent_tracking.sources.spool.folder import Folder, provider_name
from agent_tracking.sources.spool.lines import time_of
from agent_tracking.sources.spool.position import NewerError, load_position
from agent_tracking.sources.spool.segments import Segment

__all__ = ["known_positions", "lag"]

_PEEK = 64 * 1024
#: Bytes of a record where none can be looked at.
_USUAL = 300


def known_positions(folder: Folder) -> dict[str, dict[str, int]]:
    """Return each known provider's offsets by segment."""
    found: dict[str, dict[str, int]] = {}
    for file in folder.providers():
        try:
            position = load_position(folder, folder.file(f"{file}.pos"))
        except (NewerError, OSError):
            position = None
        if position is None:
            found[provider_name(file)] = {}
        else:
            found[position.provider] = position.segments
    return found


def lag(
    folder: Folder, segments: Iterable[Segment], positions: Mapping[str, Mapping[str, int]]
) -> SpoolStats:
    """Return what waits for each provider; numbers of records are estimates by their bytes."""
    segments = list(segments)
    mean = _mean(folder, segments)
    providers = {}
    for name, offsets in positions.items():
        unread = [(segment, max(segment.first, offsets.get(segment.name, 0))) for segment in segments]
        unread = [(segment, offset) for segment, offset in unread if segment.size > offset]
        size = sum(segment.size - offset for segment, offset in unread)
        first = _first_time(folder, *unread[0]) if unread else None
        providers[name] = ProviderLag(
            records=_records(size, mean),
            bytes=size,
            seconds=0.0 if first is None else max(0.0, time.time() - first),
        )
    size = sum(max(0, segment.size - segment.first) for segment in segments)
    return SpoolStats(
        path=folder.path,
        segments=len(segments),
        bytes=size,
        records=_records(size, mean),
        providers=providers,
    )


def _records(size: int, mean: float) -> int:
    return max(1, round(size / mean)) if size else 0


def _mean(folder: Folder, segments: list[Segment]) -> float:
    """Return the bytes of a line at the end of the newest segment."""
    for segment in reversed(segments):
        chunk = folder.peek(segment.path, _PEEK, max(0, segment.size - _PEEK))
        lines = chunk.count(b"\n")
        if lines > 1:
            return len(chunk) / lines
    return _USUAL


def _first_time(folder: Folder, segment: Segment, offset: int) -> float | None:
    """Return when the first record behind an offset was tracked."""
    for line in folder.peek(segment.path, _PEEK, offset).split(b"\n"):
        seconds = time_of(line)
        if seconds is not None:
            return seconds
    return segment.created or None
