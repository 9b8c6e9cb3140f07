"""PostHog's capture service, version 0: one bad event and the whole batch is refused."""

from __future__ import annotations

import re
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

__all__ = ["PostHog"]

_PATHS = frozenset({"/batch", "/i/v0/e", "/capture", "/e", "/track", "/engage"})
_BODY_BYTES = 20 * 1024 * 1024
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_PERSON_EVENTS = frozenset({"$identify", "$create_alias", "$merge_dangerously", "$groupidentify"})
_CANNED = {
    401: "API key is not valid: personal_api_key",
    413: "maximum event size exceeded",
    429: "rate limited",
    503: "transient error, please retry",
}


class PostHog(Backend):
    """``/batch/`` and its aliases. The deduplication key is ``uuid``.

    An event without one gets a new one at each arrival, as the real server gives it: sent twice it
    counts twice. Person events with ``$process_person_profile: false`` are dropped after the 200, as
    the real pipeline does. A key that starts with ``phx_`` or ``invalid`` is refused with 401.
    """

    sniffs_gzip = True

    def __init__(self) -> None:
        super().__init__(environ={"POSTHOG_API_KEY": "phc_test_key_of_the_sink", "POSTHOG_HOST": "{url}"})

    def read(self, incoming: Incoming) -> Reading:
        """Read a batch object, an array of events or a single event."""
        if incoming.problem:
            return Reading(problem=f"failed to decode request: {incoming.problem}")
        try:
            body = incoming.json()
        except ValueError as error:
            return Reading(problem=f"failed to parse request: {error}")
        batch = body.get("batch", [body]) if isinstance(body, dict) else body
        if not are_records(batch):
            return Reading(problem="failed to parse request: expected events", envelope=body)
        return Reading(batch, [str(event.get("uuid") or uuid4()) for event in batch], envelope=body)

    def answer(self, incoming: Incoming, reading: Reading) -> Answer:
        """Take all events or none."""
        if wrong := misrouted(incoming, _PATHS):
            return wrong
        if incoming.raw_size > _BODY_BYTES:
            return self.too_large(_BODY_BYTES)
        if reading.problem or not reading.records:
            return Answer.text(400, reading.problem or "request holds no event")
        if refusal := _key_refusal(reading):
            return refusal
        problem = next(filter(None, map(_problem, reading.records)), "")
        if problem:
            return Answer.text(400, problem)
        kept = [index for index, event in enumerate(reading.records) if not _dropped_later(event)]
        return Answer.json(200, {"status": "Ok"}, kept=kept)

    def canned(self, status: int) -> Answer:
        """Return PostHog's text for a status."""
        return Answer.text(status, _CANNED.get(status, ""))

    def too_large(self, limit: int) -> Answer:  # noqa: ARG002  it does not say
        """Return PostHog's 413."""
        return self.canned(413)

    def poisoned(self, incoming: Incoming, reading: Reading, bad: Sequence[int]) -> Answer:  # noqa: ARG002
        """Refuse the whole batch without saying who is to blame."""
        return Answer.text(400, "failed to parse request: invalid type: map, expected a string")


def _key_refusal(reading: Reading) -> Answer | None:
    envelope = reading.envelope if isinstance(reading.envelope, dict) else {}
    first = reading.records[0]
    key = envelope.get("api_key") or envelope.get("token") or first.get("api_key") or first.get("token")
    if not key or not isinstance(key, str):
        return Answer.text(401, "event submitted without an api_key")
    if key.startswith(("phx_", "invalid")):
        return Answer.text(401, "API key is not valid: personal_api_key")
    return None


def _problem(event: Record) -> str:
    """Return why the server refuses the event, or nothing."""
    properties = event.get("properties", {})
    if not isinstance(properties, dict):
        return "failed to parse request: invalid type for properties, expected a map"
    wrong = _wrong_field(event, properties)
    if wrong:
        return f"failed to parse request: invalid value for {wrong}"
    if not event.get("event"):
        return "event submitted with an empty event name"
    if _blank(event.get("distinct_id")) and _blank(properties.get("distinct_id")):
        return "event submitted without a distinct_id"
    return ""


def _wrong_field(event: Record, properties: Record) -> str:
    if not isinstance(event.get("event", ""), str):
        return "event"
    uuid = event.get("uuid")
    if uuid is not None and (not isinstance(uuid, str) or (uuid and not _UUID.fullmatch(uuid))):
        return "uuid"
    for name, kind in (("timestamp", str), ("$set", dict), ("$set_once", dict)):
        value = event.get(name)
        if value is not None and not isinstance(value, kind):
            return name
    mode = properties.get("$cookieless_mode")
    return "$cookieless_mode" if mode is not None and not isinstance(mode, bool) else ""


def _blank(value: Any) -> bool:  # noqa: ANN401  any JSON
    return value is None or (isinstance(value, str) and not value.strip())


def _dropped_later(event: Record) -> bool:
    if event.get("event") not in _PERSON_EVENTS:
        return False
    properties = event.get("properties") or {}
    return properties.get("$process_person_profile") is False
