"""Records as a tracker hands them to providers: ordinary ones, and those that have broken encoders."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.http_provider import HTTPProvider, Payload

__all__ = [
    "MARK",
    "TIME",
    "event",
    "hostile",
    "identity",
    "leaves",
    "message_id",
    "ordinary",
    "payloads",
    "serial_of",
    "serials_in",
    "strictly",
]

TIME = 1777888800.123456
#: The property by whose value a record is found again in whatever a provider makes of it.
MARK = "conformance"
_SERIAL = re.compile(r"conformance-(\d{6})")
_ID = "c0ffee00-7a3e-4c10-9a55-"


def message_id(serial: int) -> str:
    """Return the message id of the record with this number."""
    return f"{_ID}{serial:012d}"


def serial_of(given: str) -> int:
    """Return the number of the record with this message id; -1 for an id that is none of ours."""
    return int(given[len(_ID) :]) if given.startswith(_ID) else -1


def serials_in(text: str) -> list[int]:
    """Return the numbers of the records that stand in a text."""
    return [int(found) for found in _SERIAL.findall(text)]


def event(properties: Any = None, *, serial: int = 1, **fields: Any) -> TrackingEvent:  # noqa: ANN401
    """Return an event with a number; ``properties`` may be JSON text."""
    return TrackingEvent(
        **{
            "message_id": message_id(serial),
            "time": TIME,
            "name": "order paid",
            "user_id": "user-4242",
            "properties_json": _text(properties),
            **fields,
        }
    )


def identity(traits: Any = None, *, serial: int = 1, **fields: Any) -> Identity:  # noqa: ANN401
    """Return an identity with a number; ``traits`` may be JSON text."""
    return Identity(
        **{
            "message_id": message_id(serial),
            "time": TIME,
            "user_id": "user-4242",
            "traits_json": _text(traits),
            **fields,
        }
    )


def ordinary(count: int = 6) -> list[TrackingEvent]:
    """Return events as an application tracks them."""
    return [
        event({MARK: f"conformance-{serial:06d}", "total": 9.5 * serial, "items": ["a", "b"]}, serial=serial)
        for serial in range(count)
    ]


_VALUES: Mapping[str, Any] = {
    "nothing": {},
    "an empty key": {"": 1},
    "null": {"a": None},
    "both booleans": {"a": True, "b": False},
    "quotes and backslashes": {'say "x"\\': '"\\\\"', "a": '\\"', "b": "}"},
    "text that looks like JSON": {"a": '","b":1}', "b": '"time":1'},
    "control characters": {"a\n\t\x00": "\x00\x1f\x7f\x85\u2028\u2029\r\n"},
    "every plane of Unicode": {"é": "ü", "名": "😀", "\ufeff": "\ufffe", "a": "\u202etxt"},
    "large and small numbers": {"a": 2**63 - 1, "b": -(2**63), "c": 1.7e308, "d": 5e-324, "e": -0.0},
    "numbers that a float does not hold": b'{"a":123456789012345678901234567890,"b":0.1000000000000000055}',
    "a long string": {"a": "x" * 70_000, "b": "é" * 1_100, "c": '"' * 3_000},
    "a thousand keys": {f"k{number}": number for number in range(1_000)},
    "a long array": {"a": list(range(5_000))},
    "deep objects": json.loads('{"a":' * 60 + "1" + "}" * 60),
    "deep arrays": {"a": json.loads("[" * 60 + "]" * 60)},
    "a very long key": {"k" * 5_000: 1},
    "markup": {"a": "<script>alert(1)</script>", "b": "%s %d {0} ${x}", "c": "'; DROP TABLE x; --"},
    "half a megabyte": {"a": ["x" * 1_000] * 500},
    "three megabytes": {"a": "x" * 3_000_000},
}
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "nobody": {"user_id": None},
    "only an anonymous id": {"user_id": None, "anonymous_id": "anon-1"},
    "an id that is a number": {"user_id": "424242424242"},
    "an id of one character": {"user_id": "u"},
    "an id of 1024 characters": {"user_id": "u" * 1_024, "anonymous_id": "é" * 1_024},
    "an id of other scripts": {"user_id": "名é😀", "anonymous_id": "ü\u202e", "session_id": "é"},
    "an id with quotes": {"user_id": '"},"x":{"', "anonymous_id": "\\", "session_id": '"'},
    "an id with controls": {"user_id": "a\nb\x00", "anonymous_id": "a\u2028b", "session_id": "a\tb"},
    "the same id twice": {"user_id": "same", "anonymous_id": "same"},
    "a session of milliseconds": {"session_id": "1777888800123"},
    "a session of text": {"session_id": "s-1"},
    "a session that is a UUID": {"session_id": "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11"},
    "the epoch": {"time": 0.0},
    "long ago": {"time": 1.25},
    "the last second": {"time": 253_402_300_799.0},
    "a time with a long fraction": {"time": 1777888800.9999999},
}
_NAMES: Mapping[str, str] = {
    "a name with quotes": 'say "x"\\',
    "a name with a dollar": "$pageview",
    "a name of the identify kind": "$identify",
    "a name of dollars": "$$$",
    "a name with controls": "a\x00\n\u2028b",
    "a name of 200 characters": "é" * 200,
    "a name of one character": "x",
    "a name that is a number": "42",
    "a name that is markup": "<b>",
}


def hostile() -> Iterator[tuple[str, Record]]:
    """Yield what has broken encoders, each with what it is."""
    for what, data in _VALUES.items():
        yield f"an event with {what}", event(data, anonymous_id="anon-1", session_id="s-1")
        yield f"an identity with {what}", identity(data, anonymous_id="anon-1")
    for what, fields in _FIELDS.items():
        yield f"an event with {what}", event({"a": 1}, **fields)
        kept = {key: value for key, value in fields.items() if key != "session_id" and value is not None}
        yield f"an identity with {what}", identity({"a": 1}, **kept)
    for what, name in _NAMES.items():
        yield f"an event with {what}", event({"a": 1}, name=name)
    draw = random.Random(20)  # noqa: S311  a table, not a secret
    for number in range(60):
        yield f"event {number} of the drawn ones", event(_drawn(draw, 3), serial=number)


def _drawn(draw: random.Random, depth: int) -> dict[str, Any]:
    """Return an object with keys and values of every kind."""
    texts = ["", "a", "time", "$set", "id", "é\x00", '"', "x" * draw.randrange(400)]
    found: dict[str, Any] = {}
    for _ in range(draw.randrange(6)):
        kinds: list[Any] = [None, True, draw.randrange(-(2**40), 2**40), draw.random(), draw.choice(texts)]
        if depth:
            kinds += [_drawn(draw, depth - 1), [_drawn(draw, depth - 1)], [draw.choice(texts)]]
        found[draw.choice(texts)] = draw.choice(kinds)
    return found


def _text(data: Any) -> bytes:  # noqa: ANN401  any JSON
    return data if isinstance(data, bytes) else msgspec.json.encode({} if data is None else data)


def payloads(provider: HTTPProvider, record: Record) -> list[Payload]:
    """Return what a provider makes of a record, as a list."""
    found = provider.encode(record)
    if found is None:
        return []
    return [found] if isinstance(found, Payload) else list(found)


def strictly(text: bytes) -> Any:  # noqa: ANN401  any JSON
    """Return a JSON text decoded.

    Raises:
        ValueError: it is not UTF-8, not JSON, has ``NaN`` or a key twice in one object.
    """
    return json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"the key {twice[0]!r} stands twice in one object")
    return dict(pairs)


def _constant(text: str) -> Any:  # noqa: ANN401
    raise ValueError(f"{text} is not JSON")


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:  # noqa: ANN401
    """Return what is neither an object nor an array, by the keys and indexes that lead there."""
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = [(f"#{index}", item) for index, item in enumerate(value)]
    else:
        return {path: value}
    found: dict[tuple[str, ...], Any] = {}
    for key, item in inner:
        found |= leaves(item, (*path, key))
    return found
