"""What ``track()`` does on the caller's thread: the arguments become bytes, once.

The bytes are a JSON array (see :class:`agent_tracking.prepare.Entry` for its fields), made by orjson in
one pass in C. Only plain data takes this way: exact ``dict``, ``list``, ``tuple`` and scalars, dates,
UUIDs and enums, within bounds. Everything else goes through :mod:`agent_tracking.salvage`.
"""

from __future__ import annotations

from orjson import OPT_NAIVE_UTC, OPT_PASSTHROUGH_DATACLASS, OPT_PASSTHROUGH_SUBCLASS, dumps

__all__ = ["ENTRY_BYTES", "EVENT", "IDENTITY", "NODES", "OPTIONS", "dumps", "plain"]

#: The first element of an entry: what it is.
EVENT, IDENTITY = 0, 1

#: The most values that one record may hold, nested ones included: what is beyond is cut.
#: It bounds the time on the caller's thread; a walk of this many values takes a few milliseconds.
NODES = 5_000
#: The most levels of nesting.
DEPTH = 32
#: The most bytes of one record as JSON text; the smallest limit of a provider's backend is 1 MB.
ENTRY_BYTES = 1_000_000

#: Naive datetimes are read as UTC and always sent with an offset; subclasses and dataclasses may run
#: code of the application, so they are left to the salvaging walk.
OPTIONS = OPT_NAIVE_UTC | OPT_PASSTHROUGH_DATACLASS | OPT_PASSTHROUGH_SUBCLASS

_only_scalars = frozenset({str, int, float, bool, type(None)}).issuperset


def plain(properties: object) -> bool:
    """Return whether orjson alone may encode ``properties``: a plain ``dict`` within bounds."""
    if type(properties) is not dict:
        return properties is None
    return len(properties) <= NODES and (
        _only_scalars(map(type, properties.values())) or _room_left(properties, NODES, DEPTH) >= 0
    )


def _room_left(container: object, room: int, depth: int) -> int:
    """Return how many of ``room`` values are left after ``container``, negative if it holds too many."""
    values = container.values() if type(container) is dict else container
    room -= len(container)  # type: ignore[arg-type]
    if room < 0 or not depth:
        return -1
    for value in values:  # type: ignore[attr-defined]
        kind = type(value)
        if (kind is dict or kind is list or kind is tuple) and value:
            room = _room_left(value, room, depth - 1)
            if room < 0:
                return room
    return room
