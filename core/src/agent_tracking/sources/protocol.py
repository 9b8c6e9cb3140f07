"""The seam between where records come from and how a batch is delivered."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from agent_tracking.events import Record, TrackingEvent

__all__ = ["RECORD_OVERHEAD", "Source", "weight"]

#: What a waiting record costs beside its properties, in bytes: its name, its ids, the object itself.
RECORD_OVERHEAD = 400


def weight(record: Record) -> int:
    """Return the bytes that a waiting record is counted for."""
    data = record.properties_json if type(record) is TrackingEvent else record.data_json
    return len(data) + RECORD_OVERHEAD


class Source(Protocol):
    """What one lane reads: oldest first, at least once; a position counts what is settled for good.

    ``take`` leases records to the lane; each lease ends by ``settle`` or ``release``, and there is one at a
    time. Positions are those of what this process put in, whoever delivers it.
    """

    #: What is not settled when the process ends is there for a later one; other processes' records come, too.
    durable: bool

    # What is put in, and how far it is.

    def put(self, records: Sequence[Record], size: int) -> int:
        """Append ``records`` of ``size`` bytes together; return how many of the oldest had to go."""

    def end(self) -> int:
        """Return the position after the newest record: what a flush waits for."""

    def settled(self) -> int:
        """Return the position up to which everything is settled."""

    def leads(self) -> bool:
        """Return whether this process delivers what it puts in; else another one does."""

    def hurry(self) -> None:
        """Have whoever delivers send what waits now."""

    # What the lane takes out.

    def look(self) -> None:
        """Notice what came from elsewhere; called a few times a second."""

    def take(self, records: int, size: int) -> list[Record]:
        """Return the oldest records, at most ``records`` and about ``size`` bytes; empty if none wait."""

    def settle(self, count: int, left: Sequence[Record] = ()) -> None:
        """``count`` more of those leased, all but ``left``, are delivered, or dropped and counted."""

    def release(self, records: Sequence[Record]) -> None:
        """Give leased records back, not settled: the process stops, or the lane was replaced."""

    def waiting(self) -> int:
        """Return how many records wait to be taken; more than 0 only if ``take`` will return some."""

    def since(self) -> float | None:
        """Return when the oldest waiting record came, in seconds of ``time.monotonic``; ``None`` if none."""

    def urgent(self) -> bool:
        """Return whether another process cannot wait for what waits here."""

    def close(self) -> int:
        """End; return how many leased records stay for a later process: none of those in memory."""

    # What survives the process, and what should not survive it again.

    def hand_over(self, records: Sequence[Record]) -> Collection[int]:
        """The hooks get ``records`` now; return the ``id()`` of each that needs ``hand_over_one``."""

    def hand_over_one(self, record: Record, tries: int) -> bool:
        """The hooks get ``record`` now, alone; false if ``tries`` processes have died of that."""

    def handed_over(self) -> None:
        """The hooks have got them: what happens to the process from now on is not their fault."""

    def excuse(self) -> None:
        """The call that runs now waits: should the process die, it is not the record's fault."""

    def set_aside(self, record: Record, reason: str) -> None:
        """Keep a record that is given up for people to look at; it is settled by ``settle`` all the same."""
