"""Webhook: every record as JSON to an address of your own, alone or in batches."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import (
    Delivered,
    Drop,
    HTTPProvider,
    Payload,
    Request,
    Response,
    Split,
    Stop,
    Verdict,
)
from agent_tracking.provider import EnvVar
from agent_tracking.urls import http_url
from agent_tracking_webhook.formats import FORMATS
from agent_tracking_webhook.signing import batch_id, signatures, signing_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent_tracking.events import Record

__version__ = "0.1.0"

__all__ = ["WebhookProvider"]


class WebhookProvider(HTTPProvider):
    """Sends events and identities to an address of your own."""

    name = "webhook"
    env: ClassVar[Sequence[EnvVar]] = (
        EnvVar("TRACKING_WEBHOOK_URL", required=True, secret=True, help="where records are posted"),
        EnvVar("TRACKING_WEBHOOK_AUTH", secret=True, help="the Authorization header, e.g. Bearer ..."),
        EnvVar(
            "TRACKING_WEBHOOK_FORMAT",
            default="array",
            help="array, object (one record a request), ndjson or cloudevents",
        ),
        EnvVar(
            "TRACKING_WEBHOOK_SECRET",
            secret=True,
            help="whsec_..., to sign requests by Standard Webhooks; two of them while one replaces the other",
        ),
    )
    endpoints = (FORMATS["array"].endpoint,)

    #: What the time of a signature is taken from: seconds since 1970.
    clock: Callable[[], float] = staticmethod(time.time)

    def configure(self) -> None:
        """Check all four values, and prepare what all requests have in common."""
        self._url = http_url(
            "TRACKING_WEBHOOK_URL",
            self.values["TRACKING_WEBHOOK_URL"],
            exact=True,
            credentials="TRACKING_WEBHOOK_AUTH",
        )
        chosen = self.values["TRACKING_WEBHOOK_FORMAT"].lower()
        if chosen not in FORMATS:
            raise ConfigurationError(
                "TRACKING_WEBHOOK_FORMAT names no format", fix=f"set it to one of {', '.join(FORMATS)}"
            )
        self._format = FORMATS[chosen]
        self.endpoints = (self._format.endpoint,)
        self._keys = signing_keys("TRACKING_WEBHOOK_SECRET", self.values.get("TRACKING_WEBHOOK_SECRET", ""))
        self._headers = {
            "content-type": self._format.content_type,
            "user-agent": f"agent-tracking-webhook/{__version__}",
        }
        if auth := self.values.get("TRACKING_WEBHOOK_AUTH"):
            self._headers["authorization"] = _header("TRACKING_WEBHOOK_AUTH", auth)

    def encode(self, record: Record) -> Payload:
        """Return the record in the chosen format."""
        return Payload(self._format.encode(record), key=record.message_id)

    def request(self, endpoint: str, batch: Sequence[Payload]) -> Request:  # noqa: ARG002  there is one
        """Return the request; its ``webhook-id`` and body are the same on every try."""
        body = self._format.body(batch)
        headers = {**self._headers, "webhook-id": batch_id(batch)}
        if self._keys:
            now = str(int(self.clock()))
            headers["webhook-timestamp"] = now
            headers["webhook-signature"] = signatures(self._keys, headers["webhook-id"], now, body)
        return Request(self._url, headers=headers, body=body)

    def judge(self, response: Response, batch: Sequence[Payload]) -> Verdict:
        """Go by the status: any 2xx is delivered, 410 wants no more, 401 is not final elsewhere."""
        status = response.status
        if 200 <= status < 300:
            return Delivered()
        if status == 410:
            return Stop("the webhook answered 410 Gone: it wants no more")
        if status == 401:
            return Drop()
        verdict = super().judge(response, batch)
        if isinstance(verdict, Split) and len(batch) == 1:
            return Drop(reason=verdict.reason)
        return verdict


def _header(variable: str, value: str) -> str:
    """Return ``value`` if a header can carry it: Latin-1 without control characters."""
    if any(not (" " <= char <= "~" or "\xa0" <= char <= "\xff") for char in value):
        raise ConfigurationError(
            f"{variable} has a character that no header can carry",
            fix="check it for line breaks and for characters outside of Latin-1",
        )
    return value
