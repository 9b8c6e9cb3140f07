"""Mixpanel: events go to ``POST {host}/import?strict=1``, identities to ``POST {host}/engage``.

``/import`` judges each record by itself and keeps the good ones:
https://developer.mixpanel.com/reference/import-events
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import (
    Delivered,
    Drop,
    Endpoint,
    HTTPProvider,
    Payload,
    Request,
    Response,
    Retry,
    Split,
    Stop,
    Verdict,
    json_array,
)
from agent_tracking.provider import EnvVar
from agent_tracking.urls import http_url
from agent_tracking_mixpanel.limits import event_properties, profile_properties

if TYPE_CHECKING:
    from collections.abc import Sequence

__version__ = "0.1.0"

__all__ = ["MixpanelProvider"]

#: Seconds before a throttled request is sent again, at least.
PAUSE = 2.0
#: What a Basic user name can carry; a token is 32 hexadecimal digits.
_TOKEN = re.compile(r"[!-9;-~]+")

_quote = msgspec.json.Encoder().encode
_OURS = b'"ip":0,"mp_lib":"agent-tracking","$lib_version":"%s"' % __version__.encode()
_NO_IP = _OURS.removeprefix(b'"ip":0,')


class MixpanelProvider(HTTPProvider):
    """Sends events and identities to Mixpanel."""

    name = "mixpanel"
    env: ClassVar[Sequence[EnvVar]] = (
        EnvVar("MIXPANEL_TOKEN", required=True, secret=True, help="the project's token"),
        EnvVar(
            "MIXPANEL_HOST",
            default="https://api.mixpanel.com",
            help="the region's host: https://api-eu.mixpanel.com, https://api-in.mixpanel.com",
        ),
    )
    # The prose says 2,000 records and 10 MB a request, the documented 413 says 2,097,152 bytes; 1 MB a
    # record. Profiles come first: events after an identity find the user known. /engage takes no gzip.
    endpoints: Sequence[Endpoint] = (
        Endpoint("engage", records=2000, record_bytes=1_000_000, body_bytes=1_990_000),
        Endpoint("import", records=2000, record_bytes=1_000_000, body_bytes=1_990_000, gzip=True),
    )

    def configure(self) -> None:
        """Check the token and the host, and prepare what all requests have in common."""
        token = self.values["MIXPANEL_TOKEN"]
        if not _TOKEN.fullmatch(token):
            raise ConfigurationError(
                "MIXPANEL_TOKEN has a character that no token has",
                fix="copy the token alone (Mixpanel: Settings > Project > Access keys)",
            )
        host = http_url("MIXPANEL_HOST", self.values["MIXPANEL_HOST"])
        self._token = _quote(token)
        self._urls = {
            "engage": f"{host}/engage?verbose=1&strict=1&ip=0",
            "import": f"{host}/import?strict=1",
        }
        common = {
            "content-type": "application/json",
            "accept": "application/json",
            "user-agent": f"agent-tracking-mixpanel/{__version__}",
        }
        basic = b64encode(f"{token}:".encode()).decode()
        self._headers = {"engage": common, "import": {**common, "authorization": f"Basic {basic}"}}

    def encode(self, record: Record) -> Payload | Sequence[Payload]:
        """Return an event; or a profile and, if there is an anonymous id, the event that merges it."""
        if isinstance(record, TrackingEvent):
            data, ours = event_properties(record)
            session = b""
            if record.session_id:
                session = b',"session_id":' + _quote(record.session_id)
            return _event(record, _quote(record.name), data, (_NO_IP if ours else _OURS) + session)
        profile = self._profile(record)
        if record.anonymous_id is None or record.anonymous_id == record.user_id:
            return profile
        return (profile, _merge(record, record.anonymous_id))

    def request(self, endpoint: str, batch: Sequence[Payload]) -> Request:
        """Return the request; profiles carry the token themselves, events are sent with it."""
        return Request(self._urls[endpoint], headers=self._headers[endpoint], body=json_array(batch))

    def judge(self, response: Response, batch: Sequence[Payload]) -> Verdict:
        """Read Mixpanel's own body, which names the refused records, or the failure behind a 200."""
        status = response.status
        profiles = batch[0].endpoint == "engage"
        if status == 401:
            return Stop(
                "Mixpanel refused the token: set MIXPANEL_TOKEN to the project's, MIXPANEL_HOST to its region"
            )
        if status == 429 or status >= 500:
            return Retry(at_least=PAUSE)
        if not (200 <= status < 300 or status == 400):
            return super().judge(response, batch)
        body = response.json()
        if refused := _refused(body, len(batch)):
            # the others of an /import are kept; of /engage it is not said, and a $set may be repeated
            return Drop(refused, rest=Retry(after=0) if profiles else Delivered())
        if status == 400:
            return Split()
        return _judge_profiles(body) if profiles else _judge_events(body)

    def _profile(self, identity: Identity) -> Payload:
        """Return the update of a profile; ``$ip`` "0" keeps the server's place out of it."""
        traits, place = profile_properties(identity)
        parts = (
            b'{"$token":',
            self._token,
            b',"$distinct_id":',
            _quote(identity.user_id),
            place,
            b',"$set":',
            traits,
            b"}",
        )
        return Payload(b"".join(parts), "engage", identity.message_id)


def _event(record: Record, name: bytes, data: bytes, ours: bytes) -> Payload:
    """Return an event whose properties are those of ``data``, a JSON object, and then ours."""
    key = record.message_id
    parts = (
        b'{"event":',
        name,
        b',"properties":',
        data[:-1],
        b',"time":' if len(data) > 2 else b'"time":',
        b'%d,"$insert_id":"%s",' % (record.time_ms, key.encode()),
        _ids(record.user_id, record.anonymous_id),
        ours,
        b"}}",
    )
    return Payload(b"".join(parts), "import", key)


def _ids(user: str | None, anonymous: str | None) -> bytes:
    """Return who it was, as Simplified ID Merge reads it, with a comma at the end."""
    if user is not None:
        quoted = _quote(user)
        ids = b'"distinct_id":%s,"$user_id":%s,' % (quoted, quoted)
        return ids if anonymous is None else b'%s"$device_id":%s,' % (ids, _quote(anonymous))
    if anonymous is not None:
        return b'"$device_id":%s,"distinct_id":%s,' % (_quote(anonymous), _quote(f"$device:{anonymous}"))
    return b'"distinct_id":"",'


def _merge(identity: Identity, anonymous: str) -> Payload:
    """Return the ``$identify`` event, in the words of both kinds of projects: original and Simplified."""
    data = b'{"$identified_id":%s,"$anon_id":%s}' % (_quote(identity.user_id), _quote(anonymous))
    return _event(identity, b'"$identify"', data, _OURS)


def _refused(body: Any, count: int) -> list[int]:  # noqa: ANN401  whatever the backend sent
    """Return the indexes that ``failed_records`` names."""
    records = body.get("failed_records") if isinstance(body, dict) else None
    if not isinstance(records, list):
        return []
    named = {record.get("index") for record in records if isinstance(record, dict)}
    return [index for index in range(count) if index in named]


def _judge_events(body: Any) -> Verdict:  # noqa: ANN401
    return Delivered() if isinstance(body, dict) and body.get("code") == 200 else Retry()


def _judge_profiles(body: Any) -> Verdict:  # noqa: ANN401
    """Judge ``{"status": 1}`` with ``verbose=1``, ``1`` without, where 0 is a failure behind a 200."""
    status = body.get("status") if isinstance(body, dict) else body
    if isinstance(status, bool) or status not in (0, 1, "OK"):
        return Retry()
    return Delivered() if status else Split()
