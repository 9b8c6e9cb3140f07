"""The four ways in which records are put into a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from agent_tracking.events import Identity, Record
from agent_tracking.http_provider import Endpoint, Payload, json_array

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["FORMATS", "Format"]

#: What CloudEvents allows in no attribute:
#: https://github.com/cloudevents/spec/blob/main/cloudevents/spec.md#type-system
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_quote = msgspec.json.Encoder().encode


class Format(msgspec.Struct, frozen=True):
    """One way: what a record becomes, and what a batch of them.

    Args:
        content_type: the media type of a body.
        encode: returns a record's bytes.
        body: returns the body of a batch.
        endpoint: how much one request may carry.
    """

    content_type: str
    encode: Callable[[Record], bytes]
    body: Callable[[Sequence[Payload]], bytes]
    endpoint: Endpoint


def _record(record: Record) -> bytes:
    """Return the record as an object; what is unknown is left out."""
    if isinstance(record, Identity):
        name, field, data, session = b'"$identify"', b',"traits":', record.traits_json, None
    else:
        name, field, data = _quote(record.name), b',"properties":', record.properties_json
        session = record.session_id
    ids = b""
    if record.user_id is not None:
        ids = b',"userId":' + _quote(record.user_id)
    if record.anonymous_id is not None:
        ids += b',"anonymousId":' + _quote(record.anonymous_id)
    if session is not None:
        ids += b',"sessionId":' + _quote(session)
    head = f'{{"id":"{record.message_id}","event":'.encode()
    return b"".join((head, name, field, data, ids, f',"timestamp":"{record.iso}"}}'.encode()))


def _cloud_event(record: Record) -> bytes:
    """Return the record as the data of a CloudEvent whose type is the event's name."""
    name = "$identify" if isinstance(record, Identity) else _CONTROL.sub(" ", record.name)
    parts = (
        b'{"specversion":"1.0","id":"',
        record.message_id.encode(),
        b'","source":"/agent-tracking","type":',
        _quote(name),
        b',"time":"',
        record.iso.encode(),
        b'","datacontenttype":"application/json","data":',
        _record(record),
        b"}",
    )
    return b"".join(parts)


def _object(batch: Sequence[Payload]) -> bytes:
    return batch[0].body


def _lines(batch: Sequence[Payload]) -> bytes:
    return b"".join([payload.body + b"\n" for payload in batch])


# No receiver says what it takes. 900 kB is below the 1 MB at which common proxies answer 413; a receiver
# with less says so, and the batch is split.
_BATCH = Endpoint("batch", records=100, record_bytes=900_000, body_bytes=900_000)
_SINGLE = Endpoint("single", records=1, record_bytes=900_000, body_bytes=900_000)

#: By the value of the variable.
FORMATS = {
    "array": Format("application/json", _record, json_array, _BATCH),
    "object": Format("application/json", _record, _object, _SINGLE),
    "ndjson": Format("application/x-ndjson", _record, _lines, _BATCH),
    "cloudevents": Format("application/cloudevents-batch+json", _cloud_event, json_array, _BATCH),
}
