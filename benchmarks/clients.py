"""Closed-loop load from a process of its own: each connection sends the next request when it has its answer.

    python -m benchmarks.clients PORT CONNECTIONS WARM SECONDS

prints answers, throughput and the distribution of answers' times after ``WARM`` seconds, and the CPU that
the server spent on each.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

from benchmarks.pace import summary

__all__ = ["ask"]

_REQUEST = b"GET /meals HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class _Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""
        self.began = 0.0

    def send(self) -> None:
        self.began = time.perf_counter()
        self.socket.sendall(_REQUEST)

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
    """Ask the application for ``/-/cpu`` or ``/-/finish``; return its CPU seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        got = b""
        while part := connection.recv(65_536):
            got += part
    return float(json.loads(got.partition(b"\r\n\r\n")[2]))


def run(port: int, connections: int, warm: float, seconds: float) -> dict[str, object]:
    """Load the server; see the module."""
    selector = selectors.DefaultSelector()
    for client in [_Client(port) for _ in range(connections)]:
        selector.register(client.socket, selectors.EVENT_READ, client)
        client.send()
    total = _loop(selector, time.perf_counter() + warm, times := [])
    times.clear()
    cpu, began = ask(port, "/-/cpu"), time.perf_counter()
    total += _loop(selector, began + seconds, times)
    took = time.perf_counter() - began
    spent = ask(port, "/-/cpu") - cpu
    total += _drain(selector)
    found = {"answers": total, "throughput": len(times) / took, "cpu": spent / len(times) * 1e6}
    return {**found, "answer": summary(times)}


def _loop(selector: selectors.BaseSelector, end: float, times: list[float]) -> int:
    made = 0
    while time.perf_counter() < end:
        for key, _ in selector.select(1):
            client: _Client = key.data
            if client.answered():
                times.append(time.perf_counter() - client.began)
                made += 1
                client.send()
    return made


def _drain(selector: selectors.BaseSelector) -> int:
    """Read the answers that are still to come."""
    made = 0
    while selector.get_map():
        for key, _ in selector.select(10):
            if key.data.answered():
                selector.unregister(key.fileobj)
                key.data.socket.close()
                made += 1
    return made


def main() -> None:
    """Run from the command line."""
    port, connections, warm, seconds = sys.argv[1:]
    print(json.dumps(run(int(port), int(connections), float(warm), float(seconds))))


if __name__ == "__main__":
    main()
