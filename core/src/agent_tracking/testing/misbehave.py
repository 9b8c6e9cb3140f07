"""What each fault does to the connection on which it answers."""

from __future__ import annotations

import functools
import threading
import zlib

from agent_tracking.testing.backends import Answer
from agent_tracking.testing.faults import Fault
from agent_tracking.testing.wire import Wire, body_of, head_of

__all__ = ["respond"]

_CHUNK = 256 * 1024


def respond(wire: Wire, answer: Answer, fault: Fault | None, let_go: threading.Event, *, close: bool) -> bool:
    """Send ``answer`` as ``fault`` wants it; tell whether the connection goes on.

    ``let_go`` ends every wait.
    """
    kind = fault.kind if fault is not None else "none"
    if fault is not None and kind in _WAYS:
        return _WAYS[kind](wire, answer, fault, let_go) and not close
    wire.answer(answer, close=close)
    return not close


def _delay(wire: Wire, answer: Answer, fault: Fault, let_go: threading.Event) -> bool:
    let_go.wait(fault.seconds)
    wire.answer(answer)
    return True


def _hang(wire: Wire, answer: Answer, fault: Fault, let_go: threading.Event) -> bool:  # noqa: ARG001
    let_go.wait()
    return False


def _trickle(wire: Wire, answer: Answer, fault: Fault, let_go: threading.Event) -> bool:
    body = body_of(answer)
    head = head_of(answer, len(body))
    if fault.where == "headers":
        slow = head + body
    else:
        wire.send(head)
        slow = body
    for at in range(len(slow)):
        if let_go.is_set():
            wire.send(slow[at:])
            break
        wire.send(slow[at : at + 1])
        let_go.wait(fault.seconds)
    return True


def _reset(wire: Wire, answer: Answer, fault: Fault, let_go: threading.Event) -> bool:  # noqa: ARG001
    if fault.where != "before":
        body = body_of(answer)
        head = head_of(answer, len(body))
        if fault.where == "after":
            wire.send(head + body)
        elif body:
            wire.send(head + body[: len(body) // 2])
        else:
            wire.send(head[: len(head) // 2])
    wire.reset()
    return False


def _disconnect(wire: Wire, answer: Answer, fault: Fault, let_go: threading.Event) -> bool:  # noqa: ARG001
    return False


def _closed_afterwards(wire: Wire, answer: Answer, fault: Fault, let_go: threading.Event) -> bool:  # noqa: ARG001
    wire.answer(answer)
    return False


def _huge(wire: Wire, answer: Answer, fault: Fault, let_go: threading.Event) -> bool:
    body = body_of(answer)
    if fault.where == "gzip":
        bomb = _bomb(fault.size, body)
        headers = {**answer.headers, "content-encoding": "gzip"}
        wire.send(head_of(Answer(answer.status, b"", headers), len(bomb)) + bomb)
        return True
    wire.send(head_of(answer, fault.size + len(body)))
    left, chunk = fault.size, b" " * _CHUNK
    while left > 0:
        if let_go.is_set():
            return False
        wire.send(chunk[:left])
        left -= len(chunk)
    wire.send(body)
    return True


@functools.lru_cache(maxsize=4)
def _bomb(size: int, body: bytes) -> bytes:
    deflater = zlib.compressobj(6, wbits=31)
    chunk = b" " * _CHUNK
    parts = [deflater.compress(chunk[: min(_CHUNK, size - at)]) for at in range(0, size, _CHUNK)]
    return b"".join([*parts, deflater.compress(body), deflater.flush()])


_WAYS = {
    "delay": _delay,
    "hang": _hang,
    "trickle": _trickle,
    "reset": _reset,
    "disconnect": _disconnect,
    "closed-afterwards": _closed_afterwards,
    "huge": _huge,
}
