"""``enrich``: properties that every event gets, unless it has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agent_tracking.changes import data_json
from agent_tracking.events import TrackingEvent
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.processors.draft import Draft
from agent_tracking.processors.step import Misused, Step, close, factory

__all__ = ["enrich"]

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


@factory
def enrich(properties: Mapping[str, Any] | Callable[[TrackingEvent], Mapping[str, Any] | None]) -> Step:
    """Add properties to events that do not have them; identities stay as they are.

    Args:
        properties: what to add, converted as ``track()`` does; or a function of the event that returns it,
            or ``None``. If that fails the event goes on without them.

    Raises:
        ConfigurationError: it is neither.

    Example::

        configure(processors=[enrich({"service": "checkout", "version": "1.4.2"})])
    """
    if callable(properties):
        return Step("enrich", _asking(properties))
    given: object = properties
    if not isinstance(given, Mapping) or not given:
        raise ConfigurationError(
            "enrich() takes properties or a function of the event that returns some",
            fix='for example enrich({"service": "checkout"})',
        )
    added = _Added(dict(given))
    return Step("enrich", added.add)


def _asking(function: Callable[[TrackingEvent], object]) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        if type(draft.record) is not TrackingEvent:
            return
        event = draft.settle()
        properties = function(event)  # type: ignore[arg-type]
        if properties is not None and not isinstance(properties, Mapping):
            close(properties)
            raise Misused(f"got {type(properties).__name__} from its function, neither properties nor None")
        if properties:
            _Added(dict(properties)).add(draft)

    return change


class _Added:
    """Properties to add, as JSON."""

    def __init__(self, properties: dict[str, Any]) -> None:
        text = data_json(properties)
        self._data: dict[str, Any] = msgspec.json.decode(text)
        self._keys = [(_encode(key), _encode(key) + b":" + bytes(value)) for key, value in _raw(text).items()]

    def add(self, draft: Draft) -> None:
        """Add them to an event where they are absent."""
        if type(draft.record) is not TrackingEvent:
            return
        text = draft.text
        if text is None or b"\\u" in text or any(key in text for key, _ in self._keys):
            data = draft.data
            if any(key not in data for key in self._data):
                draft.data = {**data, **{key: item for key, item in self._data.items() if key not in data}}
            return
        # No key of theirs can be in there: what is added is written behind, and nothing decoded.
        body = text.strip()[1:-1].strip()
        draft.write(b"{%s}" % b",".join([*([body] if body else []), *(pair for _, pair in self._keys)]))
