"""The ledger: what arrived on the wire and what was kept, by deduplication key, as raw numbers.

Vendors count a record once by its key. So a record that a sender gives the same key on every try may
be accepted twice and still counts once; one that comes under two keys counts twice, which only its
content can show: look for the same property value in two of ``sink.events(...)``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from agent_tracking.testing.backends import Incoming, Reading, Record

__all__ = [
    "Count",
    "Kept",
    "Ledger",
    "LedgerState",
    "Received",
    "Totals",
    "events_of",
    "find_ledger",
    "only_at",
]


class Count(NamedTuple):
    """How often a key arrived on the wire, and how often the backend kept its record."""

    arrived: int
    accepted: int


class Totals(NamedTuple):
    """One provider's numbers without the keys; what each means is said at :class:`Ledger`."""

    requests: int = 0
    arrived: int = 0
    accepted: int = 0
    counted: int = 0


class Received(msgspec.Struct, frozen=True):
    """One request.

    Attributes:
        provider: the first segment of the address.
        method, path, query, headers: as sent; ``path`` is what comes behind the provider's prefix,
            header names are in lower case.
        body: decompressed. ``raw_size``: bytes of the body on the wire.
        status: what was answered; 0 for no answer at all.
        at: ``time.monotonic()`` of the sink's process when the request was complete.
        keys: the deduplication keys in it, in order. ``kept``: those whose records were kept.
        fault: the kind of the fault that was applied, or ``""``.
    """

    provider: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    raw_size: int
    status: int
    at: float
    keys: list[str] = []
    kept: list[str] = []
    fault: str = ""

    def json(self) -> Any:  # noqa: ANN401  whatever was sent
        """Return the body decoded; raises ``ValueError`` if it is not JSON."""
        return orjson.loads(self.body)

    def __repr__(self) -> str:
        return (
            f"<Received {self.method} {self.provider}{self.path} {len(self.keys)} records"
            f" -> {self.status}{' ' + self.fault if self.fault else ''}>"
        )


class Kept(msgspec.Struct, frozen=True):
    """A record that was kept: where it came to, its key, whether the key was new, the record."""

    path: str
    key: str
    first: bool
    record: dict[str, Any]


class LedgerState(msgspec.Struct):
    """A ledger's numbers, to be sent to another process."""

    requests: int = 0
    counts: dict[str, tuple[int, int]] = {}


class Ledger:
    """One provider's numbers. A live view: it grows while requests arrive.

    >>> ledger = Ledger.of(LedgerState(2, {"k1": (2, 2), "k2": (1, 0)}))
    >>> ledger["k1"], ledger.arrived, ledger.accepted, ledger.counted
    (Count(arrived=2, accepted=2), 3, 2, 1)
    >>> ledger.accepted_twice(), ledger.refused_keys()
    (['k1'], ['k2'])
    """

    def __init__(self, lock: threading.RLock | None = None, *, keep: bool = True) -> None:  # type: ignore[valid-type, unused-ignore]  # a function before Python 3.13
        self.lock: Any = lock or threading.RLock()
        self._keep = keep
        self._counts: dict[str, list[int]] = {}
        self._totals = Totals()
        self._requests: list[Received] = []
        self._kept: list[Kept] = []

    @classmethod
    def of(cls, state: LedgerState) -> Ledger:
        """Return a ledger with these numbers."""
        ledger = cls()
        ledger._counts = {key: list(pair) for key, pair in state.counts.items()}
        pairs = state.counts.values()
        ledger._totals = Totals(
            state.requests,
            sum(pair[0] for pair in pairs),
            sum(pair[1] for pair in pairs),
            sum(1 for pair in pairs if pair[1]),
        )
        return ledger

    def state(self) -> LedgerState:
        """Return the numbers as they are now."""
        with self.lock:
            return LedgerState(self.requests, {key: (pair[0], pair[1]) for key, pair in self._counts.items()})

    def __getitem__(self, key: str) -> Count:
        with self.lock:
            pair = self._counts.get(key, (0, 0))
            return Count(pair[0], pair[1])

    def __repr__(self) -> str:
        return (
            f"<Ledger {self.requests} requests, {self.arrived} arrived,"
            f" {self.accepted} accepted, {self.counted} counted>"
        )

    @property
    def requests(self) -> int:
        """How many requests came."""
        return self._totals.requests

    @property
    def arrived(self) -> int:
        """How many records came, each as often as it came."""
        return self._totals.arrived

    @property
    def accepted(self) -> int:
        """How many records were kept, each as often as it was kept."""
        return self._totals.accepted

    @property
    def counted(self) -> int:
        """How many records the vendor counts: keys that were kept at least once."""
        return self._totals.counted

    def totals(self) -> Totals:
        """Return the four numbers as they were at one moment; cheap, however many keys there are."""
        return self._totals

    def counts(self) -> dict[str, Count]:
        """Return every key with its numbers, in order of arrival."""
        with self.lock:
            return {key: Count(pair[0], pair[1]) for key, pair in self._counts.items()}

    def accepted_keys(self) -> list[str]:
        """Return the keys whose records were kept, in order of their first arrival."""
        return [key for key, count in self.counts().items() if count.accepted]

    def accepted_twice(self) -> list[str]:
        """Return the keys whose records were kept more than once."""
        return [key for key, count in self.counts().items() if count.accepted > 1]

    def arrived_twice(self) -> list[str]:
        """Return the keys whose records came more than once."""
        return [key for key, count in self.counts().items() if count.arrived > 1]

    def refused_keys(self) -> list[str]:
        """Return the keys whose records came and were never kept."""
        return [key for key, count in self.counts().items() if not count.accepted]

    def received(self) -> list[Received]:
        """Return the requests, oldest first (empty with ``Sink(keep=False)``)."""
        with self.lock:
            return list(self._requests)

    def kept(self) -> list[Kept]:
        """Return the records that were kept, each as often as it was, in order of acceptance."""
        with self.lock:
            return list(self._kept)

    def record(
        self,
        incoming: Incoming,
        reading: Reading,
        kept: Sequence[int],
        *,
        provider: str,
        status: int,
        at: float,
        fault: str,
    ) -> None:
        """Enter a request, its records, and which of them are kept."""
        with self.lock:
            fresh = self._count(reading.keys, kept)
            requests, arrived, accepted, counted = self._totals
            self._totals = Totals(
                requests + 1, arrived + len(reading.keys), accepted + len(kept), counted + sum(fresh)
            )
            if not self._keep:
                return
            self._requests.append(
                Received(
                    provider,
                    incoming.method,
                    incoming.path,
                    incoming.query,
                    incoming.headers,
                    incoming.body,
                    incoming.raw_size,
                    status,
                    at,
                    reading.keys,
                    [reading.keys[index] for index in kept],
                    fault,
                )
            )
            for index, first in zip(kept, fresh, strict=True):
                self._kept.append(Kept(incoming.path, reading.keys[index], first, reading.records[index]))

    def _count(self, keys: Sequence[str], kept: Sequence[int]) -> list[bool]:
        counts = self._counts
        for key in keys:
            pair = counts.get(key)
            if pair is None:
                counts[key] = [1, 0]
            else:
                pair[0] += 1
        fresh = []
        for index in kept:
            pair = counts[keys[index]]
            fresh.append(pair[1] == 0)
            pair[1] += 1
        return fresh


def events_of(kept: Sequence[Kept], path: str | None, *, duplicates: bool) -> list[Record]:
    """Return the records that came to ``path`` (``None``: any), each key once unless ``duplicates``."""
    wanted = None if path is None else path.rstrip("/")
    return [
        item.record
        for item in kept
        if (item.first or duplicates) and (wanted is None or item.path.rstrip("/") == wanted)
    ]


def only_at(requests: Sequence[Received], path: str | None) -> list[Received]:
    """Return the requests to ``path`` (``None``: any), with or without a trailing slash."""
    if path is None:
        return list(requests)
    return [request for request in requests if request.path.rstrip("/") == path.rstrip("/")]


def find_ledger(ledgers: Mapping[str, Ledger], provider: str) -> Ledger:
    """Return a provider's ledger, or say which ones there are."""
    try:
        return ledgers[provider]
    except KeyError:
        known = ", ".join(sorted(ledgers))
        raise KeyError(f"no request came for {provider!r}, and no such backend; there are: {known}") from None
