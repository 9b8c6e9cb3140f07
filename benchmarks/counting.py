"""How many events a request carries, by cheap looks at its bytes; no sender is asked.

The name of the event stands once in each event of every format but Snowplow's, which hides it in Base64
beside an ``eid``. Where an event has an id on the wire, ids are kept, so that one sent twice counts once.
"""

from __future__ import annotations

import gzip
import re
import zlib
from typing import NamedTuple

from benchmarks.event import NAME

__all__ = ["Counts", "Tally", "ids_of"]

_QUOTE = r'(?:"|%22)'
_SPACE = r"(?:\s|\+|%20)*"
_VALUE = rf"{_QUOTE}{_SPACE}(?:%3A|:){_SPACE}{_QUOTE}([^\"%]+){_QUOTE}"


def _ids(key: str) -> re.Pattern[bytes]:
    return re.compile(f"{_QUOTE}{key}{_VALUE}".encode(), re.IGNORECASE)


#: By backend: what finds the ids. One that is not here (OpenTelemetry) has none; its events are counted.
_PATTERNS = {
    "posthog": _ids("uuid"),
    "mixpanel": _ids(r"(?:\$|%24)insert_id"),
    "amplitude": _ids("insert_id"),
    "webhook": _ids("id"),
    "floor": _ids("id"),
    "segment": _ids("messageId"),
    "rudderstack": _ids("messageId"),
    "snowplow": _ids("eid"),
}
_NAME = NAME.encode()


class Counts(NamedTuple):
    """What a backend got: requests, events in them, and different events among those."""

    requests: int = 0
    arrived: int = 0
    delivered: int = 0


def kind_of(backend: str) -> str:
    """Return what sort of backend that is: ``floor-3`` is a ``floor``."""
    return backend.partition("-")[0]


def unpacked(body: bytes) -> bytes:
    """Return the body as it was before compression, told by its first bytes."""
    if body[:2] == b"\x1f\x8b":
        return gzip.decompress(body)
    if body[:1] == b"\x78" and body[:2] in {b"\x78\x01", b"\x78\x9c", b"\x78\xda"}:
        return zlib.decompress(body)
    return body


def ids_of(backend: str, body: bytes) -> list[bytes] | None:
    """Return the events' ids in a body, in order; ``None`` for a backend whose events have none."""
    pattern = _PATTERNS.get(kind_of(backend))
    return None if pattern is None else pattern.findall(body)


class Tally:
    """One backend's events in one measurement."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._requests = 0
        self._arrived = 0
        self._unnamed = 0
        self._ids: set[bytes] = set()

    def add(self, body: bytes) -> None:
        """Count one request's body."""
        body = unpacked(body)
        self._requests += 1
        ids = ids_of(self._backend, body)
        named = body.count(_NAME)
        if ids is None:
            self._arrived += named
            self._unnamed += named
            return
        # An event without its name is none of ours; Snowplow's names are in Base64.
        self._arrived += len(ids) if kind_of(self._backend) == "snowplow" else named
        self._ids.update(ids)

    def counts(self) -> Counts:
        """Return the numbers."""
        return Counts(self._requests, self._arrived, len(self._ids) + self._unnamed)
