"""A sink in a process of its own, for benchmarks and for tests that fork, signal or kill."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote

import msgspec
import orjson

from agent_tracking.testing.backends import Record
from agent_tracking.testing.control import ClearOrder, FailOrder, Ledgers
from agent_tracking.testing.faults import Fault
from agent_tracking.testing.ledger import Kept, Ledger, LedgerState, Received, Totals, events_of, only_at

__all__ = ["SinkProcess"]

#: Seconds for an answer about the sink itself.
_ANSWER = 30.0
#: Seconds of one look at a wait.
_LOOK = 20.0


class SinkProcess:
    """Starts a sink in another process and offers what :class:`Sink` does, over HTTP.

    Every call opens a connection of its own, so it may be used from any thread and in forked children;
    only the process that started the sink ends it. ``Received.at`` is on the same clock on Linux.

    Args:
        port: 0 lets the system choose a free one.
        keep: ``False`` keeps numbers only; see :class:`Sink`.
        backends: more backends, as ``{"acme": "package.module:ATTRIBUTE"}``: a ``Backend``, or what
            returns one when called.

    ``with SinkProcess() as sink: subprocess.run(app, env={**os.environ, **sink.environ()})``
    """

    def __init__(
        self, *, port: int = 0, keep: bool = True, backends: Mapping[str, str] | None = None
    ) -> None:
        self._command = [
            sys.executable,
            "-m",
            "agent_tracking.testing.sink",
            "--port",
            str(port),
            "--until-eof",
        ]
        if not keep:
            self._command.append("--counts-only")
        for name, place in (backends or {}).items():
            self._command += ["--backend", f"{name}={place}"]
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._environ: dict[str, dict[str, str]] = {}
        self.url = ""

    def __enter__(self) -> SinkProcess:  # noqa: PYI034  typing.Self is newer than Python 3.10
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> SinkProcess:
        """Start the process and wait until it listens; ``with`` does it."""
        process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
        self._process = process
        line = process.stdout.readline() if process.stdout is not None else b""
        if not line:
            self.close()
            raise RuntimeError(f"the sink did not start: exit status {process.returncode}")
        hello = orjson.loads(line)
        self.url, self._environ = hello["url"], hello["providers"]
        return self

    def close(self) -> None:
        """End the process; in a forked child nothing happens."""
        process = self._process
        if process is None or os.getpid() != self._owner:
            return
        self._process = None
        process.terminate()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    @property
    def pid(self) -> int:
        """The process's id."""
        if self._process is None:
            raise RuntimeError("the sink does not run: use it in a with statement, or call start()")
        return self._process.pid

    def environ(self, *names: str) -> dict[str, str]:
        """Return the environment variables that point the named providers there; by default all."""
        found: dict[str, str] = {}
        for name in names or tuple(self._environ):
            found |= self._environ[name]
        return found

    def fail(self, name: str, *faults: Fault) -> None:
        """Put faults into a backend's queue; see :meth:`Sink.fail`."""
        for fault in faults:
            self._ask("POST", "/__fail__", msgspec.json.encode(FailOrder(name, fault)))

    def clear(self, name: str | None = None) -> None:
        """Back to normal, for one backend or for all."""
        self._ask("POST", "/__clear__", msgspec.json.encode(ClearOrder(name)))

    @property
    def ledger(self) -> Mapping[str, Ledger]:
        """The ledgers by provider, as they are now: unlike :attr:`Sink.ledger` they do not grow."""
        pages = self._ledgers().ledgers
        return {name: Ledger.of(LedgerState(page.requests, page.counts)) for name, page in pages.items()}

    def totals(self, provider: str) -> Totals:
        """Return a provider's four numbers; cheaper than ``ledger``, which brings every key along."""
        page = self._ledgers("?counts=0").ledgers.get(provider)
        return Totals() if page is None else Totals(page.requests, page.arrived, page.accepted, page.counted)

    def requests(self, provider: str, path: str | None = None) -> list[Received]:
        """Return the requests for a provider (and to ``path`` behind its prefix), oldest first."""
        body = self._ask("GET", f"/__requests__?provider={quote(provider)}")
        return only_at(msgspec.json.decode(body, type=list[Received]), path)

    def events(self, provider: str, path: str | None = None, *, duplicates: bool = False) -> list[Record]:
        """Return the records that were kept; see :meth:`Sink.events`."""
        body = self._ask("GET", f"/__events__?provider={quote(provider)}")
        return events_of(msgspec.json.decode(body, type=list[Kept]), path, duplicates=duplicates)

    def wait(self, predicate: Callable[[], object], timeout: float = 10) -> bool:
        """Wait until ``predicate()`` is true, at most ``timeout`` seconds, and tell whether it is.

        It is looked at now and after requests; the sink says when there were any.
        """
        deadline = time.monotonic() + timeout
        while True:
            seen = self._ledgers("?counts=0").seen
            if predicate():
                return True
            left = min(_LOOK, deadline - time.monotonic())
            if left <= 0:
                return False
            self._ask("GET", f"/__wait__?seen={seen}&timeout={left:f}")

    def _ledgers(self, query: str = "") -> Ledgers:
        return msgspec.json.decode(self._ask("GET", f"/__ledger__{query}"), type=Ledgers)

    def _ask(self, method: str, target: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=_ANSWER)
        try:
            connection.request(method, target, body)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(f"the sink answered {response.status}: {answer.decode()}")
        return answer
