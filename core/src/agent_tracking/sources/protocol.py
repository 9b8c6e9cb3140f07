"""The seam between where records come from and how a batch is delivered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agent_tracking.events import Record

__all__ = ["RECORD_OVERHEAD", "Source", "weight"]

#: What a waiting record costs beside its properties, in bytes: its name, its ids, the object itself.
RECORD_OVERHEAD = 400


def weight(record: Record) -> int:
    """Return the bytes that a waiting record is counted for."""
    return len(record.data_json) + RECORD_OVERHEAD


class Source(Protocol):
    """What one lane reads: oldest first, at least once; a position counts what is settled for good.

    ``take`` leases records to the lane; each lease ends by ``settle`` or ``release``.
    """

    def take(self, records: int, size: int) -> list[Record]:
        """Return the oldest records, at most ``records`` and about ``size`` bytes; empty if none wait."""

    def settle(self, count: int) -> None:
        """The ``count`` oldest leased records are delivered, or dropped and counted: never again."""

    def release(self, records: Sequence[Record]) -> None:
        """Give leased records back, not settled: the process stops, or the lane was replaced."""

    def end(self) -> int:
        """Return the position after the newest record: what a flush waits for."""

    def settled(self) -> int:
        """Return the position up to which everything is settled."""

    def waiting(self) -> int:
        """Return how many records wait to be taken."""

    def since(self) -> float | None:
        """Return when the oldest waiting record came, in seconds of ``time.monotonic``; ``None`` if none."""
