"""The sink: a local server that stands in for every backend, keeps a ledger, misbehaves on command.

In this process::

    with Sink() as sink:
        provider = PostHogProvider(sink.environ("posthog"))
        sink.fail("posthog", Fault.status(503, times=2), Fault.lost_answer())
        ...
        assert sink.wait(lambda: sink.ledger["posthog"].counted == 3, timeout=10)
        assert not sink.ledger["posthog"].refused_keys()

In a process of its own, controlled over HTTP (see :mod:`agent_tracking.testing.process`)::

    python -m agent_tracking.testing.sink --port 8901

which prints one line of JSON, ``{"url": ..., "environ": {...}, "providers": {name: environ}}``, and
serves until it is interrupted.

The first segment of an address is the provider: ``{url}/posthog/batch/``, ``{url}/mixpanel/import``,
``{url}/amplitude/2/httpapi``, ``{url}/webhook/...``. By the time a sender has its answer the request is
in the ledger. A sink survives ``os.fork()``: it goes on in the parent; in the child it counts as closed,
and what it had received can still be read.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

import orjson

from agent_tracking.testing import certificate
from agent_tracking.testing.backends import Backend, Record
from agent_tracking.testing.control import control
from agent_tracking.testing.exchange import Desk
from agent_tracking.testing.faults import Fault
from agent_tracking.testing.ledger import Ledger, Received, Totals, events_of, find_ledger, only_at
from agent_tracking.testing.misbehave import respond
from agent_tracking.testing.server import Server
from agent_tracking.testing.vendors import vendors
from agent_tracking.testing.wire import Wire

__all__ = ["Sink", "main", "tls_sink"]


class Sink:
    """A sink in threads of this process; a context manager.

    Args:
        port: 0 lets the system choose a free one.
        keep: keep requests and records, for ``requests`` and ``events``. Without, only the numbers in
            ``ledger`` are kept, so that benchmarks can send millions.
        tls: serve HTTPS with a certificate that nobody trusts; ``certificate`` is its text.
        backends: more backends by name, as ``add_backend`` takes them.
    """

    #: The PEM text of the certificate with ``tls=True``.
    certificate = certificate.CERTIFICATE

    def __init__(
        self,
        *,
        port: int = 0,
        keep: bool = True,
        tls: bool = False,
        backends: Mapping[str, Backend] | None = None,
    ) -> None:
        self._port = port
        self._tls = tls
        self._server: Server | None = None
        self._desk = Desk(keep=keep)
        for name, backend in {**vendors(), **(backends or {})}.items():
            self.add_backend(name, backend)

    def start(self) -> Sink:
        """Listen; ``with`` does it."""
        if self._server is None:
            tls = certificate.server_context() if self._tls else None
            self._server = Server(
                self._serve, port=self._port, tls=tls, name="tracking-sink", forget=self._desk.forget
            )
        return self

    def close(self) -> None:
        """End every connection and every thread, also those that hang, within a second."""
        self._desk.close()
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Sink:  # noqa: PYI034  typing.Self is newer than Python 3.10
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sink {self.url if self._server else 'not started'}>"

    @property
    def url(self) -> str:
        """Where it listens: ``http://127.0.0.1:PORT``."""
        if self._server is None:
            raise RuntimeError("the sink does not listen yet: use it in a with statement, or call start()")
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._server.port}"

    def environ(self, *names: str) -> dict[str, str]:
        """Return the environment variables that point the named providers here; by default all."""
        chosen = names or tuple(self._desk.backends)
        found: dict[str, str] = {}
        for name in chosen:
            found |= self._desk.backends[name].environ(f"{self.url}/{name}")
        return found

    def add_backend(self, name: str, backend: Backend) -> None:
        """Serve ``{url}/{name}/...`` with ``backend``; a known name is replaced, its ledger stays."""
        self._desk.add(name, backend)

    def fail(self, name: str, *faults: Fault) -> None:
        """Put faults into a backend's queue; each applies to its next requests, in order.

        ``sink.fail("mixpanel", Fault.status(503, times=3), Fault.lost_answer())``
        """
        for fault in faults:
            self._desk.fail(name, fault)

    def clear(self, name: str | None = None) -> None:
        """Back to normal, for one backend or for all: no more faults, and what waits is let go."""
        self._desk.clear(name)

    @property
    def ledger(self) -> Mapping[str, Ledger]:
        """The ledgers by provider; also those of names that no backend has but requests came for."""
        return self._desk.ledgers

    @property
    def errors(self) -> list[BaseException]:
        """What backends of third parties raised, while their senders got a 500."""
        return list(self._desk.errors)

    @property
    def seen(self) -> int:
        """How many requests came, for all providers together."""
        return self._desk.seen

    def totals(self, provider: str) -> Totals:
        """Return a provider's four numbers: requests, and records arrived, accepted, counted."""
        ledger = self._desk.ledgers.get(provider)
        return Totals() if ledger is None else ledger.totals()

    def requests(self, provider: str, path: str | None = None) -> list[Received]:
        """Return the requests for a provider (and to ``path`` behind its prefix), oldest first."""
        ledger = self._desk.ledgers.get(provider)
        return [] if ledger is None else only_at(ledger.received(), path)

    def events(self, provider: str, path: str | None = None, *, duplicates: bool = False) -> list[Record]:
        """Return the records that were kept, decoded, in order of acceptance.

        Each key once, as the vendor counts; with ``duplicates`` each time that it was kept. ``path``:
        only those that came there, e.g. ``sink.events("mixpanel", "/engage")``.
        """
        return events_of(find_ledger(self._desk.ledgers, provider).kept(), path, duplicates=duplicates)

    def wait(self, predicate: Callable[[], object], timeout: float = 10) -> bool:
        """Wait until ``predicate()`` is true, at most ``timeout`` seconds, and tell whether it is.

        It is looked at now and after every request, under the sink's lock: it should ask about the
        sink, and must not wait for anything itself.
        """
        with self._desk.changed:
            return bool(self._desk.changed.wait_for(predicate, timeout))

    def _serve(self, wire: Wire) -> None:
        while (raw := wire.read()) is not None:
            close = not raw.keep_alive
            said = control(raw, self)
            if said is not None:
                wire.answer(said, close=close)
            else:
                answer, fault, let_go = self._desk.handle(raw)
                close = not respond(wire, answer, fault, let_go, close=close)
            if close:
                return


def tls_sink() -> Sink:
    """Return a sink that serves HTTPS with a self-signed certificate: every careful client refuses it."""
    return Sink(tls=True)


def _load(text: str) -> tuple[str, Backend]:
    """Return the backend that ``NAME=MODULE:ATTRIBUTE`` names."""
    name, _, place = text.partition("=")
    module, _, attribute = place.partition(":")
    found = getattr(importlib.import_module(module), attribute or "BACKEND")
    backend = found if isinstance(found, Backend) else found()
    if not isinstance(backend, Backend):
        raise argparse.ArgumentTypeError(f"{place} is no Backend")
    return name, backend


def _wait_for_the_end(*, until_eof: bool) -> None:
    """Return after SIGINT or SIGTERM, or when standard input ends."""
    if until_eof:
        sys.stdin.buffer.read()
    else:
        threading.Event().wait()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Serve from the command line; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m agent_tracking.testing.sink", description="A local sink."
    )
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    parser.add_argument("--counts-only", action="store_true", help="keep numbers, not requests and records")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input ends")
    parser.add_argument(
        "--backend", type=_load, action="append", default=[], metavar="NAME=MODULE:ATTRIBUTE", help="one more"
    )
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Sink(port=options.port, keep=not options.counts_only, backends=dict(options.backend)) as sink:
            providers = {name: sink.environ(name) for name in sink.ledger}
            hello = {"url": sink.url, "environ": sink.environ(), "providers": providers}
            sys.stdout.write(orjson.dumps(hello).decode() + "\n")
            sys.stdout.flush()
            _wait_for_the_end(until_eof=options.until_eof)
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
