"""Records that wait in memory: one bounded queue for each lane over records that all lanes share."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from threading import RLock

from agent_tracking.events import Record
from agent_tracking.sources.protocol import weight

__all__ = ["MemorySource"]


class MemorySource:
    """A queue bounded in records and bytes; when it is full, the oldest that no request carries goes.

    Args:
        records: the most records.
        size: the most bytes (see :func:`agent_tracking.sources.protocol.weight`).
        clock: seconds that never go back.
    """

    durable = False

    def __init__(self, records: int, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = records
        self._room = size
        self._clock = clock
        # One that its holder may take again: a signal handler may flush, and ask how far this is.
        self._lock = RLock()
        self._queue: deque[Record] = deque()
        self._bytes = 0
        self._since: float | None = None
        self._end = 0
        #: What is leased, from the first that is not settled on, and that one's position.
        self._lease: list[Record] = []
        self._first = 0

    def put(self, records: Sequence[Record], size: int) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            if self._since is None and records:
                self._since = self._clock()
            self._queue.extend(records)
            self._bytes += size
            self._end += len(records)
            dropped = 0
            while len(self._queue) > self._most or self._bytes > self._room:
                self._bytes -= weight(self._queue.popleft())
                dropped += 1
            return dropped

    def take(self, records: int, size: int) -> list[Record]:
        """See :class:`agent_tracking.sources.Source`."""
        taken: list[Record] = []
        with self._lock:
            queue = self._queue
            self._first = self._end - len(queue)
            if len(queue) <= records and self._bytes <= size:
                taken.extend(queue)
                queue.clear()
                self._bytes = 0
            while queue and len(taken) < records:
                cost = weight(queue[0])
                if taken and cost > size:
                    break
                size -= cost
                self._bytes -= cost
                taken.append(queue.popleft())
            if not queue:
                self._since = None
            self._lease = taken.copy()
        return taken

    def settle(self, count: int, left: Sequence[Record] = ()) -> None:  # noqa: ARG002
        """See :class:`agent_tracking.sources.Source`."""
        keep = {id(record) for record in left}
        with self._lock:
            lease = self._lease
            done = len(lease)
            if keep:
                done = next((n for n, record in enumerate(lease) if id(record) in keep), done)
            del lease[:done]
            self._first += done

    def release(self, records: Sequence[Record]) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            self._lease = []
            self._queue.extendleft(reversed(records))
            self._bytes += sum(map(weight, records))
            if records and self._since is None:
                self._since = self._clock()

    def end(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        return self._end

    def settled(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            return self._first if self._lease else self._end - len(self._queue)

    def waiting(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        return len(self._queue)

    def since(self) -> float | None:
        """See :class:`agent_tracking.sources.Source`."""
        return self._since

    # Everything is here, and nothing survives.

    def leads(self) -> bool:
        """See :class:`agent_tracking.sources.Source`."""
        return True

    def look(self) -> None:
        """See :class:`agent_tracking.sources.Source`."""

    def hurry(self) -> None:
        """See :class:`agent_tracking.sources.Source`."""

    def urgent(self) -> bool:
        """See :class:`agent_tracking.sources.Source`."""
        return False

    def close(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        return 0

    def hand_over(self, records: Sequence[Record]) -> Collection[int]:  # noqa: ARG002
        """See :class:`agent_tracking.sources.Source`."""
        return ()

    def hand_over_one(self, record: Record, tries: int) -> bool:  # noqa: ARG002
        """See :class:`agent_tracking.sources.Source`."""
        return True

    def handed_over(self) -> None:
        """See :class:`agent_tracking.sources.Source`."""

    def excuse(self) -> None:
        """See :class:`agent_tracking.sources.Source`."""

    def set_aside(self, record: Record, reason: str) -> None:
        """See :class:`agent_tracking.sources.Source`."""
