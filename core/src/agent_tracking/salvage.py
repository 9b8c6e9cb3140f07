"""The slow way to a snapshot: a bounded walk that makes JSON of anything, for data that orjson refuses.

It never calls ``str``, ``repr``, ``__eq__``, ``__hash__`` or ``__iter__`` of a class that it does not
know, and never raises: one odd value costs that value, never the record.

| value | becomes |
|---|---|
| NaN, infinity, ``Decimal("NaN")`` | ``null`` |
| text with lone surrogates | U+FFFD in their place |
| text that is too long; what is too deep or too much | cut, with ``"…"`` |
| ``bytes`` | base64 text |
| ``Decimal``, numpy scalars | a number |
| integers beyond 64 bits | text |
| dates | ISO 8601 text, naive ones as UTC |
| ``timedelta`` | seconds |
| ``UUID``, paths, pydantic's URLs | text |
| enums | their value |
| sets, ``deque`` | a list |
| ``MappingProxyType`` of a ``dict`` | an object |
| dataclasses, attrs, pydantic and msgspec objects | an object of their fields |
| keys | text; a key that is text already wins over one that was turned into the same |
| everything else | ``"<TypeName>"`` |
"""

from __future__ import annotations

import sys
from binascii import b2a_base64
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from gc import get_referents
from itertools import islice
from math import isfinite
from types import MappingProxyType
from typing import Any
from uuid import UUID

from agent_tracking.snapshot import DEPTH, ENTRY_BYTES, EVENT, NODES, OPTIONS, dumps
from agent_tracking.typed import event_of, fields_of, type_name

__all__ = ["MARK", "is_changed", "salvaged", "salvaged_data"]

#: Stands where something was cut.
MARK = "…"
#: The most characters of one text when a record has to be cut.
_TEXT = 8_192
#: The most characters of all texts of a record together.
_TEXTS = ENTRY_BYTES // 6
_ID_TEXT = 1_024
#: What takes no more room than its place, and which orjson encodes itself (NaN and infinity as null).
_SMALL = frozenset({bool, float, type(None)})
#: Characters of a text for which the quick way is taken.
_SHORT = 200
#: Characters that are kept for each entry behind one that takes all it can get.
_KEPT_TEXT = 100
#: The most bits of an integer whose decimal text is made; more would take long.
_INT_BITS = 4_096


def salvaged(
    kind: int,
    number: int,
    now: float,
    name: object,
    data: object,
    others: Iterable[object],
    under: Mapping[str, object] | None = None,
) -> bytes:
    """Return an entry of the intake made of whatever was passed; its last element says "salvaged".

    ``under`` are the properties that a context binds: plain, and kept whatever ``data`` is. ``name`` may be a
    typed event: its fields go under ``data``.
    """
    walk = _Walk()
    fields = [walk.field(other) for other in others]
    name, typed = _event(name) if kind == EVENT else (name, None)
    head = [kind, number, now, walk.field(name)]
    body = walk.body(data, typed)
    if under:
        body = {**under, **(body or {})}
    entry = dumps([*head, body, *fields, walk.changed], None, OPTIONS)
    if len(entry) >= ENTRY_BYTES:
        entry = dumps([*head, under or {}, *fields, True], None, OPTIONS)
    return entry + b"\n"


def _event(name: object) -> tuple[object, dict[str, object] | None]:
    """Return the name and the fields of a typed event; what is none comes back as it is."""
    if type(name) is str:
        return name, None
    try:
        return event_of(name) or (name, None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  it may only look like one
        return name, None


def salvaged_data(data: object) -> bytes:
    """Return properties or traits as JSON text, made of whatever they hold."""
    return dumps(_Walk().value(data, DEPTH), None, OPTIONS)


def is_changed(data: object) -> bool:
    """Return whether something of ``data`` would be lost."""
    walk = _Walk()
    walk.value(data, DEPTH)
    return walk.changed


class _Walk:
    """One walk through one record: what room is left, and whether anything was changed."""

    __slots__ = ("changed", "nodes", "text_room")

    def __init__(self) -> None:
        self.nodes = NODES
        self.text_room = _TEXTS
        self.changed = False

    def body(self, data: object, typed: dict[str, object] | None) -> dict[str, object] | None:
        """Return properties or traits, over the fields of a typed event."""
        if typed is None:
            body = self.value(data, DEPTH)
        else:
            both: Any = self.mapping({"typed": typed, "data": data}, DEPTH + 1)  # neither takes all the room
            typed, body = both["typed"], both.get("data")
        if body is not None and type(body) is not dict:
            body, self.changed = {}, True
        return body if typed is None else {**typed, **(body or {})}

    def field(self, value: object) -> object:
        """Return a name, an id or a time: a scalar, or ``None``."""
        if value is None:
            return None
        if not any(base in _FIELDS for base in type.mro(type(value))):
            self.changed = True
            return None
        cleaned = self.value(value, 1)
        if type(cleaned) is str and len(cleaned) > _ID_TEXT:
            self.changed = True
            return cleaned[:_ID_TEXT]
        return cleaned

    def value(self, value: object, depth: int) -> Any:  # noqa: ANN401  JSON
        """Return ``value`` as data that orjson encodes."""
        self.nodes -= 1
        try:
            kind = type(value)
            convert = _BY_TYPE.get(kind) or _for_base(kind)
            if convert is not None:
                return convert(self, value, depth)
            fields = fields_of(kind, value)
            if fields is not None:
                return self.mapping(fields, depth)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001, S110  whatever the value's own code raised, even SystemExit
            pass
        return self.unknown(value, depth)

    def unknown(self, value: object, _depth: int) -> str:
        self.changed = True
        return self.text(f"<{type_name(type(value))[:100]}>", 0)

    def text(self, value: object, _depth: int) -> str:
        plain = str.__str__(value)
        if len(plain) < _SHORT < self.text_room and plain.isascii():
            self.text_room -= len(plain)
            return plain
        limit = max(0, min(_TEXT, self.text_room))
        if len(plain) > limit:
            plain = plain[:limit] + MARK
            self.changed = True
        self.text_room -= len(plain)
        if plain.isascii():
            return plain
        try:
            plain.encode()
        except UnicodeEncodeError:
            self.changed = True
            return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return plain

    def integer(self, value: object, depth: int) -> int | str:
        plain = int.__int__(value)  # type: ignore[arg-type]
        if -(2**63) <= plain < 2**64:
            return plain
        return self.text(str(plain), 0) if plain.bit_length() <= _INT_BITS else self.unknown(value, depth)

    def number(self, value: object, _depth: int) -> float | None:
        plain = float.__float__(value)  # type: ignore[arg-type]
        return plain if isfinite(plain) else None

    def decimal(self, value: object, _depth: int) -> float | None:
        plain = Decimal.__float__(value)  # type: ignore[arg-type]
        return plain if isfinite(plain) else None

    def base64(self, value: object, depth: int) -> str:
        return self.text(b2a_base64(bytes(value[:_TEXT]), newline=False).decode(), depth)  # type: ignore[index]

    def moment(self, value: datetime, _depth: int) -> str:
        text = datetime.isoformat(value)
        return text if datetime.utcoffset(value) is not None else f"{text}+00:00"

    def mapping(self, value: object, depth: int) -> dict[str, object] | str:
        if not depth:
            self.changed = True
            return MARK
        result: dict[str, object] = {}
        items = _some(lambda: dict.items(value), self.nodes)  # type: ignore[arg-type]
        left = len(items)
        for key, item in items:
            if self.nodes <= 0:
                break
            left -= 1
            kind = type(item)
            if type(key) is str and (kind in _SMALL or (kind is int and -(2**63) <= item < 2**64)):
                self.nodes -= 1
                result[self.text(key, 0)] = item
                continue
            # One that is too large must not cost those that come behind it.
            text = min(_KEPT_TEXT * left, self.text_room // 2)
            nodes = 2 * left  # a key that has to be converted counts, too
            self.nodes -= nodes
            self.text_room -= text
            self.entry(result, key, item, depth)
            self.nodes = max(self.nodes, 0) + nodes
            self.text_room = max(self.text_room, 0) + text
        else:
            if dict.__len__(value) == len(items):  # type: ignore[arg-type]
                self.changed = self.changed or len(result) < len(items)  # two keys became one
                return result
        result[MARK] = MARK
        self.changed = True
        return result

    def entry(self, result: dict[str, object], key: object, item: object, depth: int) -> None:
        if type(key) is str:
            text = self.text(key, 0)  # first: the value may take what room is left
            result[text] = self.value(item, depth - 1)
            return
        name = self.value(key, 1)
        text = name if type(name) is str else dumps(name).decode()
        if text in result:
            self.changed = True
        else:
            result[text] = self.value(item, depth - 1)

    def sequence(self, value: object, depth: int) -> list[object] | str:
        if not depth:
            self.changed = True
            return MARK
        result: list[object] = []
        for item in _some(lambda: iter(value), self.nodes):  # type: ignore[call-overload]
            if self.nodes <= 0:
                break
            result.append(self.value(item, depth - 1))
        if len(value) > len(result):  # type: ignore[arg-type]
            result.append(MARK)
            self.changed = True
        return result


def _some(items: Callable[[], Iterable[Any]], most: int) -> list[Any]:
    """Return the first items of a container that another thread may be changing."""
    for _ in range(100):
        try:
            return list(islice(items(), max(most, 0) + 1))
        except RuntimeError:  # changed size during iteration
            continue
    return []


_Convert = Callable[[_Walk, Any, int], Any]

_BY_TYPE: dict[type, _Convert] = {
    str: _Walk.text,
    int: _Walk.integer,
    float: _Walk.number,
    bool: lambda _walk, value, _depth: value,
    type(None): lambda _walk, value, _depth: value,
    dict: _Walk.mapping,
    # What it shows is found without running the code of a mapping that is not a dict; mapping() refuses it.
    MappingProxyType: lambda walk, value, depth: walk.mapping(get_referents(value)[0], depth),
    list: _Walk.sequence,
    tuple: _Walk.sequence,
    set: _Walk.sequence,
    frozenset: _Walk.sequence,
    deque: _Walk.sequence,
    bytes: _Walk.base64,
    bytearray: _Walk.base64,
    memoryview: _Walk.base64,
    Decimal: _Walk.decimal,
    datetime: _Walk.moment,
    date: lambda _walk, value, _depth: date.isoformat(value),
    time: lambda _walk, value, _depth: time.isoformat(value),
    timedelta: lambda _walk, value, _depth: timedelta.total_seconds(value),
    UUID: lambda _walk, value, _depth: UUID.__str__(value),
}
#: What a name, an id or a time may be made of.
_FIELDS = frozenset({str, int, float, UUID, datetime, Enum, type(None)})
#: Subclasses of these are read through the base class's own methods, in this order.
_BASES: tuple[tuple[type, _Convert], ...] = (
    (Enum, lambda walk, value, depth: walk.value(object.__getattribute__(value, "_value_"), depth)),
    (str, _Walk.text),
    (int, _Walk.integer),
    (float, _Walk.number),
    (datetime, _Walk.moment),
    (date, lambda _walk, value, _depth: date.isoformat(value)),
    (timedelta, lambda _walk, value, _depth: timedelta.total_seconds(value)),
    (Decimal, _Walk.decimal),
    (bytes, lambda walk, value, depth: walk.base64(bytes.__getitem__(value, slice(_TEXT)), depth)),
    (dict, _Walk.mapping),
    (list, lambda walk, value, depth: walk.sequence(list.__getitem__(value, slice(NODES + 1)), depth)),
    (tuple, lambda walk, value, depth: walk.sequence(tuple.__getitem__(value, slice(NODES + 1)), depth)),
    (UUID, lambda _walk, value, _depth: UUID.__str__(value)),
)


def _for_base(kind: type) -> _Convert | None:
    bases = type.mro(kind)
    for base, convert in _BASES:
        if base in bases:
            return convert
    numpy = sys.modules.get("numpy")
    if numpy is not None and numpy.generic in bases:
        # The item of a longdouble is a longdouble.
        item = numpy.floating.__float__ if numpy.longdouble in bases else numpy.generic.item
        return lambda walk, value, depth: walk.value(item(value), depth)
    networks = sys.modules.get("pydantic.networks")
    if networks is not None and networks.AnyUrl in bases:
        return lambda walk, value, depth: walk.text(networks.AnyUrl.__str__(value), depth)
    pathlib = sys.modules.get("pathlib")
    if pathlib is not None and pathlib.PurePath in bases:
        return lambda walk, value, depth: walk.text(pathlib.PurePath.__str__(value), depth)
    return None
