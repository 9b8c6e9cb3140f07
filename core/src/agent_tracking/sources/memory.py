"""Records that wait in memory: one bounded queue for each lane over records that all lanes share."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock

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

    def __init__(self, records: int, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = records
        self._room = size
        self._clock = clock
        self._lock = Lock()
        self._queue: deque[Record] = deque()
        self._bytes = 0
        self._since: float | None = None
        self._end = 0
        self._settled = 0

    def put(self, records: Sequence[Record], size: int) -> int:
        """Append ``records`` of ``size`` bytes together; return how many of the oldest had to go."""
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
            self._settled += dropped
            return dropped

    def take(self, records: int, size: int) -> list[Record]:
        """See :class:`agent_tracking.sources.Source`."""
        taken: list[Record] = []
        with self._lock:
            queue = self._queue
            while queue and len(taken) < records:
                cost = weight(queue[0])
                if taken and cost > size:
                    break
                size -= cost
                self._bytes -= cost
                taken.append(queue.popleft())
            if not queue:
                self._since = None
        return taken

    def settle(self, count: int) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            self._settled += count

    def release(self, records: Sequence[Record]) -> None:
        """See :class:`agent_tracking.sources.Source`."""
        with self._lock:
            self._queue.extendleft(reversed(records))
            self._bytes += sum(map(weight, records))
            if records and self._since is None:
                self._since = self._clock()

    def end(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        return self._end

    def settled(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        return self._settled

    def waiting(self) -> int:
        """See :class:`agent_tracking.sources.Source`."""
        return len(self._queue)

    def since(self) -> float | None:
        """See :class:`agent_tracking.sources.Source`."""
        return self._since
