"""The floor: the least that any sender can do. Encode once, append; a thread posts what has gathered.

It has no retries, no bounds, no exits, no isolation, no identity mapping: it is there to be compared with.
"""

from __future__ import annotations

import gzip
import http.client
import itertools
import time
from _thread import allocate_lock
from collections import deque
from threading import Thread
from urllib.parse import urlsplit

import msgspec

from agent_tracking.snapshot import plain
from agent_tracking.sources.spool.lines import frames

__all__ = ["CarefulFileFloor", "FileFloor", "Floor"]

_encode = msgspec.json.Encoder().encode
#: Seconds between two looks of a thread that nobody wakes.
_LOOK = 0.25


class Floor:
    """Posts to ``copies`` backends of the same shape: ``{url}/floor-0``, ``{url}/floor-1``, ...

    Args:
        url: the account's address.
        copies: how many backends.
        batch: events in one request at most.
        wake: the caller wakes the thread when a batch is full; otherwise that looks by itself.
    """

    def __init__(self, url: str, copies: int, *, batch: int = 50, wake: bool = True) -> None:
        self._queues = [deque() for _ in range(copies)]
        self._bells = [allocate_lock() for _ in range(copies)]
        self._numbers = itertools.count()
        self._busy = True
        self._batch = batch
        self._wake = wake
        self._least = batch if wake else 1
        self._sending = [False] * copies
        self._url = urlsplit(url)
        for bell in self._bells:
            bell.acquire()
        self._threads = [Thread(target=self._run, args=(number,), daemon=True) for number in range(copies)]
        for thread in self._threads:
            thread.start()

    def track(self, name, properties, *, user_id):
        """Take a snapshot and append it."""
        number = next(self._numbers)
        entry = (number, _encode((name, time.time(), user_id, properties)))
        for queue in self._queues:
            queue.append(entry)
        if self._wake and not (number + 1) % self._batch:
            self._ring()

    def _ring(self):
        for bell in self._bells:
            try:
                bell.release()
            except RuntimeError:  # rung already
                continue

    def _run(self, number):
        queue, bell = self._queues[number], self._bells[number]
        connection = http.client.HTTPConnection(self._url.hostname, self._url.port)
        while self._busy or queue:
            self._sending[number] = len(queue) >= self._least
            if not self._sending[number]:
                bell.acquire(timeout=-1 if self._wake else _LOOK)
                continue
            batch = [queue.popleft() for _ in range(min(self._batch, len(queue)))]
            records = [b'{"id":"%d","record":%s}' % entry for entry in batch]
            body = gzip.compress(b"[" + b",".join(records) + b"]", 1)
            path = f"{self._url.path}/floor-{number}"
            connection.request("POST", path, body, {"Content-Encoding": "gzip"})
            connection.getresponse().read()
        connection.close()

    def settle(self):
        """Send what is left, and wait until it was answered."""
        self._least = 1
        deadline = time.monotonic() + 60
        while (any(self._queues) or any(self._sending)) and time.monotonic() < deadline:
            self._ring()
            time.sleep(0.002)
        self._least = self._batch if self._wake else 1

    def close(self):
        """End the threads."""
        self.settle()
        self._busy = False
        self._ring()
        for thread in self._threads:
            thread.join(60)


class FileFloor:
    """Appends to a file instead, each ``look`` seconds: the least that a process with a relay can do."""

    def __init__(self, path: str, look: float) -> None:
        self._look = look
        self._queue = deque()
        self._numbers = itertools.count()
        self._busy = True
        self._idle = False
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  the thread closes it
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def track(self, name, properties, *, user_id):
        """Take a snapshot and append it."""
        self._queue.append(_encode((next(self._numbers), name, time.time(), user_id, properties)))

    def _run(self):
        queue = self._queue
        while self._busy or queue:
            batch = [queue.popleft() for _ in range(len(queue))]
            if batch:
                self._file.write(self._data(batch))
            self._idle = not queue
            if self._busy:
                time.sleep(self._look)
        self._file.close()

    def _data(self, batch):
        return b"\n".join(batch) + b"\n"

    def settle(self):
        """Wait until all is written."""
        deadline = time.monotonic() + 60
        self._idle = False
        while (self._queue or not self._idle) and time.monotonic() < deadline:
            time.sleep(0.01)

    def close(self):
        """Write what is left."""
        self._busy = False
        self._thread.join(60)


class CarefulFileFloor(FileFloor):
    """Looks whether the data is plain and bounded, too, and gives each line a checksum, as this project does.

    So it is the least that these two promises cost.
    """

    def track(self, name, properties, *, user_id):
        """Take a snapshot of what may be taken, and append it."""
        if not plain(properties):
            raise TypeError
        self._queue.append(_encode((next(self._numbers), name, time.time(), user_id, properties)))

    def _data(self, batch):
        return b"".join(frames(batch))
