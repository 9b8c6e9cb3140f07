"""For authors: a provider that speaks HTTP is three pure methods, ``encode``, ``request``, ``judge``.

The core owns everything else: threads, connections, deadlines, retries with the same bytes, splitting,
compression, counting. A complete provider::

    class AcmeProvider(HTTPProvider):
        name = "acme"
        env = (EnvVar("ACME_KEY", required=True, secret=True, help="the project's write key"),)
        endpoints = (Endpoint("events", records=500, body_bytes=500_000, gzip=True),)

        def encode(self, record):
            return Payload(b'{"id":"%s","data":%s}' % (record.message_id.encode(), record.data_json))

        def request(self, endpoint, batch):
            return Request(
                "https://api.acme.example/v1/events",
                headers={"authorization": f"Bearer {self.values['ACME_KEY']}"},
                body=json_array(batch),
            )
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.exceptions import ProviderError
from agent_tracking.provider import Provider

__all__ = [
    "Delivered",
    "Drop",
    "Endpoint",
    "HTTPProvider",
    "Payload",
    "Request",
    "Response",
    "Retry",
    "Split",
    "Stop",
    "Verdict",
    "json_array",
]


class Endpoint(msgspec.Struct, frozen=True):
    """One address of a backend and what one request to it may carry.

    Args:
        name: what ``Payload.endpoint`` and ``request`` call it.
        records: the most payloads in one request.
        record_bytes: a payload over this is dropped and counted as ``too-large``.
        body_bytes: the most bytes of payloads in one request, before compression.
        gzip: bodies may be sent with ``Content-Encoding: gzip``.
    """

    name: str = "default"
    records: int = 500
    record_bytes: int = 1_000_000
    body_bytes: int = 1_000_000
    gzip: bool = False


class Payload(msgspec.Struct, frozen=True, gc=False):
    """What becomes of one record: the bytes that go into the body of a request.

    Args:
        body: JSON text, or whatever the backend reads.
        endpoint: the name of one of the provider's endpoints; ``""`` is the first one.
        key: the deduplication key, usually ``record.message_id``.
    """

    body: bytes
    endpoint: str = ""
    key: str = ""

    def __repr__(self) -> str:
        return f"<Payload {self.endpoint!r} {len(self.body)} bytes>"


class Request(msgspec.Struct, frozen=True):
    """One HTTP request. ``repr`` shows neither the headers nor the body nor the address."""

    url: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    method: str = "POST"

    def __repr__(self) -> str:
        return f"<Request {self.method} {len(self.body)} bytes>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a request cannot be pickled: its headers and its address hold secrets")


class Response(msgspec.Struct, frozen=True):
    """What the backend answered: the status, the headers (names in lower case), at most 64 KiB of body."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""

    def json(self) -> Any:  # noqa: ANN401  whatever the backend sent
        """Return the body decoded, or ``None`` if it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def __repr__(self) -> str:
        return f"<Response {self.status} {len(self.body)} bytes>"


class Delivered(msgspec.Struct, frozen=True):
    """The backend took them."""


class Split(msgspec.Struct, frozen=True):
    """Send them again in two halves; a single one is dropped and counted under ``reason``.

    For a request that is too large, and to find the record for whose sake a backend refuses a whole
    batch.
    """

    reason: str = "rejected"


class Stop(msgspec.Struct, frozen=True):
    """Nothing sent to this provider can succeed (a wrong key): stop until it is registered anew.

    Args:
        reason: for the log and the listing; no secret.
        fix: what to do about it.
    """

    reason: str
    fix: str = ""


class Drop(msgspec.Struct, frozen=True):
    """The backend will never take those at ``indexes`` (``None``: all); ``rest`` is said of the others."""

    indexes: Sequence[int] | None = None
    reason: str = "rejected"
    rest: Verdict = Delivered()


class Retry(msgspec.Struct, frozen=True):
    """Send those at ``indexes`` (``None``: all) again, the same bytes; ``rest`` is said of the others.

    Args:
        after: seconds; ``0`` at once, ``None`` by exponential backoff with jitter.
        at_least: seconds under which a backoff may not go.
    """

    after: float | None = None
    indexes: Sequence[int] | None = None
    rest: Verdict = Delivered()
    at_least: float = 0.0


Verdict = Delivered | Retry | Split | Drop | Stop


def json_array(batch: Sequence[Payload], before: bytes = b"", after: bytes = b"") -> bytes:
    """Return the payloads' JSON texts as one JSON array, with what stands before and after it in the body.

    >>> json_array([Payload(b"1"), Payload(b"2")], b'{"batch":', b"}")
    b'{"batch":[1,2]}'
    """
    bodies = [payload.body for payload in batch]
    if not bodies:
        return before + b"[]" + after
    bodies[0] = b"%b[%b" % (before, bodies[0])  # so that what may be megabytes is put together once
    bodies[-1] = b"%b]%b" % (bodies[-1], after)
    return b",".join(bodies)


class _Outbox(Protocol):
    def add(self, record: Record, encoded: Payload | Sequence[Payload] | None) -> None: ...
    def send(self) -> None: ...


#: Answers after which the same request may succeed.
RETRIED = frozenset({408, 425, 429})
#: Answers for which one bad record may be to blame.
REFUSED = frozenset({400, 403, 422})


class HTTPProvider(Provider):
    """A provider that posts batches to a backend; see :mod:`agent_tracking.http_provider`."""

    #: Where records go, in the order in which a batch is sent; ``configure`` may set it by the values.
    endpoints: Sequence[Endpoint] = (Endpoint(),)

    _outbox: _Outbox | None = None

    def encode(self, record: Record) -> Payload | Sequence[Payload] | None:
        """Return what ``record`` is on the wire: one payload, several, or ``None`` for nothing.

        Pure: the same record gives the same bytes. Raise ``Reject(reason)`` for a record that the
        backend would refuse.
        """
        raise NotImplementedError

    def request(self, endpoint: str, batch: Sequence[Payload]) -> Request:
        """Return the request that carries ``batch`` to ``endpoint``; the core compresses it."""
        raise NotImplementedError

    def judge(self, response: Response, batch: Sequence[Payload]) -> Verdict:  # noqa: ARG002
        """Return what ``response`` means for ``batch``; override to read the backend's own body.

        This one goes by the status alone: 2xx delivered; 408, 425, 429, 5xx retry; 413 split;
        400, 403, 422 split to find the culprit; 401 stop; everything else dropped.
        """
        status = response.status
        if 200 <= status < 300:
            return Delivered()
        if status in RETRIED or status >= 500:
            return Retry()
        if status == 413:
            return Split("too-large")
        if status in REFUSED:
            return Split()
        if status == 401:
            return Stop("the backend answered 401: the key is not valid")
        return Drop(reason="redirect" if 300 <= status < 400 else "rejected")

    def bind(self, outbox: _Outbox) -> None:
        """Called by the lane: from now on records go to ``outbox``."""
        self._outbox = outbox

    def track(self, event: TrackingEvent) -> None:
        """Encode the event and put it into the next batch."""
        self._bound().add(event, self.encode(event))

    def identify(self, identity: Identity) -> None:
        """Encode the identity and put it into the next batch."""
        self._bound().add(identity, self.encode(identity))

    def flush(self) -> None:
        """Send what was handed over; returns when everything is delivered, or raises what is not."""
        self._bound().send()

    def _bound(self) -> _Outbox:
        if self._outbox is None:
            raise ProviderError(
                f"provider {self.name!r} is not registered: records reach it through"
                " register_provider(); in a test call its encode(), request() and judge()"
            )
        return self._outbox


def only_encodes(provider: HTTPProvider) -> bool:
    """Return whether its hooks are those of :class:`HTTPProvider`, so that a lane may do without them."""
    hooks = (provider.track, provider.identify, provider.flush, provider.bind)
    own = (HTTPProvider.track, HTTPProvider.identify, HTTPProvider.flush, HTTPProvider.bind)
    return all(getattr(hook, "__func__", None) is each for hook, each in zip(hooks, own, strict=True))
