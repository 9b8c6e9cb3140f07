"""What Mixpanel refuses in a record: reserved names, and too much of anything.

Numbers: https://developer.mixpanel.com/reference/import-events and
https://developer.mixpanel.com/reference/user-profile-limits
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from agent_tracking.events import Identity, TrackingEvent

__all__ = ["event_properties", "profile_properties"]

#: Keys of an object, items of an array: fewer than 255.
ITEMS = 254
#: Properties of an event that are not ours: nine of the 254 are.
PROPERTIES = ITEMS - 9
#: Properties of a profile.
PROFILE_PROPERTIES = 2000
#: Objects and arrays within each other, from a property's value on.
DEPTH = 3
#: Characters of a string.
CHARACTERS = 255
#: Bytes of a property that is an array or an object, as JSON: of an event, of a profile.
NESTED_BYTES = 8192
PROFILE_NESTED_BYTES = 262_144

#: Ours, or the vendor's: https://docs.mixpanel.com/docs/data-structure/property-reference/reserved-properties
_RESERVED = frozenset(
    {
        "time",
        "distinct_id",
        "$user_id",
        "$device_id",
        "$insert_id",
        "token",
        "mp_lib",
        "$lib_version",
        "bucket",
        "$bucket",
        "$ignore",
        "$source",
        "$time",
    }
)
_PLACE: dict[str, tuple[type, ...]] = {"$ip": (str,), "$latitude": (int, float), "$longitude": (int, float)}
_NO_PLACE = b',"$ip":"0"'

#: What an event's properties may have in them that is not just the caller's; the rest of them is skipped.
_Special = msgspec.defstruct(
    "_Special",
    [
        (f"key_{number}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)
        for number, _ in enumerate(sorted({*_RESERVED, "ip", "session_id"}))
    ],
    rename={f"key_{number}": key for number, key in enumerate(sorted({*_RESERVED, "ip", "session_id"}))},
)
_special = msgspec.json.Decoder(_Special).decode
_NOTHING_SPECIAL = _Special()

# A look that is quick, may see what is not there, and misses nothing: a string of more than 255 bytes, if no
# string has a quote in it.
_long_string = re.compile(rb'"[^"]{%d}' % (CHARACTERS + 1)).search

_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def event_properties(event: TrackingEvent) -> tuple[bytes, bool]:
    """Return what the event may say as a JSON object, and whether the end user's address is in it."""
    data = event.properties_json
    address = False
    if _special(data) != _NOTHING_SPECIAL:
        given = _top(data)
        reserved = _RESERVED | {"session_id"} if event.session_id else _RESERVED
        kept = {key: value for key, value in given.items() if key not in reserved}
        address = len(kept.get("ip", b"")) > 2 and bytes(kept["ip"])[:1] == b'"'
        if not address:
            kept.pop("ip", None)
        if len(kept) < len(given):
            data = _encode(kept)
    return data if _is_small(data) else _trim_event(data), address


def profile_properties(identity: Identity) -> tuple[bytes, bytes]:
    """Return the traits as a JSON object, and the place, which Mixpanel reads beside them."""
    data = identity.traits_json
    place = _NO_PLACE
    if b'"$' in data:
        given = _top(data)
        found = {key: msgspec.json.decode(given[key]) for key in _PLACE if key in given}
        if found:
            data = _encode({key: value for key, value in given.items() if key not in found})
        said = {key: value for key, value in found.items() if type(value) in _PLACE[key] and value != ""}
        place = b"," + _encode({"$ip": "0", **said})[1:-1]
    return data if _is_small(data) else _trim_profile(data), place


def _is_small(data: bytes) -> bool:
    """Return whether no limit can be exceeded, from the text alone: a ``True`` is certain."""
    if data.count(b"{") + data.count(b"[") > 1 + DEPTH:
        return False
    if len(data) <= CHARACTERS:
        return True
    return (
        len(data) <= NESTED_BYTES
        and data.count(b",") < PROPERTIES
        and b'\\"' not in data
        and _long_string(data) is None
    )


def _trim_event(data: bytes) -> bytes:
    """Return the properties with what is too much cut off; the same bytes if nothing is."""
    given = _decode(data)
    kept = {key: _fit(_cut(value, DEPTH), NESTED_BYTES) for key, value in list(given.items())[:PROPERTIES]}
    return data if kept == given else _encode(kept)


def _trim_profile(data: bytes) -> bytes:
    """Do the same for traits, which have fewer and wider limits."""
    given = _decode(data)
    first = list(given.items())[:PROFILE_PROPERTIES]
    kept = {key: _fit(value, PROFILE_NESTED_BYTES) for key, value in first}
    return data if kept == given else _encode(kept)


def _cut(value: Any, depth: int) -> Any:  # noqa: ANN401  any JSON value
    """Return the value with strings, arrays and objects cut; below ``depth`` they become JSON text."""
    if isinstance(value, str):
        return value[:CHARACTERS]
    if not isinstance(value, (dict, list)):
        return value
    if depth == 0:
        return _encode(value).decode()[:CHARACTERS]
    if isinstance(value, list):
        return [_cut(item, depth - 1) for item in value[:ITEMS]]
    return {key: _cut(item, depth - 1) for key, item in list(value.items())[:ITEMS]}


def _fit(value: Any, limit: int) -> Any:  # noqa: ANN401
    """Return an array or object with as many of its first items as fit into ``limit`` bytes."""
    if not isinstance(value, (dict, list)) or len(_encode(value)) <= limit:
        return value
    left = limit - 2
    keep = 0
    for item in value.items() if isinstance(value, dict) else value:
        # a pair is encoded as an array: one byte more than in an object
        left -= len(_encode(item)) + 1
        if left < 0:
            break
        keep += 1
    return dict(list(value.items())[:keep]) if isinstance(value, dict) else value[:keep]
