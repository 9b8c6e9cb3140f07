"""Runs in processes of its own: what importing costs, whether encoding depends on the process, forks.

``python -m agent_tracking.testing.conformance.probe COMMAND`` reads a JSON object from standard input and
writes one to standard output. Imports as little as it can.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from operator import attrgetter
from typing import Any

__all__ = ["main"]

#: What a module must not do while it is imported, by the audit event that Python raises for it:
#: https://docs.python.org/3/library/audit_events.html
_EVENTS = {
    "_thread.start_new_thread": "starts a thread",
    "_thread.start_joinable_thread": "starts a thread",
    "os.fork": "forks",
    "os.posix_spawn": "starts a process",
    "os.putenv": "changes the environment",
    "os.unsetenv": "changes the environment",
    "os.system": "starts a process",
    "socket.__new__": "makes a socket",
    "socket.connect": "connects",
    "socket.getaddrinfo": "looks up a name",
    "subprocess.Popen": "starts a process",
    "time.sleep": "sleeps",
}
#: HTTP clients, and the vendors' own kits.
_CLIENTS = (
    "aiohttp", "amplitude", "analytics", "botocore", "grpc", "http.client", "httpcore", "httpx", "mixpanel",
    "posthog", "pycurl", "requests", "rudderstack", "segment", "urllib.request", "urllib3", "websockets",
)  # fmt: skip


def _provider(given: dict[str, Any]) -> Any:  # noqa: ANN401
    return attrgetter(given["qualname"])(import_module(given["module"]))


def _world() -> dict[str, Any]:
    """Return what belongs to the application, in a form that can be compared."""
    root = logging.getLogger()
    return {
        "the handlers of the root logger": [str(handler) for handler in root.handlers],
        "the level of the root logger": root.level,
        "the signal handlers": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "the environment": dict(os.environ),
        "the threads": sorted(thread.name for thread in threading.enumerate()),
        "sys.excepthook": str(sys.excepthook),
        "threading.excepthook": str(threading.excepthook),
        "sys.path": list(sys.path),
        "the working directory": os.getcwd(),  # noqa: PTH109
    }


class _Watch:
    """Notes what happens while ``on``."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._audit)

    def _audit(self, event: str, _arguments: object) -> None:
        if self.on and event in _EVENTS:
            self.seen.append(_EVENTS[event])

    @contextmanager
    def looking(self, found: dict[str, Any], what: str) -> Iterator[None]:
        """Enter under ``what`` what the block did and changed, and how long it took."""
        before, loaded = _world(), set(sys.modules)
        self.seen = []
        self.on, began = True, time.perf_counter()
        try:
            yield
        finally:
            seconds, self.on = time.perf_counter() - began, False
            after = _world()
            new = set(sys.modules) - loaded
            found[what] = {
                "seconds": seconds,
                "did": sorted(set(self.seen)),
                "changed": [name for name in before if before[name] != after[name]],
                "clients": sorted(new.intersection(_CLIENTS)),
            }


def imports(given: dict[str, Any]) -> dict[str, Any]:
    """Import what any author needs, then the provider's module, then make the provider."""
    found: dict[str, Any] = {}
    watch = _Watch()
    with watch.looking(found, "control"):
        for name in ("http_provider", "hookspecs", "urls", "provider", "records"):
            import_module(f"agent_tracking.{name}")
    with watch.looking(found, "import"):
        kind = _provider(given)
    environ = {**os.environ, **given["environ"]}
    with watch.looking(found, "make"):
        kind(environ)
    return found


def encode(given: dict[str, Any]) -> dict[str, Any]:
    """Return a digest of what each record becomes, and of the requests."""
    from agent_tracking.exceptions import Reject
    from agent_tracking.testing.conformance import records

    provider = _provider(given)(given["environ"])
    found: dict[str, Any] = {}
    for what, record in records.hostile():
        try:
            made = records.payloads(provider, record)
        except Reject:
            made = []
        found[what] = sha256(b"\0".join(payload.body for payload in made)).hexdigest()
    for record in (records.event({"a": 1}), records.identity({"a": 1})):
        for payload in records.payloads(provider, record):
            name = payload.endpoint or provider.endpoints[0].name
            body = provider.request(name, [payload]).body
            found[f"a request to {name}"] = sha256(body).hexdigest()
    return found


def forks(_given: dict[str, Any]) -> dict[str, Any]:
    """Deliver, fork with more waiting, deliver in the child and in the parent."""
    from agent_tracking import flush, providers, track
    from agent_tracking.testing.conformance import records

    def send(serials: range) -> None:
        for serial in serials:
            properties = {records.MARK: f"conformance-{serial:06d}"}
            track("forked", properties, user_id="user-4242", message_id=records.message_id(serial))

    states = {record.name: f"{record.state}: {record.reason}" for record in providers()}
    send(range(5))
    first = bool(flush(20))
    send(range(5, 10))
    child = os.fork()
    if child == 0:
        send(range(100, 105))
        os._exit(0 if flush(20) else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    send(range(10, 15))
    return {"states": states, "first": first, "child": status, "last": bool(flush(20))}


def buffers(given: dict[str, Any]) -> dict[str, Any]:
    """Hand one event over, fork, and let a new provider in the child deliver another one."""
    from agent_tracking.testing.conformance import records
    from agent_tracking.testing.conformance.calls import Caller

    ours = Caller(_provider(given)(given["environ"]))
    ours.call("track", records.event({}, serial=1))
    child = os.fork()
    if child == 0:
        theirs = Caller(_provider(given)(given["environ"]))
        theirs.call("track", records.event({}, serial=2))
        theirs.call("flush")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ours.call("flush")
    return {"child": status}


_COMMANDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "imports": imports,
    "encode": encode,
    "forks": forks,
    "buffers": buffers,
}


def main() -> int:
    """Run one command."""
    given = json.load(sys.stdin)
    found = _COMMANDS[sys.argv[1]](given)
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
