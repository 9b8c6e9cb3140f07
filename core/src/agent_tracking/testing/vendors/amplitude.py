"""Amplitude: one bad event and nothing is ingested; the answer names the first bad one only."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from agent_tracking.testing.backends import (
    Answer,
    Backend,
    Incoming,
    Reading,
    Record,
    are_records,
    misrouted,
)

__all__ = ["Amplitude"]

_BODY_BYTES = {"/2/httpapi": 1_048_576, "/batch": 20 * 1_048_576}
_EVENTS = 2_000
_MIN_ID_LENGTH = 5
#: Smaller times are seconds, which would land in 1970.
_SECONDS = 100_000_000_000
_PLACEHOLDERS = frozenset(
    {
        "anonymous", "nil", "none", "null", "n/a", "na", "undefined", "unknown", "", "{}", "lmy47d", "0",
        "-1", "00000000-0000-0000-0000-000000000000",
    }
)  # fmt: skip
_OBJECTS = ("event_properties", "user_properties", "groups", "group_properties")
_OPERATORS = frozenset(
    {
        "$set", "$setOnce", "$add", "$append", "$prepend", "$unset", "$preInsert", "$postInsert", "$remove",
    }
)  # fmt: skip
_ERRORS = {
    400: "Bad Request",
    403: "Forbidden",
    413: "Payload too large",
    429: "Too many requests for some devices and users",
}
_MISSING, _INVALID, _SHORT = (
    "events_with_missing_fields",
    "events_with_invalid_fields",
    "events_with_invalid_id_lengths",
)
_SAYS = {
    _MISSING: "Request missing required field",
    _INVALID: "Invalid field values on some events",
    _SHORT: "Invalid id length for user_id or device_id",
}


class Amplitude(Backend):
    """``/2/httpapi`` and ``/batch``. The deduplication key is ``insert_id``.

    An event without one gets a new one at each arrival: sent twice it counts twice. An API key that
    starts with ``invalid`` is refused. Ids shorter than ``options.min_id_length`` (5), ids that are not
    text, placeholders, and times in seconds cost the whole batch.
    """

    def __init__(self) -> None:
        super().__init__(environ={"AMPLITUDE_API_KEY": "test-key-of-the-sink", "AMPLITUDE_HOST": "{url}"})

    def read(self, incoming: Incoming) -> Reading:
        """Read the events of a request."""
        if incoming.problem:
            return Reading(problem=incoming.problem)
        try:
            body = incoming.json()
        except ValueError:
            return Reading(problem="Invalid JSON request body")
        events = body.get("events", []) if isinstance(body, dict) else None
        if not are_records(events):
            return Reading(problem="Invalid JSON request body", envelope=body)
        return Reading(events, [str(event.get("insert_id") or uuid4()) for event in events], envelope=body)

    def answer(self, incoming: Incoming, reading: Reading) -> Answer:
        """Ingest all events or none."""
        if wrong := misrouted(incoming, _BODY_BYTES):
            return wrong
        limit = _BODY_BYTES[incoming.path.rstrip("/")]
        if len(incoming.body) > limit or len(reading.records) > _EVENTS:
            return self.too_large(limit)
        if reading.problem:
            return Answer.json(400, {"code": 400, "error": reading.problem})
        if refusal := self._request_refusal(reading):
            return refusal
        shortest = _shortest(reading.envelope)
        for index, event in enumerate(reading.records):
            if problem := _problem(event, shortest):
                return _refused(*problem, index)
        body = {
            "code": 200,
            "events_ingested": len(reading.records),
            "payload_size_bytes": len(incoming.body),
            "server_upload_time": int(time.time() * 1000),
        }
        return Answer.json(200, body)

    def canned(self, status: int) -> Answer:
        """Return Amplitude's JSON for a status; nothing for 5xx."""
        if status not in _ERRORS:
            return Answer.text(status)
        body: dict[str, object] = {"code": status, "error": _ERRORS[status]}
        if status == 429:
            body |= {"eps_threshold": 30, "throttled_users": {}, "throttled_devices": {}}
        return Answer.json(status, body)

    def unauthorized(self) -> Answer:
        """Return Amplitude's 400 for a wrong key."""
        return Answer.json(400, {"code": 400, "error": "Invalid API key: (as sent)"})

    def too_large(self, limit: int) -> Answer:  # noqa: ARG002  it does not say
        """Return Amplitude's 413."""
        return self.canned(413)

    def poisoned(self, incoming: Incoming, reading: Reading, bad: Sequence[int]) -> Answer:  # noqa: ARG002
        """Keep nothing and name the first bad event."""
        return _refused(_INVALID, "event_properties", bad[0])

    def _request_refusal(self, reading: Reading) -> Answer | None:
        envelope = reading.envelope
        for field in ("api_key", "events"):
            if not envelope.get(field):
                body = {"code": 400, "error": _SAYS[_MISSING], "missing_field": field}
                return Answer.json(400, body)
        key = envelope["api_key"]
        return self.unauthorized() if not isinstance(key, str) or key.startswith("invalid") else None


def _shortest(envelope: Record) -> int:
    options = envelope.get("options")
    found = options.get("min_id_length") if isinstance(options, dict) else None
    return found if isinstance(found, int) and found > 0 else _MIN_ID_LENGTH


def _refused(kind: str, field: str, index: int) -> Answer:
    return Answer.json(400, {"code": 400, "error": _SAYS[kind], kind: {field: [index]}}, kept=())


def _problem(event: Record, shortest: int) -> tuple[str, str] | None:
    """Return the list that the event belongs into and the field at fault; ``None`` for a valid event."""
    name = event.get("event_type")
    if not name:
        return _MISSING, "event_type"
    if not isinstance(name, str) or len(name) > 1024:
        return _INVALID, "event_type"
    ids = [field for field in ("user_id", "device_id") if event.get(field) is not None]
    if not ids and not (name == "$groupidentify" and event.get("groups")):
        return _MISSING, "user_id"
    for field in ids:
        value = event[field]
        if not isinstance(value, str) or value.strip().casefold() in _PLACEHOLDERS:
            return _INVALID, field
        if len(value) < shortest:
            return _SHORT, field
    wrong = _wrong_field(event)
    return (_INVALID, wrong) if wrong else None


def _wrong_field(event: Record) -> str:
    when = event.get("time")
    if when is not None and (not _is_int(when) or 0 < when < _SECONDS):
        return "time"
    if event.get("session_id") is not None and not _is_int(event["session_id"]):
        return "session_id"
    if not isinstance(event.get("insert_id", ""), str):
        return "insert_id"
    for field in _OBJECTS:
        if not isinstance(event.get(field, {}), dict):
            return field
    properties = event.get("user_properties", {})
    operators = len(_OPERATORS & properties.keys())
    return "user_properties" if operators and operators != len(properties) else ""


def _is_int(value: Any) -> bool:  # noqa: ANN401  any JSON
    return isinstance(value, int) and not isinstance(value, bool)
