"""HTTP/1.1 on a raw socket: no more than a sink needs, and everything a fault wants to break."""

from __future__ import annotations

import socket
import struct
from http import HTTPStatus
from typing import NamedTuple

from agent_tracking.testing.backends import Answer

__all__ = ["BadRequestError", "Raw", "Wire", "body_of", "head_of"]

_HEAD_BYTES = 64 * 1024
_BODY_BYTES = 128 * 1024 * 1024
_CHUNK = 256 * 1024
#: Seconds for which a refused sender's rest is read, so that the refusal is not lost.
_LINGER = 1.0
_RST = struct.pack("ii", 1, 0)
_REASONS = {int(status): status.phrase for status in HTTPStatus}
_BODILESS = frozenset({204, 304})


class BadRequestError(Exception):
    """What was sent cannot be read as a request; ``status`` is the answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"bad request, answered {status}")
        self.status = status


class Raw(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


def body_of(answer: Answer) -> bytes:
    """Return the body that goes with the answer's status."""
    return b"" if answer.status in _BODILESS else answer.body


def head_of(answer: Answer, length: int, *, close: bool = False) -> bytes:
    """Return the status line and the headers for a body of ``length`` bytes."""
    lines = [f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if answer.status not in _BODILESS:
        lines.append(f"content-length: {length}")
    if close:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Wire:
    """One connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def read(self) -> Raw | None:
        """Wait for the next request; ``None`` when the peer hung up, also in the middle of one.

        Raises:
            BadRequestError: it is no request that a sink reads.
            OSError: the connection broke.
        """
        buffer = self._buffer
        while (end := buffer.find(b"\r\n\r\n")) < 0:
            if len(buffer) > _HEAD_BYTES:
                raise BadRequestError(431)
            data = self.sock.recv(_CHUNK)
            if not data:
                return None
            buffer += data
        method, target, version, headers = _parse_head(buffer[:end])
        length = _length(headers)
        if headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._body(buffer[end + 4 :], length)
        if body is None:
            return None
        connection = headers.get("connection", "").lower()
        keep_alive = connection != "close" and (version == "HTTP/1.1" or connection == "keep-alive")
        return Raw(method, target, headers, body, keep_alive)

    def _body(self, start: bytes, length: int) -> bytes | None:
        if len(start) >= length:
            self._buffer = start[length:]
            return start[:length]
        body = bytearray(length)
        body[: len(start)] = start
        view, at = memoryview(body), len(start)
        while at < length:
            got = self.sock.recv_into(view[at:])
            if not got:
                return None
            at += got
        self._buffer = b""
        return bytes(body)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.sendall(data)

    def answer(self, answer: Answer, *, close: bool = False) -> None:
        """Send a whole answer."""
        body = body_of(answer)
        self.send(head_of(answer, len(body), close=close) + body)

    def refuse(self, status: int) -> None:
        """Answer what could not be read, and read on until the peer has seen it."""
        self.answer(Answer.text(status), close=True)
        self.sock.shutdown(socket.SHUT_WR)
        self.sock.settimeout(_LINGER)
        while self.sock.recv(_CHUNK):
            pass

    def reset(self) -> None:
        """End the connection with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        self.sock.close()


def _parse_head(data: bytes) -> tuple[str, str, str, dict[str, str]]:
    first, *lines = data.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise BadRequestError(400)
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadRequestError(400)
        headers[name.lower()] = value.strip()
    return parts[0], parts[1], parts[2], headers


def _length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequestError(411)
    given = headers.get("content-length", "0")
    if not given.isascii() or not given.isdigit():
        raise BadRequestError(400)
    if int(given) > _BODY_BYTES:
        raise BadRequestError(413)
    return int(given)
