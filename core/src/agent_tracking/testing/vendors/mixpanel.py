"""Mixpanel: events, judged one by one, and profile updates, which have no id of their own."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec
import orjson

from agent_tracking.testing.backends import (
    Answer,
    Backend,
    Incoming,
    Reading,
    Record,
    are_records,
    digest,
    json_records,
    misrouted,
)

__all__ = ["Mixpanel"]

_PATHS = frozenset({"/import", "/engage", "/groups"})
_BODY_BYTES = 2_097_152
_EVENT_BYTES = 1_048_576
_RECORDS = 2_000
_KEYS = 255
_NESTING = 3
_EARLIEST = 31_536_000  # 1971-01-01 in seconds
_INSERT_ID = re.compile(r"[A-Za-z0-9-]{1,36}")
_PLACEHOLDERS = frozenset(
    {
        "00000000-0000-0000-0000-000000000000", "anon", "anonymous", "nil", "none", "null", "n/a", "na",
        "undefined", "unknown", "<nil>", "0", "-1", "true", "false", "[]", "{}",
    }
)  # fmt: skip
_OPERATIONS = ("$set", "$set_once", "$add", "$append", "$union", "$remove", "$unset", "$delete")
_REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
}
_ERRORS = {
    401: "Invalid credentials",
    429: "Project exceeded rate limits. Please retry the request with exponential backoff.",
}

_raws = msgspec.json.Decoder(list[msgspec.Raw])


class Mixpanel(Backend):
    """``/import``, ``/engage`` and ``/groups``.

    The deduplication key of an event is ``properties.$insert_id``. A profile update has no id on the
    wire: its key is a digest of its bytes, so two updates of the same content are one key. ``/import``
    wants Basic authentication with the token as the user name; one that starts with ``invalid`` is
    refused. ``/engage`` and ``/groups`` answer 200 also when they take nothing, and refuse gzip.
    """

    def __init__(self) -> None:
        super().__init__(environ={"MIXPANEL_TOKEN": "test-token-of-the-sink", "MIXPANEL_HOST": "{url}"})

    def read(self, incoming: Incoming) -> Reading:
        """Read events or profile updates."""
        if incoming.problem:
            return Reading(problem=incoming.problem)
        try:
            if _is_profile(incoming):
                body = incoming.body if incoming.body.lstrip()[:1] == b"[" else b"[" + incoming.body + b"]"
                return _updates([bytes(raw).strip() for raw in _raws.decode(body)])
            records = json_records(incoming)
        except (ValueError, msgspec.DecodeError) as error:
            return Reading(problem=str(error))
        return Reading(records, [_insert_id(record) for record in records])

    def answer(self, incoming: Incoming, reading: Reading) -> Answer:
        """Answer as the endpoint does."""
        if wrong := misrouted(incoming, _PATHS):
            return wrong
        return _profiles(incoming, reading) if _is_profile(incoming) else self._import(incoming, reading)

    def canned(self, status: int) -> Answer:
        """Return Mixpanel's JSON for a status; nothing for 5xx."""
        if status >= 500 or status not in _REASONS:
            return Answer.text(status)
        reason = _REASONS[status]
        return Answer.json(status, {"code": status, "error": _ERRORS.get(status, reason), "status": reason})

    def too_large(self, limit: int) -> Answer:
        """Return Mixpanel's 413."""
        error = f"request exceeds max limit of {limit} bytes"
        return Answer.json(413, {"code": 413, "error": error, "status": _REASONS[413]})

    def poisoned(self, incoming: Incoming, reading: Reading, bad: Sequence[int]) -> Answer:
        """Name the bad events and keep the others; refuse profile updates as a whole."""
        if _is_profile(incoming):
            return _said(incoming, "a profile update is not valid")
        failed = dict.fromkeys(bad, ("properties", "'properties' is invalid"))
        return _partly(reading, failed)

    def _import(self, incoming: Incoming, reading: Reading) -> Answer:
        if not _token(incoming.headers.get("authorization", "")):
            return self.canned(401)
        if len(incoming.body) > _BODY_BYTES:
            return self.too_large(_BODY_BYTES)
        error = reading.problem
        if len(reading.records) > _RECORDS:
            error = f"request exceeds max limit of {_RECORDS} events"
        if error:
            return Answer.json(400, {"code": 400, "error": error, "status": _REASONS[400]})
        sized = len(incoming.body) > _EVENT_BYTES
        found = ((index, _fault_of(record, sized=sized)) for index, record in enumerate(reading.records))
        failed = {index: fault for index, fault in found if fault}
        if failed and incoming.query.get("strict") == "1":
            return _partly(reading, failed)
        kept = [index for index in range(len(reading.records)) if index not in failed]
        return Answer.json(200, {"code": 200, "num_records_imported": len(kept), "status": "OK"}, kept=kept)


def _is_profile(incoming: Incoming) -> bool:
    return incoming.path.rstrip("/") in {"/engage", "/groups"}


def _updates(raws: Sequence[bytes]) -> Reading:
    records = [orjson.loads(raw) for raw in raws]
    if not are_records(records):
        return Reading(problem="neither an object nor an array of objects")
    return Reading(records, [digest(raw) for raw in raws])


def _insert_id(record: Record) -> str:
    properties = record.get("properties")
    found = properties.get("$insert_id") if isinstance(properties, dict) else None
    return str(found or uuid4())


def _token(authorization: str) -> str:
    """Return the user name of Basic authentication, or nothing if it is not valid."""
    scheme, _, code = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        name = base64.b64decode(code, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return "" if name.startswith("invalid") else name


def _partly(reading: Reading, failed: dict[int, tuple[str, str]]) -> Answer:
    kept = [index for index in range(len(reading.records)) if index not in failed]
    body = {
        "code": 400,
        "error": "some data points in the request failed validation",
        "failed_records": [
            {"index": index, "insert_id": reading.keys[index], "field": field, "message": message}
            for index, (field, message) in failed.items()
        ],
        "num_records_imported": len(kept),
        "status": "Bad Request",
    }
    return Answer.json(400, body, kept=kept)


def _fault_of(record: Record, *, sized: bool) -> tuple[str, str] | None:
    """Return the field at fault and why; ``None`` for a valid event."""
    properties = record.get("properties")
    if not isinstance(properties, dict):
        return "properties", "'properties' is missing or not an object"
    field = _wrong_field(record, properties)
    if field:
        return field, f"{field!r} is invalid"
    if len(properties) >= _KEYS:
        return "properties", f"'properties' has {_KEYS} keys or more"
    for name, value in properties.items():
        if isinstance(value, (dict, list)) and not _shallow(value, _NESTING):
            return f"properties.{name}", "too deep, or too many keys or items"
    if sized and len(orjson.dumps(record)) > _EVENT_BYTES:
        return "event", "event is larger than 1 MB"
    return None


def _wrong_field(record: Record, properties: Record) -> str:
    name = record.get("event")
    if not isinstance(name, str) or not 1 <= len(name) <= 255:
        return "event"
    time = properties.get("time")
    if not isinstance(time, int) or isinstance(time, bool) or time < _EARLIEST:
        return "properties.time"
    who = properties.get("distinct_id")
    if not isinstance(who, str) or who.strip().casefold() in _PLACEHOLDERS:
        return "properties.distinct_id"
    key = properties.get("$insert_id")
    if not isinstance(key, str) or not _INSERT_ID.fullmatch(key) or key.casefold() in _PLACEHOLDERS:
        return "properties.$insert_id"
    return ""


def _shallow(value: Any, levels: int) -> bool:  # noqa: ANN401  any JSON
    if isinstance(value, dict):
        return levels > 0 and len(value) < _KEYS and all(_shallow(v, levels - 1) for v in value.values())
    if isinstance(value, list):
        return len(value) < _KEYS and all(_shallow(v, levels) for v in value)
    return True


def _profiles(incoming: Incoming, reading: Reading) -> Answer:
    if incoming.headers.get("content-encoding"):
        return Answer.text(400, "content-encoding is not supported")
    error = reading.problem
    if len(reading.records) > _RECORDS:
        error = f"more than {_RECORDS} updates"
    identified = ("$distinct_id",) if incoming.path.startswith("/engage") else ("$group_key", "$group_id")
    for record in reading.records:
        error = error or _profile_problem(record, ("$token", *identified))
    return _said(incoming, error)


def _said(incoming: Incoming, error: str) -> Answer:
    if incoming.query.get("verbose") == "1":
        body = {"status": 0 if error else 1, "error": error or None}
        return Answer.json(200, body, kept=() if error else None)
    return Answer.text(200, "0" if error else "1", kept=() if error else None)


def _profile_problem(record: Record, required: Sequence[str]) -> str:
    for name in required:
        if not record.get(name) or not isinstance(record[name], str):
            return f"{name}, missing or empty"
    if record["$token"].startswith("invalid"):
        return "$token, not valid"
    found = [name for name in _OPERATIONS if name in record]
    return "" if len(found) == 1 else f"one operation is required, found {len(found)}"
