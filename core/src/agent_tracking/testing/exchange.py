"""One request and its answer: route, read, choose the fault, enter into the ledger."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from agent_tracking.testing.backends import Answer, Backend, Incoming, Reading, decompress
from agent_tracking.testing.faults import Fault
from agent_tracking.testing.ledger import Ledger
from agent_tracking.testing.wire import Raw

__all__ = ["Desk", "Outcome"]

_GZIP = b"\x1f\x8b"


class Outcome(NamedTuple):
    """What is to be sent, how, and what ends a wait."""

    answer: Answer
    fault: Fault | None
    let_go: threading.Event


class Desk:
    """The backends, their ledgers and their faults; every method may be called from any thread.

    ``changed`` is notified at every request; its lock guards everything here.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        #: How many requests came, for all backends together.
        self.seen = 0
        self.backends: dict[str, Backend] = {}
        self.ledgers: dict[str, Ledger] = {}
        #: What backends of third parties raised.
        self.errors: list[BaseException] = []
        self._faults: dict[str, list[Fault]] = {}
        self._let_go: dict[str, threading.Event] = {}

    def add(self, name: str, backend: Backend) -> None:
        """Add a backend, or replace one; its ledger stays."""
        with self._lock:
            self.backends[name] = backend
            self.ledgers.setdefault(name, Ledger(self._lock, keep=self._keep))
            self._let_go.setdefault(name, threading.Event())

    def fail(self, name: str, fault: Fault) -> None:
        """Put a fault at the end of a backend's queue."""
        with self._lock:
            if name not in self.backends:
                raise KeyError(f"no backend {name!r}; there are: {', '.join(sorted(self.backends))}")
            if fault.times is None or fault.times > 0:
                self._faults.setdefault(name, []).append(fault)

    def clear(self, name: str | None) -> None:
        """Forget the faults of one backend or of all, and end what waits."""
        with self._lock:
            for each in list(self._let_go) if name is None else [name]:
                self._faults.pop(each, None)
                let_go = self._let_go.get(each)
                if let_go is not None:
                    self._let_go[each] = threading.Event()
                    let_go.set()

    def close(self) -> None:
        """End what waits, now and later."""
        with self._lock:
            for let_go in self._let_go.values():
                let_go.set()
            self.changed.notify_all()

    def forget(self) -> None:
        """In a forked child: the locks may be held by threads that do not exist here."""
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self._let_go = {name: threading.Event() for name in self._let_go}
        for ledger in self.ledgers.values():
            ledger.lock = self._lock

    def handle(self, raw: Raw) -> Outcome:
        """Take a request in; by the time this returns it is in the ledger."""
        at = time.monotonic()
        name, incoming = route(raw)
        backend = self.backends.get(name)
        if backend is None:
            self._enter(name, incoming, Reading(), Answer.text(404), None, at)
            return Outcome(Answer.text(404), None, threading.Event())
        incoming = unpacked(incoming, sniff=backend.sniffs_gzip)
        try:
            reading = backend.read(incoming)
            fault, let_go = self._choose(name, incoming, reading)
            answer = _answer(backend, incoming, reading, fault)
            _check(answer, reading)
        except Exception as error:  # noqa: BLE001  a backend of a third party may raise anything
            self.errors.append(error)
            reading, fault, let_go = Reading(), None, threading.Event()
            answer = Answer.text(500, f"the backend {name!r} raised {type(error).__name__}: {error}")
        self._enter(name, incoming, reading, answer, fault, at)
        return Outcome(answer, fault, let_go)

    def _choose(
        self, name: str, incoming: Incoming, reading: Reading
    ) -> tuple[Fault | None, threading.Event]:
        with self._lock:
            let_go = self._let_go[name]
            queue = self._faults.get(name, [])
            for index, fault in enumerate(queue):
                if not fault.applies(incoming, reading):
                    continue
                if fault.times is not None:
                    left = fault.times - 1
                    queue[index : index + 1] = [_with_times(fault, left)] if left else []
                return fault, let_go
            return None, let_go

    def _enter(
        self,
        name: str,
        incoming: Incoming,
        reading: Reading,
        answer: Answer,
        fault: Fault | None,
        at: float,
    ) -> None:
        with self.changed:
            ledger = self.ledgers.setdefault(name, Ledger(self._lock, keep=self._keep))
            ledger.record(
                incoming,
                reading,
                answer.kept_of(len(reading.records)),
                provider=name,
                status=answer.status,
                at=at,
                fault=fault.kind if fault else "",
            )
            self.seen += 1
            self.changed.notify_all()


def _with_times(fault: Fault, times: int) -> Fault:
    return Fault(**{name: getattr(fault, name) for name in fault.__struct_fields__} | {"times": times})


def route(raw: Raw) -> tuple[str, Incoming]:
    """Return the provider that a request is for, and the request as its backend sees it."""
    path, _, query = raw.target.partition("?")
    _, _, rest = path.partition("/")
    name, slash, rest = rest.partition("/")
    found = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
    where = unquote(f"{slash}{rest}") or "/"
    return unquote(name), Incoming(raw.method, where, found, raw.headers, raw.body, len(raw.body))


def unpacked(incoming: Incoming, *, sniff: bool) -> Incoming:
    """Return the request with its body decompressed."""
    encoding = incoming.headers.get("content-encoding", "").lower()
    if encoding in {"", "identity"}:
        if not (sniff and incoming.body[:2] == _GZIP):
            return incoming
        encoding = "gzip"
    body, problem = decompress(incoming.body, encoding)
    return Incoming(
        incoming.method, incoming.path, incoming.query, incoming.headers, body, incoming.raw_size, problem
    )


def _answer(backend: Backend, incoming: Incoming, reading: Reading, fault: Fault | None) -> Answer:
    """Return the answer, with what is kept spelled out."""
    if fault is None:
        return backend.answer(incoming, reading)
    if fault.kind == "poison":
        bad = [index for index, record in enumerate(reading.records) if fault.is_bad(record)]
        return backend.poisoned(incoming, reading, bad)
    said = _instead(backend, fault)
    usual = backend.answer(incoming, reading)
    if said is None and fault.kind != "reset":
        return usual
    said = said or usual
    kept = usual.kept_of(len(reading.records)) if fault.kept else ()
    return Answer(said.status, said.body, {**said.headers, **fault.headers}, kept)


def _check(answer: Answer, reading: Reading) -> None:
    count = len(reading.records)
    if len(reading.keys) != count:
        raise ValueError(f"{count} records, {len(reading.keys)} keys")
    if not all(0 <= index < count for index in answer.kept_of(count)):
        raise ValueError(f"kept names a record that is not among the {count}")


def _instead(backend: Backend, fault: Fault) -> Answer | None:
    """Return what the fault says in place of the backend's answer; ``None``: nothing."""
    kind = fault.kind
    if kind == "status":
        return backend.canned(fault.code) if fault.body is None else Answer(fault.code, fault.body)
    if kind == "throttled":
        said = backend.canned(429)
        said.headers = {**said.headers, "retry-after": _retry_after(fault)}
        return said
    if kind in {"hang", "disconnect"} or (kind == "reset" and fault.where == "before"):
        return Answer(0)
    others: dict[str, Callable[[], Answer]] = {
        "unauthorized": backend.unauthorized,
        "redirect": lambda: Answer(fault.code),
        "too-large": lambda: backend.too_large(fault.size),
    }
    return others[kind]() if kind in others else None


def _retry_after(fault: Fault) -> str:
    if fault.where == "date":
        return formatdate(math.ceil(time.time() + fault.seconds), usegmt=True)
    return f"{fault.seconds:g}"
