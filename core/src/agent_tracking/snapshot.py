"""What ``track()`` does on the caller's thread: the arguments become bytes, once.

The bytes are a JSON array (see :class:`agent_tracking.prepare.Entry` for its fields), made by orjson in
one pass in C. Only plain data takes this way: exact ``dict``, ``list``, ``tuple`` and scalars, dates and
UUIDs, within bounds. So no code of the application runs meanwhile (an enum's ``value`` and a time zone may
be such code), which could change what orjson is reading: that ends the process. Everything else goes through
:mod:`agent_tracking.salvage`.

Each entry is a line, copied once by adding its end: what orjson returns keeps the buffer that it was
written into, 4 KB for an entry of 300 bytes, and touching so much fresh memory for each call takes longer
(3.5 µs a call) than the copy and the encoding together (1.3 µs).
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import date, datetime, timezone
from typing import Any
from uuid import UUID

from orjson import OPT_NAIVE_UTC, OPT_PASSTHROUGH_DATACLASS, OPT_PASSTHROUGH_SUBCLASS, dumps

__all__ = ["ENTRY_BYTES", "EVENT", "IDENTITY", "NODES", "OPTIONS", "dumps", "merged", "plain"]

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

_CONTAINERS = frozenset({dict, list, tuple})
_DATES = frozenset({date, UUID})


def merged(under: dict[str, Any], properties: object) -> dict[str, Any]:
    """Return ``properties`` over those that a context binds; ``TypeError`` for what is no plain ``dict``."""
    if properties is None:
        return under
    if type(properties) is dict:
        return {**under, **properties}
    raise TypeError


def plain(properties: object) -> bool:
    """Return whether orjson alone may encode ``properties``: a plain ``dict`` within bounds."""
    if type(properties) is not dict:
        return properties is None
    nodes = text = 0
    containers: list[Collection[Any]] = [properties.values()]
    for container in containers:  # which grows meanwhile
        nodes += len(container)
        if nodes > NODES:
            return False
        for value in container:
            kind = type(value)
            if kind is str:
                text += len(value)
            elif kind is int or kind is float or kind is bool or value is None:
                continue  # one by one: a fifth faster than to look into a set
            elif kind is list or kind is tuple:
                containers.append(value)
            elif kind is dict:
                containers.append(value.values())
            elif _runs_code(value):
                return False
    # So many containers are needed for so many levels.
    return text <= ENTRY_BYTES and (len(containers) <= DEPTH or _is_shallow(properties))


def _is_shallow(properties: dict[str, Any]) -> bool:
    """Return whether there are at most so many levels, of what is known to be bounded and without cycles."""
    level: list[Any] = [properties]
    for _ in range(DEPTH):
        level = [
            value
            for container in level
            for value in (container.values() if type(container) is dict else container)
            if type(value) in _CONTAINERS
        ]
        if not level:
            return True
    return False


def _runs_code(value: Any) -> bool:  # noqa: ANN401  no container, no scalar
    """Return whether encoding the value may run code that is not Python's own, in C."""
    kind = type(value)
    if kind in _DATES:
        return False
    if kind is not datetime:
        return True
    zone = value.tzinfo
    if zone is None or type(zone) is timezone:
        return False
    zoneinfo = sys.modules.get("zoneinfo")
    return zoneinfo is None or type(zone) is not zoneinfo.ZoneInfo
