"""Strict mode: what would be salvaged or dropped raises where it was passed."""

from __future__ import annotations

from agent_tracking.contexts import CURRENT
from agent_tracking.exceptions import TrackingError
from agent_tracking.names import clean_id, clean_name
from agent_tracking.salvage import is_changed
from agent_tracking.snapshot import ENTRY_BYTES, OPTIONS, dumps, plain
from agent_tracking.typed import event_of

__all__ = ["check"]


def check(name: object, data: object, user_id: object) -> None:
    """Raise ``TrackingError`` for a record that would not be sent exactly as it was passed."""
    if clean_name(name if type(name) is str else _name_of_typed(name)) is None:
        raise TrackingError(
            f"strict mode: an event's name must be text and not empty, not {type(name).__name__}"
        )
    if user_id != "" and clean_id(user_id) is None:
        raise TrackingError(
            "strict mode: identify() needs a user id that is text or an int, and no placeholder"
        )
    if (bound := CURRENT.get()) is not None and bound.any_changed():
        raise TrackingError("strict mode: an id or a property of the context() around this call has no JSON")
    if data is not None and type(data) is not dict:
        raise TrackingError(f"strict mode: properties and traits must be a dict, not {type(data).__name__}")
    if not plain(data):
        if is_changed(data):
            raise TrackingError(
                "strict mode: the properties or traits are too many, too long, nested too deep, or of a type"
                " that has no JSON"
            )
        return
    try:
        size = len(dumps(data, None, OPTIONS))
    except Exception as error:  # noqa: BLE001  orjson's own and whatever the data's code raised
        raise TrackingError(f"strict mode: the properties or traits are not JSON: {error}") from None
    if size > ENTRY_BYTES:
        raise TrackingError(f"strict mode: {size} bytes of properties are more than {ENTRY_BYTES}")


def _name_of_typed(event: object) -> object:
    """Return the name of a typed event; what is none comes back as it is."""
    typed = event_of(event)
    if typed is None:
        return event
    if is_changed(typed[1]):
        raise TrackingError(
            "strict mode: the fields of the event are too many, too long, nested too deep, or of a type that"
            " has no JSON"
        )
    return typed[0]
