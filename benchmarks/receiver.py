"""The sink's process, as the measurements use it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.counting import Counts

__all__ = ["Receiver"]


class Receiver:
    """Starts the sink, gives each measurement an address of its own, asks what arrived.

    ``with Receiver() as receiver: run = receiver.run(); ...; receiver.counts(run)``
    """

    def __enter__(self) -> Receiver:  # noqa: PYI034  typing.Self is newer than Python 3.10
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sink"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = (self._process.stdout.readline() if self._process.stdout else "").strip()
        if not self.url:
            raise RuntimeError("the sink did not start")
        self._numbers = itertools.count(1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def run(self) -> str:
        """Return the name of a new account."""
        return f"r{next(self._numbers)}"

    def address(self, run: str) -> str:
        """Return where the senders of that account send to, before the backend's name."""
        return f"{self.url}/{run}"

    def counts(self, run: str, *, forget: bool = False) -> dict[str, Counts]:
        """Return what arrived so far, by backend."""
        found = self._ask("GET", f"/-/counts/{run}{'?forget=1' if forget else ''}")
        return {name: Counts(*numbers) for name, numbers in json.loads(found).items()}

    def settled(
        self, run: str, wanted: int, *, still: float = 1.0, timeout: float = 60.0
    ) -> dict[str, Counts]:
        """Return what arrived once that is ``wanted`` events, or nothing more comes for ``still`` seconds."""
        deadline, since, before = time.monotonic() + timeout, time.monotonic(), -1
        while True:
            counts = self.counts(run)
            now, total = time.monotonic(), sum(each.delivered for each in counts.values())
            if total != before:
                before, since = total, now
            if total >= wanted or now > deadline or now - since > still:
                return self.counts(run, forget=True)
            time.sleep(0.05)

    def lose(self, every: int) -> None:
        """Have the sink forget every n-th request that it answers; 0 stops that."""
        self._ask("POST", f"/-/lose/{every}")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have it answer nothing meanwhile."""
        self._ask("POST", "/-/hold")
        try:
            yield
        finally:
            self._ask("POST", "/-/release")

    def _ask(self, method: str, target: str) -> bytes:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=120)
        try:
            connection.request(method, target)
            return connection.getresponse().read()
        finally:
            connection.close()
