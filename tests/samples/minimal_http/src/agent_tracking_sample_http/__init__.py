"""A complete provider for a backend that takes JSON arrays over HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agent_tracking import Endpoint, EnvVar, HTTPProvider, Identity, Payload, Request, TrackingEvent
from agent_tracking.http_provider import json_array


class SampleHTTPProvider(HTTPProvider):
    """Posts every record as ``{"id", "name", "user", "time", "data"}``."""

    name = "sample-http"
    env = (
        EnvVar("SAMPLE_HTTP_KEY", required=True, secret=True, help="the write key"),
        EnvVar("SAMPLE_HTTP_URL", required=True, help="where records are posted"),
    )
    endpoints = (Endpoint(records=100, record_bytes=500_000, body_bytes=500_000, gzip=True),)

    def encode(self, record: TrackingEvent | Identity) -> Payload:
        """Wrap the properties or the traits, which are JSON text already."""
        name = record.name if isinstance(record, TrackingEvent) else "$identify"
        head = {"id": record.message_id, "name": name, "user": record.user_id, "time": record.iso}
        text = json.dumps(head)[:-1].encode() + b',"data":' + record.data_json + b"}"
        return Payload(text, key=record.message_id)

    def request(self, endpoint: str, batch: Sequence[Payload]) -> Request:
        """Send the batch as one array."""
        headers = {
            "content-type": "application/json",
            "authorization": f"Key {self.values['SAMPLE_HTTP_KEY']}",
        }
        return Request(self.values["SAMPLE_HTTP_URL"], headers=headers, body=json_array(batch))
