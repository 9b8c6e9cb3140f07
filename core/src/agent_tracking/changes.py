"""``record.replace(...)``: what a processor's author gives, cleaned as ``track()`` cleans its arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from agent_tracking.clock import seconds_of
from agent_tracking.names import clean_id, clean_name, message_uuid
from agent_tracking.salvage import salvaged_data
from agent_tracking.snapshot import ENTRY_BYTES, OPTIONS, dumps, plain

__all__ = ["cleaned", "data_json"]


def data_json(data: object) -> bytes:
    """Return properties or traits as JSON text, converted as :mod:`agent_tracking.salvage` says.

    Raises:
        TypeError: it is no mapping.
        ValueError: it is longer than a record may be.
    """
    if data is None:
        return b"{}"
    if not isinstance(data, Mapping):
        raise TypeError(f"properties and traits must be a dict, not {type(data).__name__}")
    known = data if isinstance(data, dict) else dict(data)
    text = _dumped(known) or salvaged_data(known)
    if len(text) > ENTRY_BYTES:
        raise ValueError(f"{len(text)} bytes of properties or traits are more than {ENTRY_BYTES}")
    return text


def _dumped(data: dict[Any, Any]) -> bytes | None:
    if not plain(data):
        return None
    try:
        return dumps(data, None, OPTIONS)
    except TypeError:  # orjson's own errors are such
        return None


def cleaned(changes: Mapping[str, Any], known: Collection[str], data: str) -> dict[str, Any]:
    """Return the attributes of a record that change.

    Args:
        changes: the arguments of ``replace()``.
        known: the names that they may have.
        data: ``properties`` or ``traits``.

    Raises:
        TypeError: there is no such argument, or its value is of no type that it may be.
        ValueError: a value cannot be what it is for.
    """
    found: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in known:
            raise TypeError(f"replace() knows no {name!r}, but {', '.join(known)}")
        if name == data:
            found[f"{data}_json"] = data_json(value)
        else:
            found["time" if name == "timestamp" else name] = _CLEAN[name](value)
    return found


def _name(value: object) -> str:
    name = clean_name(value)
    if name is None:
        raise ValueError("the name of an event must be text and not empty")
    return name


def _time(value: object) -> float:
    iso = getattr(value, "isoformat", None)
    seconds = seconds_of(iso() if iso is not None else value)
    if seconds is None:
        raise ValueError("the timestamp must be a datetime, seconds since 1970 or ISO 8601 text")
    return seconds


def _message_id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("the message id must be text and not empty")
    return message_uuid(value)


def _never(value: Iterable[str]) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError("only and never take names of providers in a list")
    return frozenset(value)


_CLEAN: dict[str, Callable[[Any], object]] = {
    "name": _name,
    "user_id": clean_id,
    "anonymous_id": clean_id,
    "session_id": clean_id,
    "timestamp": _time,
    "message_id": _message_id,
    "only": lambda value: None if value is None else _never(value),
    "never": _never,
}
