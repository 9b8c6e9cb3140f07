"""What a sink answers about itself, at addresses that begin with two underscores.

========================  =============================================================================
``GET /__ledger__``       the numbers of every provider: ``{"seen", "ledgers": {name: {"requests",
                          "arrived", "accepted", "counted", "counts": {key: [arrived, accepted]}}}}``;
                          with ``?counts=0`` without the keys, which may be many
``GET /__requests__``     ``?provider=``: the requests; bodies are base64 text
``GET /__events__``       ``?provider=``: the kept records with their key and path
``GET /__wait__``         ``?seen=&timeout=``: answers as soon as more than ``seen`` requests came
``POST /__fail__``        ``{"provider": ..., "fault": {"kind": "status", "code": 503, "times": 3}}``
``POST /__clear__``       ``{"provider": ...}``, or ``{}`` for all
========================  =============================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from agent_tracking.testing.backends import Answer
from agent_tracking.testing.faults import Fault
from agent_tracking.testing.wire import Raw

if TYPE_CHECKING:
    from agent_tracking.testing.sink import Sink

__all__ = ["ClearOrder", "FailOrder", "Ledgers", "Page", "control"]

_JSON = {"content-type": "application/json"}
#: The longest wait that one request may ask for, in seconds.
_WAIT = 60.0


class FailOrder(msgspec.Struct):
    """The body of ``POST /__fail__``."""

    provider: str
    fault: Fault


class ClearOrder(msgspec.Struct):
    """The body of ``POST /__clear__``."""

    provider: str | None = None


class Page(msgspec.Struct):
    """One provider's numbers."""

    requests: int
    arrived: int
    accepted: int
    counted: int
    counts: dict[str, tuple[int, int]]


class Ledgers(msgspec.Struct):
    """The answer of ``GET /__ledger__``."""

    seen: int
    ledgers: dict[str, Page]


def control(raw: Raw, sink: Sink) -> Answer | None:
    """Return the answer if the request is about the sink itself."""
    if not raw.target.startswith("/__"):
        return None
    path, _, query = raw.target.partition("?")
    way = _WAYS.get((raw.method, path.rstrip("/")))
    if way is None:
        return Answer.text(404, "the sink knows: " + ", ".join(f"{method} {at}" for method, at in _WAYS))
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    try:
        return Answer(200, msgspec.json.encode(way(sink, asked, raw.body)), _JSON)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        return Answer.text(400, f"{type(error).__name__}: {error}")


def _ledger(sink: Sink, asked: dict[str, str], body: bytes) -> Ledgers:  # noqa: ARG001
    pages = {}
    seen = sink.seen
    for name, ledger in list(sink.ledger.items()):
        counts = {} if asked.get("counts") == "0" else ledger.state().counts
        pages[name] = Page(*ledger.totals(), counts)
    return Ledgers(seen, pages)


def _requests(sink: Sink, asked: dict[str, str], body: bytes) -> object:  # noqa: ARG001
    return sink.requests(asked["provider"])


def _events(sink: Sink, asked: dict[str, str], body: bytes) -> object:  # noqa: ARG001
    ledger = sink.ledger.get(asked["provider"])
    return [] if ledger is None else ledger.kept()


def _wait(sink: Sink, asked: dict[str, str], body: bytes) -> object:  # noqa: ARG001
    seen = int(asked["seen"])
    sink.wait(lambda: sink.seen > seen, min(float(asked["timeout"]), _WAIT))
    return {"seen": sink.seen}


def _fail(sink: Sink, asked: dict[str, str], body: bytes) -> object:  # noqa: ARG001
    order = msgspec.json.decode(body, type=FailOrder)
    sink.fail(order.provider, order.fault)
    return {}


def _clear(sink: Sink, asked: dict[str, str], body: bytes) -> object:  # noqa: ARG001
    sink.clear(msgspec.json.decode(body or b"{}", type=ClearOrder).provider)
    return {}


_WAYS: dict[tuple[str, str], Callable[[Sink, dict[str, str], bytes], object]] = {
    ("GET", "/__ledger__"): _ledger,
    ("GET", "/__requests__"): _requests,
    ("GET", "/__events__"): _events,
    ("GET", "/__wait__"): _wait,
    ("POST", "/__fail__"): _fail,
    ("POST", "/__clear__"): _clear,
}
