"""PostHog: every record is one event of ``POST {host}/batch/``.

That endpoint takes events and identities of every name, on the hosted service and on self-hosted
servers: https://posthog.com/docs/api/capture
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import (
    Delivered,
    Endpoint,
    HTTPProvider,
    Payload,
    Request,
    Response,
    Retry,
    Stop,
    Verdict,
    json_array,
)
from agent_tracking.provider import EnvVar
from agent_tracking.urls import http_url
from agent_tracking_posthog.reserved import PERSONAL, needs_sifting, sift

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__version__ = "0.1.0"

__all__ = ["PostHogProvider"]

#: The app's hosts take no events; these are the hosts beside them that do.
#: https://posthog.com/docs/api#public-endpoints
INGESTION = {
    "app.posthog.com": "https://us.i.posthog.com",
    "us.posthog.com": "https://us.i.posthog.com",
    "eu.posthog.com": "https://eu.i.posthog.com",
}
#: What is so many seconds old may be sent as a migration: https://posthog.com/docs/migrate
HISTORICAL_SECONDS = 48 * 3600.0
#: Characters of a ``distinct_id`` that the server keeps.
ID_LENGTH = 200

#: Other session ids are left out of the session tables: https://posthog.com/docs/data/sessions
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)
_quote = msgspec.json.Encoder().encode

_OURS = (b'"$lib":"agent-tracking","$lib_version":"%s","$is_server":true') % __version__.encode()
_NO_PLACE = b',"$geoip_disable":true'
_NO_PERSON = b',"$process_person_profile":false'


class PostHogProvider(HTTPProvider):
    """Sends events and identities to PostHog."""

    name = "posthog"
    env: ClassVar[Sequence[EnvVar]] = (
        EnvVar("POSTHOG_API_KEY", required=True, secret=True, help="the project key, phc_..."),
        EnvVar(
            "POSTHOG_HOST",
            default="https://us.i.posthog.com",
            help="the ingestion host: https://eu.i.posthog.com in the EU, or your own",
        ),
        EnvVar(
            "POSTHOG_HISTORICAL",
            default="off",
            help="on: what is over two days old is sent as a historical migration",
            importing="on",
        ),
    )
    # The server takes 20 MB and any number of events; an event over 1 MB it throws away. These are
    # what the vendor's own SDK keeps to: 900 KiB an event, 5 MiB a body.
    endpoints: Sequence[Endpoint] = (
        Endpoint("batch", records=500, record_bytes=900 * 1024, body_bytes=5 * 1024 * 1024, gzip=True),
    )

    #: Seconds since 1970: what the age of a record is measured by, once, when the provider is made.
    clock: Callable[[], float] = staticmethod(time.time)

    def configure(self) -> None:
        """Check the key and the host, and prepare what all requests have in common."""
        key = self.values["POSTHOG_API_KEY"]
        if key.startswith("phx_"):
            raise ConfigurationError(
                "POSTHOG_API_KEY is a personal key",
                fix="use the project key, which begins with phc_ (PostHog: Settings > Project)",
            )
        host = http_url("POSTHOG_HOST", self.values["POSTHOG_HOST"])
        self._url = INGESTION.get(urlsplit(host).hostname or "", host) + "/batch/"
        self._head = b'{"api_key":' + _quote(key) + b',"batch":'
        historical = self.values["POSTHOG_HISTORICAL"].lower()
        if historical not in {"on", "off"}:
            raise ConfigurationError(
                "POSTHOG_HISTORICAL is neither on nor off", fix="set it to on or off, or unset it"
            )
        #: What happened before is sent as a migration.
        self._old = self.clock() - HISTORICAL_SECONDS if historical == "on" else 0.0
        if historical == "on":
            self.endpoints = (*self.endpoints, replace(self.endpoints[0], name="historical"))
        self._headers = {
            "content-type": "application/json",
            "user-agent": f"agent-tracking-posthog/{__version__}",
        }

    def encode(self, record: Record) -> Payload:
        """Return the record as one event; an identity is a ``$identify`` event."""
        payload = self._payload(record)
        return replace(payload, endpoint="historical") if record.time < self._old else payload

    def _payload(self, record: Record) -> Payload:
        if isinstance(record, Identity):
            return _identify(record)
        data, tail = _properties(record)
        comma = b"," if len(data) > 2 else b""
        return _event(
            record, _quote(record.name), record.user_id or record.anonymous_id, data[:-1] + comma + tail
        )

    def request(self, endpoint: str, batch: Sequence[Payload]) -> Request:
        """Return the request; without ``sent_at``, so that a retry has the same bytes."""
        tail = b',"historical_migration":true}' if endpoint == "historical" else b"}"
        return Request(self._url, headers=self._headers, body=json_array(batch, self._head, tail))

    def judge(self, response: Response, batch: Sequence[Payload]) -> Verdict:
        """Read PostHog's own words: only its ``{"status": "Ok"}`` (or ``1``) means delivered."""
        if 200 <= response.status < 300:
            body = response.json()
            ours = isinstance(body, dict) and body.get("status") in ("Ok", 1)
            return Delivered() if ours else Retry()
        if response.status == 401:
            return Stop("PostHog refused the key: set POSTHOG_API_KEY to the project's key of this region")
        return super().judge(response, batch)


def _event(record: Record, name: bytes, distinct_id: str | None, properties: bytes) -> Payload:
    """Return an event; ``properties`` is JSON text that still lacks its last ``}``."""
    key = record.message_id
    return Payload(
        b"".join(
            (
                b'{"event":',
                name,
                b',"distinct_id":',
                _quote((distinct_id or key)[:ID_LENGTH]),
                f',"uuid":"{key}","timestamp":"{record.iso}","properties":'.encode(),
                properties,
                b"}}",
            )
        ),
        "batch",
        key,
    )


def _identify(identity: Identity) -> Payload:
    """Return what sets the traits, and merges the anonymous id if there is one."""
    merge = b""
    if identity.anonymous_id and identity.anonymous_id != identity.user_id:
        merge = b'"$anon_distinct_id":' + _quote(identity.anonymous_id[:ID_LENGTH]) + b","
    properties = b"".join((b'{"$set":', identity.traits_json, b",", merge, _OURS, _NO_PLACE))
    return _event(identity, b'"$identify"', identity.user_id, properties)


def _properties(event: TrackingEvent) -> tuple[bytes, bytes]:
    """Return the caller's properties without what is reserved, and ours to go behind them."""
    data = event.properties_json
    session, tail = "", _OURS
    if event.session_id:
        session = "$session_id" if _UUID7.fullmatch(event.session_id) else "session_id"
        tail = b'%s,"%s":%s' % (tail, session.encode(), _quote(event.session_id))
    no_person = event.user_id is None and event.name not in PERSONAL
    if not needs_sifting(data) and event.name[0] != "$":
        return data, tail + _NO_PLACE + _NO_PERSON if no_person else tail + _NO_PLACE
    sifted = sift(event, session)
    if not sifted.place:
        tail += _NO_PLACE
    if no_person and not sifted.person:
        tail += _NO_PERSON
    return sifted.data, tail
