"""A sink that is faster than any sender: it keeps bodies as they come and counts when it is asked.

    python -m benchmarks.sink

prints its address and serves until standard input ends. An address is ``/<run>/<backend>/...``; each
measurement has a run of its own, so nothing that arrives late falls into another one's account. It answers
200 at once, in the backend's words. For tests of the accounting it can lose: it answers, and forgets.

=========================  ==================================================================
``GET /-/counts/<run>``    numbers by backend; ``?forget=1`` forgets the run
``POST /-/hold``           answer nothing from now on (senders wait)
``POST /-/release``        answer what waits, and go on
``POST /-/lose/<every>``   forget every n-th request; 0 stops that
=========================  ==================================================================
"""

from __future__ import annotations

import asyncio
import json
import sys
from urllib.parse import parse_qs, urlsplit

from benchmarks.counting import Tally, kind_of

__all__ = ["serve"]

#: Bytes of bodies that may wait to be counted.
_KEPT = 512 * 1024 * 1024
_BODIES = {
    "posthog": b'{"status":"Ok"}',
    "mixpanel": b'{"code":200,"num_records_imported":1,"status":"OK"}',
    "amplitude": b'{"code":200,"events_ingested":1,"payload_size_bytes":1,"server_upload_time":1}',
    "otel": b"",
}
#: Mixpanel's own SDK speaks to ``/track``, which answers otherwise.
_TRACK = b'{"status":1,"error":null}'


def _answer(body: bytes, kind: bytes = b"application/json") -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s" % (kind, len(body), body)


_ANSWERS = {name: _answer(body) for name, body in _BODIES.items()}
_ANSWERS["otel"] = _answer(b"", b"application/x-protobuf")
_TRACKED = _answer(_TRACK)
_OTHER = _answer(b'{"success":true}')
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class State:
    """What all connections share."""

    def __init__(self) -> None:
        self.bodies: dict[tuple[str, str], list[bytes]] = {}
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.size = 0
        self.lose = 0
        self.seen = 0
        self.held: list[tuple[asyncio.Transport, bytes]] | None = None

    def keep(self, path: str, body: bytes) -> bytes:
        """Take a request; return the answer."""
        _, run, backend, *rest = path.split("/", 3)
        self.seen += 1
        if not self.lose or self.seen % self.lose:
            self.bodies.setdefault((run, backend), []).append(body)
            self.size += len(body)
            if self.size > _KEPT:
                self.count()
        if rest and rest[0].startswith("track"):
            return _TRACKED
        return _ANSWERS.get(kind_of(backend), _OTHER)

    def count(self) -> None:
        """Count what has been kept."""
        for key, bodies in self.bodies.items():
            tally = self.tallies.setdefault(key, Tally(key[1]))
            for body in bodies:
                tally.add(body)
        self.bodies.clear()
        self.size = 0

    def order(self, target: str) -> bytes:
        """Do what ``/-/...`` says; return what it says."""
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        _, _, order, *arguments = path.split("/")
        if order == "counts":
            self.count()
            found = {key[1]: tally.counts() for key, tally in self.tallies.items() if key[0] == arguments[0]}
            if "forget" in query:
                for name in found:
                    del self.tallies[arguments[0], name]
            return _answer(json.dumps(found).encode())
        if order == "lose":
            self.lose = int(arguments[0])
        elif order == "hold":
            self.held = []
        elif order == "release":
            held, self.held = self.held or [], None
            for transport, answer in held:
                if not transport.is_closing():  # a sender may have given up waiting
                    transport.write(answer)
        return _answer(b"{}")


class Connection(asyncio.Protocol):
    """One sender's connection: HTTP/1.1 with ``Content-Length``, as all of them send it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._parts: list[bytes] = []
        self._have = 0
        self._need = 0  # bytes of the request that has begun; 0: its head is not complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        self._have += len(data)
        while self._have and self._have >= self._need:
            whole = b"".join(self._parts)
            self._parts = [whole]
            end = whole.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            head = whole[:end].lower()
            need = end + _length(head)
            if need > self._have:
                if self._need != need and b"100-continue" in head:
                    self._transport.write(_CONTINUE)
                self._need = need
                return
            rest = whole[need:]
            self._parts, self._have, self._need = ([rest] if rest else []), len(rest), 0
            self._request(whole[: head.find(b"\r\n")].decode("latin-1"), whole[end:need], head)

    def _request(self, line: str, body: bytes, head: bytes) -> None:
        target = line.split(" ")[1]
        state = self._state
        if target.startswith("/-/"):
            self._transport.write(state.order(target))
            return
        answer = state.keep(target, body)
        if state.held is not None:
            state.held.append((self._transport, answer))
            return
        self._transport.write(answer)
        if b"connection: close" in head:
            self._transport.close()


def _length(head: bytes) -> int:
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        if b"transfer-encoding:" in head:
            raise ValueError("the sink reads no chunks: no sender sends any")
        return 0
    start += 17
    return int(head[start : head.find(b"\r\n", start)])


async def serve() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    state = State()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: sys.stdin.buffer.read1(1) or ended.set())
    await ended.wait()


def main() -> None:
    """Run with uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
        return
    if sys.version_info >= (3, 11):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
    else:
        uvloop.install()
        asyncio.run(serve())


if __name__ == "__main__":
    main()
