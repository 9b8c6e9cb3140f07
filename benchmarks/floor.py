"""The floor: the least that any sender can do. Encode once, append; a thread posts what has gathered.

It has no retries, no bounds, no exits, no isolation, no identity mapping: it is there to be compared with.
"""

from __future__ import annotations

import gzip
import http.client
import itertools
import time
from collections import deque
from threading import Thread
from urllib.parse import urlsplit

import msgspec

_encode = msgspec.json.Encoder().encode


class Floor:
    """Sends to ``copies`` backends of the same shape, 500 at a time at most, a look every quarter of a second."""

    def __init__(self, url: str, copies: int) -> None:
        self._queues = [deque() for _ in range(copies)]
        self._numbers = itertools.count()
        self._busy = True
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._path = parts.path
        self._threads = [Thread(target=self._run, args=(queue,), daemon=True) for queue in self._queues]
        self.sent = 0
        for thread in self._threads:
            thread.start()

    def track(self, name, properties, *, user_id):
        """Take a snapshot and append it."""
        entry = _encode((name, next(self._numbers), time.time(), user_id, properties))
        for queue in self._queues:
            queue.append(entry)

    def _run(self, queue):
        connection = http.client.HTTPConnection(*self._address)
        while self._busy or queue:
            batch = [queue.popleft() for _ in range(min(500, len(queue)))]
            if not batch:
                time.sleep(0.25)
                continue
            records = [b'{"id":"%d","event":"x","properties":%s}' % (id(e), e) for e in batch]
            body = gzip.compress(b"[" + b",".join(records) + b"]", 1)
            connection.request("POST", self._path, body, {"Content-Encoding": "gzip"})
            connection.getresponse().read()
            self.sent += len(batch)
        connection.close()

    def close(self):
        """Send what is left."""
        self._busy = False
        for thread in self._threads:
            thread.join(60)
