"""Records in a spool: each once, with the providers that it waits for or was set aside for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import groupby
from typing import Any

import msgspec

from agent_tracking.events import Record, TrackingEvent
from agent_tracking.sources.spool.browse import Browser

__all__ = ["Found", "dead", "full", "name_of", "row", "waiting"]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A record that waits or was set aside.

    Attributes:
        record: ``None`` if it cannot be read any more.
        providers: for whom; ``nobody yet`` has none.
        since: when it came, or was set aside (seconds since 1970), if that can be read.
        reason: why it was set aside; empty where it waits.
    """

    id: str
    record: Record | None
    providers: list[str]
    since: float | None
    reason: str = ""


def waiting(
    browser: Browser, providers: Sequence[str], unusable: Callable[[str], None] = lambda _reason: None
) -> Iterator[Found]:
    """Yield what waits for any of the providers, oldest first; of all if none is named."""
    names = list(providers) or browser.providers()
    if not names:  # nobody has delivered from here yet, so all that is there waits
        for each in browser.waiting("", unusable):
            yield Found(id=each.record.message_id, record=each.record, providers=[], since=each.time)
        return
    streams = [
        _places(browser, name, unusable if name == names[0] else lambda _reason: None) for name in names
    ]
    for _, group in groupby(merge(*streams, key=lambda each: each[0]), key=lambda each: each[0]):
        same = list(group)
        first = same[0][1]
        yield Found(
            id=first.record.message_id,
            record=first.record,
            providers=[name for *_, name in same],
            since=first.time,
        )


def _places(browser: Browser, name: str, unusable: Callable[[str], None]) -> Iterator[tuple[Any, Any, str]]:
    for each in browser.waiting(name, unusable):
        yield (each.segment, each.offset), each, name


def dead(browser: Browser, providers: Sequence[str]) -> Iterator[Found]:
    """Yield what was set aside for the providers, by provider; for all if none is named."""
    for name in list(providers) or browser.dead.providers():
        for each in browser.dead.read(name):
            yield Found(
                id=each.id,
                record=each.record(),
                providers=[each.provider],
                since=each.time,
                reason=each.reason,
            )


def name_of(record: Record | None) -> str:
    """Return the event's name, or what stands for it."""
    if record is None:
        return "(cannot be read)"
    return record.name if isinstance(record, TrackingEvent) else "(identity)"


def row(found: Found) -> dict[str, object]:
    """Return a record in short, for a list as JSON."""
    record = found.record
    data: dict[str, object] = {
        "id": found.id,
        "kind": None if record is None else "event" if isinstance(record, TrackingEvent) else "identity",
        "name": record.name if isinstance(record, TrackingEvent) else None,
        "time": None if record is None else record.time,
        "since": found.since,
        "providers": found.providers,
    }
    return {**data, "reason": found.reason} if found.reason else data


def full(found: Found) -> dict[str, object]:
    """Return all of a record."""
    record = found.record
    data = row(found)
    if record is None:
        return data
    data |= {"user_id": record.user_id, "anonymous_id": record.anonymous_id}
    if isinstance(record, TrackingEvent):
        data |= {"session_id": record.session_id, "properties": msgspec.Raw(record.properties_json)}
    else:
        data |= {"traits": msgspec.Raw(record.traits_json)}
    return data
