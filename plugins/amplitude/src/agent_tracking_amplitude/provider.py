"""Amplitude: every record is one event of ``POST {host}/2/httpapi``, or of ``/batch``.

https://amplitude.com/docs/apis/analytics/http-v2 and
https://amplitude.com/docs/apis/analytics/batch-event-upload
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, ClassVar

import msgspec

from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import (
    Endpoint,
    HTTPProvider,
    Payload,
    Request,
    Response,
    Verdict,
    json_array,
)
from agent_tracking.provider import EnvVar
from agent_tracking.urls import http_url
from agent_tracking_amplitude.answers import read
from agent_tracking_amplitude.limits import CHARACTERS, trim

if TYPE_CHECKING:
    from collections.abc import Sequence

__version__ = "0.1.0"

__all__ = ["AmplitudeProvider"]

# Of /2/httpapi: 1 MB and fewer than 2,000 events; the vendor's own SDK sends 200 at a time.
# Of /batch: 20 MB and 2,000 events; half of it, for the memory that a body takes.
_ENDPOINTS = {
    "httpapi": Endpoint("httpapi", records=200, record_bytes=1_000_000, body_bytes=1_000_000),
    "batch": Endpoint("batch", records=2000, record_bytes=1_000_000, body_bytes=10_000_000),
}
_PATHS = {"httpapi": "/2/httpapi", "batch": "/batch"}
#: Seconds for which those are left alone who sent too much.
_PAUSES = {"httpapi": 30.0, "batch": 15.0}

#: A session's start in milliseconds since 1970, the only thing that Amplitude takes for a session.
_EPOCH_MS = re.compile(r"[1-9][0-9]{12}")
_top = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_quote = msgspec.json.Encoder().encode
_LIBRARY = b',"library":"agent-tracking/%s"}' % __version__.encode()


class AmplitudeProvider(HTTPProvider):
    """Sends events and identities to Amplitude."""

    name = "amplitude"
    env: ClassVar[Sequence[EnvVar]] = (
        EnvVar("AMPLITUDE_API_KEY", required=True, secret=True, help="the project's API key"),
        EnvVar(
            "AMPLITUDE_HOST",
            default="https://api2.amplitude.com",
            help="the region's host: https://api.eu.amplitude.com in the EU",
        ),
        EnvVar(
            "AMPLITUDE_ENDPOINT",
            default="httpapi",
            help="httpapi, or batch for bursts of one user or device",
            importing="batch",  # https://amplitude.com/docs/data/data-backfill
        ),
    )
    endpoints: Sequence[Endpoint] = (_ENDPOINTS["httpapi"],)

    def configure(self) -> None:
        """Check the host and the endpoint, and prepare what all requests have in common."""
        host = http_url("AMPLITUDE_HOST", self.values["AMPLITUDE_HOST"])
        chosen = self.values["AMPLITUDE_ENDPOINT"].lower()
        if chosen not in _ENDPOINTS:
            raise ConfigurationError(
                "AMPLITUDE_ENDPOINT names no endpoint of Amplitude's", fix="set it to httpapi or batch"
            )
        self.endpoints = (_ENDPOINTS[chosen],)
        self._pause = _PAUSES[chosen]
        self._url = host + _PATHS[chosen]
        # Without min_id_length an id of fewer than five characters costs the whole request.
        self._head = (
            b'{"api_key":'
            + _quote(self.values["AMPLITUDE_API_KEY"])
            + b',"options":{"min_id_length":1},"events":'
        )
        self._headers = {
            "content-type": "application/json",
            "accept": "application/json",
            "user-agent": f"agent-tracking-amplitude/{__version__}",
        }

    def encode(self, record: Record) -> Payload:
        """Return the record as one event; an identity is a ``$identify`` event."""
        if isinstance(record, Identity):
            data = b',"user_properties":{"$set":' + trim(record.traits_json) + b"}"
            return _event(record, b'"$identify"', data)
        return _event(record, _quote(_event_type(record.name)), _properties(record))

    def request(self, endpoint: str, batch: Sequence[Payload]) -> Request:  # noqa: ARG002  there is one
        """Return the request; without ``client_upload_time``, so that a retry has the same bytes."""
        return Request(self._url, headers=self._headers, body=json_array(batch, self._head, b"}"))

    def judge(self, response: Response, batch: Sequence[Payload]) -> Verdict:
        """Read Amplitude's own body, which names the events for whose sake it took none."""
        return read(response, batch, self._pause) or super().judge(response, batch)


def _event(record: Record, event_type: bytes, data: bytes) -> Payload:
    key = record.message_id
    parts = (
        b'{"event_type":',
        event_type,
        _ids(record),
        b',"time":%d,"insert_id":"%s"' % (record.time_ms, key.encode()),
        data,
        _LIBRARY,
    )
    return Payload(b"".join(parts), key=key)


def _ids(record: Record) -> bytes:
    """Return who it was; for nobody a device of its own, as a shared one would be throttled."""
    user, device = record.user_id, record.anonymous_id
    if user is None:
        return b',"device_id":' + _quote((device or record.message_id)[:CHARACTERS])
    ids = b',"user_id":' + _quote(user[:CHARACTERS])
    return ids if device is None else ids + b',"device_id":' + _quote(device[:CHARACTERS])


def _event_type(name: str) -> str:
    """Return the name without a leading ``$``: such names are Amplitude's own."""
    return (name.lstrip("$") or "_") if name[0] == "$" else name


def _properties(event: TrackingEvent) -> bytes:
    """Return the properties, and the session where it can be."""
    data = trim(event.properties_json)
    session = event.session_id
    if not session:
        return b',"event_properties":' + data
    if _EPOCH_MS.fullmatch(session):
        return b',"event_properties":%s,"session_id":%s' % (data, session.encode())
    if b'"session_id":' in data:
        data = _quote({key: value for key, value in _top(data).items() if key != "session_id"})
    comma = b"," if len(data) > 2 else b""
    return b',"event_properties":%s%s"session_id":%s}' % (data[:-1], comma, _quote(session))
