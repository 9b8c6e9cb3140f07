"""Closed-loop load from a process of its own: each connection sends the next request when it has its answer.

    python -m benchmarks.clients PORT TURNS WARM SECONDS PAIRS

asks one server in turns for the same page without and with tracking, ``SECONDS`` each: two processes, or two
minutes, of one machine differ by more than what is to be measured. Half seconds differ, too: so then it asks
``PAIRS`` times over one connection for both, one right after the other in an order drawn by lot. Prints each
turn's throughput, its answers' times and the CPU that threads other than the answering ones spent on each, and
what tracking adds to a single request: times in microseconds.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import sys
import time
from collections.abc import Sequence

from benchmarks.pace import middle_of, summary

__all__ = ["ask"]

_CONNECTIONS = 4


class _Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""
        self.began = 0.0

    def send(self, request: bytes) -> None:
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def time(self, path: str) -> float:
        """Ask once; return the seconds until the answer."""
        self.send(_request(path))
        while not self.answered():
            continue
        return time.perf_counter() - self.began

    def answered(self) -> bool:
        """Read what is there; return whether the answer is complete."""
        data = self.socket.recv(262_144)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._got += data
        head = self._got.find(b"\r\n\r\n")
        if head < 0:
            return False
        if not self._got.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"the server answered {self._got[:40]!r}")
        start = self._got.lower().index(b"content-length:") + 15
        length = int(self._got[start : self._got.index(b"\r\n", start)])
        if len(self._got) < head + 4 + length:
            return False
        self._got = b""
        return True


def ask(port: int, path: str, timeout: float = 90) -> float:
    """Ask the application for one of its paths that begin with ``/-/``; return the CPU seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        got = b""
        while part := connection.recv(65_536):
            got += part
    return float(json.loads(got.partition(b"\r\n\r\n")[2]))


def run(port: int, turns: int, warm: float, seconds: float, pairs: int) -> dict[str, object]:
    """Load the server in turns, without and with tracking, and without again in the end; see the module."""
    clients = [_Client(port) for _ in range(_CONNECTIONS)]
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        _turn(selector, clients, "/off", warm)
        tracked = len(_turn(selector, clients, "/on", warm))  # the first event: imports, threads, connections
        ask(port, "/-/finish")
        found = []
        for number in range(2 * turns + 1):
            path = "/on" if number % 2 else "/off"
            if path == "/on":  # so that background work is going on already
                tracked += len(_turn(selector, clients, path, warm))
            behind, began = ask(port, "/-/behind"), time.perf_counter()
            times = _turn(selector, clients, path, seconds)
            took = time.perf_counter() - began
            behind = ask(port, "/-/behind") - behind
            if path == "/on":
                tracked += len(times)
                ask(port, "/-/finish")
            each = summary(times)
            found.append(
                {
                    "path": path,
                    "throughput": len(times) / took,
                    "behind": behind / len(times) * 1e6,
                    "p50": each["p50"],
                    "p99": each["p99"],
                }
            )
    for client in clients:
        client.socket.close()
    single = _in_pairs(port, pairs) if pairs else {}
    ask(port, "/-/finish")
    return {"tracked": tracked + pairs, "turns": found, "single": single}


def _in_pairs(port: int, pairs: int) -> dict[str, float]:
    """Ask one by one, in pairs with and without tracking; return what tracking adds to an answer, in µs.

    ``request``: the middle half of the differences; ``error``: its standard error.
    """
    lots = random.Random(1)
    differences = []
    client = _Client(port)
    for _ in range(pairs):
        order = ["/on", "/off"]
        lots.shuffle(order)
        took = {path: client.time(path) for path in order}
        differences.append(took["/on"] - took["/off"])
    client.socket.close()
    request, error = middle_of(differences)
    return {"request": request * 1e6, "error": error * 1e6}


def _request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def _turn(
    selector: selectors.BaseSelector, clients: Sequence[_Client], path: str, seconds: float
) -> list[float]:
    """Ask for so long, and read the last answers; return how long each took."""
    end = time.perf_counter() + seconds
    times: list[float] = []
    request = _request(path)
    for client in clients:
        client.send(request)
    under_way = len(clients)
    while under_way:
        for key, _ in selector.select(10):
            client = key.data
            if client.answered():
                times.append(time.perf_counter() - client.began)
                if time.perf_counter() < end:
                    client.send(request)
                else:
                    under_way -= 1
    return times


def main() -> None:
    """Run from the command line."""
    port, turns, warm, seconds, pairs = sys.argv[1:]
    print(json.dumps(run(int(port), int(turns), float(warm), float(seconds), int(pairs))))


if __name__ == "__main__":
    main()
