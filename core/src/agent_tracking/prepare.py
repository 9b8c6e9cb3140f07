"""From an entry of the intake to the record that providers get: on the dispatcher's thread, once."""

from __future__ import annotations

from typing import Any

import msgspec

from agent_tracking.clock import seconds_of
from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.names import ID_CHARS, NAME_CHARS, IdPrefix, clean_id, clean_name, message_uuid
from agent_tracking.snapshot import IDENTITY

__all__ = ["Entry", "prepare"]


class Entry(msgspec.Struct, array_like=True, gc=False):
    """What ``track()`` and ``identify()`` append to the intake, as a JSON array of these fields."""

    kind: int
    number: int
    now: float
    name: Any
    data: msgspec.Raw
    user_id: Any
    anonymous_id: Any
    session_id: Any
    timestamp: Any
    message_id: Any
    salvaged: bool = False
    only: frozenset[str] | None = None
    never: frozenset[str] = frozenset()


_decode = msgspec.json.Decoder(Entry).decode


def prepare(entry: bytes, ids: IdPrefix) -> tuple[Record | str, bool]:
    """Return the record, or the reason why it is dropped, and whether anything in it was changed."""
    raw = _decode(entry)
    changed = raw.salvaged
    seconds = raw.now
    if raw.timestamp is not None:
        given = seconds_of(raw.timestamp)
        changed = changed or given is None
        seconds = raw.now if given is None else given
    user_id, anonymous_id = raw.user_id, raw.anonymous_id
    if user_id is not None:
        user_id = clean_id(user_id)
        changed = changed or (user_id is not raw.user_id and _lost(raw.user_id, user_id))
    if anonymous_id is not None:
        anonymous_id = clean_id(anonymous_id)
        changed = changed or _lost(raw.anonymous_id, anonymous_id)
    if raw.message_id is None:
        message_id = ids.uuid(raw.number)
    else:
        given_id = _message_id(raw.message_id)
        changed = changed or given_id is None
        message_id = given_id or ids.uuid(raw.number)
    data = bytes(raw.data)
    if data == b"null":
        data = b"{}"
    if raw.kind == IDENTITY:
        if user_id is None:
            return "bad-id", changed
        return Identity(
            message_id=message_id,
            time=seconds,
            user_id=user_id,
            anonymous_id=anonymous_id,
            traits_json=data,
            only=raw.only,
            never=raw.never,
        ), changed
    name = clean_name(raw.name)
    if name is None:
        return "bad-name", changed
    session_id = raw.session_id
    if session_id is not None:
        session_id = clean_id(session_id)
        changed = changed or _lost(raw.session_id, session_id)
    return TrackingEvent(
        message_id=message_id,
        time=seconds,
        user_id=user_id,
        anonymous_id=anonymous_id,
        session_id=session_id,
        name=name,
        properties_json=data,
        only=raw.only,
        never=raw.never,
    ), changed or len(raw.name) > len(name) == NAME_CHARS


def _message_id(given: object) -> str | None:
    """Return a message id given by the caller as a UUID, or ``None`` if it is none."""
    return message_uuid(given) if type(given) is str and given else None


def _lost(given: object, clean: str | None) -> bool:
    """Return whether an id was cut or is none; a placeholder is known to be none, so nothing is lost."""
    if type(given) is str:
        return clean is not None and len(given) > len(clean) == ID_CHARS
    return given is not None and clean is None and type(given) is not int
