"""What Amplitude takes of properties: https://amplitude.com/docs/apis/analytics/http-v2."""

from __future__ import annotations

import re
from typing import Any

import msgspec

__all__ = ["CHARACTERS", "DEPTH", "KEYS", "trim"]

#: Characters of a string; the server cuts there too.
CHARACTERS = 1024
#: Objects and arrays within each other, the outermost one included.
DEPTH = 40
#: Keys of an object; the vendor's own SDK drops the whole object when there are more.
KEYS = 1024

#: Sees a string that is too long if no string has a quote in it; may see one that is not there.
_long_string = re.compile(rb'"[^"]{%d}' % (CHARACTERS + 1)).search
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def trim(data: bytes) -> bytes:
    """Return a JSON object with what is too much cut off; the same bytes if nothing is."""
    if _is_small(data):
        return data
    given = _decode(data)
    kept = _cut(given, DEPTH)
    return data if kept == given else _encode(kept)


def _is_small(data: bytes) -> bool:
    """Return whether no limit can be exceeded, from the text alone: a ``True`` is certain."""
    if data.count(b"{") + data.count(b"[") > DEPTH:
        return False
    return len(data) <= CHARACTERS or (
        data.count(b",") < KEYS and b'\\"' not in data and _long_string(data) is None
    )


def _cut(value: Any, depth: int) -> Any:  # noqa: ANN401  any JSON value
    """Return the value with long strings and objects cut; what lies below ``depth`` becomes JSON text."""
    if isinstance(value, str):
        return value[:CHARACTERS]
    if not isinstance(value, (dict, list)):
        return value
    if depth == 0:
        return _encode(value).decode()[:CHARACTERS]
    if isinstance(value, list):
        return [_cut(item, depth - 1) for item in value]
    return {key: _cut(item, depth - 1) for key, item in list(value.items())[:KEYS]}
