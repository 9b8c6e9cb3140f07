"""One HTTP/1.1 connection straight to a backend: a socket, TLS where the address asks for it, and h11.

Through a proxy requests go another way, :mod:`agent_tracking.delivery.proxied`. That way, httpx's transport,
takes twice the time for a request: about 270 µs of Python against 130, and an eighth of what a whole
delivery costs where requests carry 100 records (``python -m benchmarks load``).
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from typing import Any

import h11
import httpx

from agent_tracking.http_provider import Request, Response

__all__ = ["BODY_LIMIT", "CONNECT_SECONDS", "KEEP_SECONDS", "Connection", "headers_of"]

#: The most bytes of an answer that are read: no vendor's own answer is longer.
BODY_LIMIT = 64 * 1024
CONNECT_SECONDS = 5.0
#: Seconds for which a connection is kept open without a request.
KEEP_SECONDS = 30.0
_READ_BYTES = 64 * 1024
#: Bytes that the head of an answer may have; h11's own bound, 16 KiB, is less than some gateways send.
_HEAD_BYTES = 100 * 1024
#: A body up to so many bytes goes out together with the headers.
_TOGETHER_BYTES = 64 * 1024


def headers_of(request: Request) -> list[tuple[bytes, bytes]]:
    """Return the headers as bytes: an ``Authorization`` that an operator gave may be Latin-1."""
    given = {"accept-encoding": "identity", **request.headers}
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in given.items()]


class Connection:
    """Opened at the first request, kept between them, opened anew when the server has closed it.

    Args:
        url: an address of the server.
        tls: returns the ``ssl.SSLContext``, where the address is one of HTTPS.
    """

    def __init__(self, url: httpx.URL, tls: Callable[[], Any]) -> None:
        self._host = url.raw_host.decode("ascii")
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._context = tls() if url.scheme == "https" else None
        self._protocol = _protocol()
        self._idle_since = 0.0
        self.socket: socket.socket | None = None

    def exchange(self, request: Request, url: httpx.URL, deadline: float) -> Response:
        """Send a request and return its answer, complete by ``deadline`` (``time.monotonic``).

        Raises:
            httpx.TransportError: there is no answer, or it came too late.
        """
        try:
            connection = self._kept() or self._connect(deadline)
            try:
                self._send(connection, request, url, deadline)
            except httpx.WriteError:  # a server may refuse, and say why, before it has all of a request
                answer = self._receive(connection, deadline)
                self.close()
                return answer
            return self._receive(connection, deadline)
        except h11.RemoteProtocolError as error:
            self.close()
            raise httpx.RemoteProtocolError(str(error)) from error
        except h11.LocalProtocolError as error:
            self.close()
            raise httpx.LocalProtocolError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it; the next request opens another one."""
        connection, self.socket = self.socket, None
        if connection is not None:
            connection.close()

    def _kept(self) -> socket.socket | None:
        """Return the open socket, unless it is too old or the server has ended it."""
        if self.socket is None:
            return None
        if time.monotonic() - self._idle_since > KEEP_SECONDS or _has_something(self.socket):
            self.close()
        return self.socket

    def _connect(self, deadline: float) -> socket.socket:
        self._protocol = _protocol()
        try:
            connection = _reach(self._host, self._port, deadline)
            self.socket = connection
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                self._context.set_alpn_protocols(["http/1.1"])
                connection = self._context.wrap_socket(
                    connection, server_hostname=self._host, do_handshake_on_connect=False
                )
                self.socket = connection  # which another thread may end from now on
                connection.do_handshake()
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return connection

    def _send(self, connection: socket.socket, request: Request, url: httpx.URL, deadline: float) -> None:
        method = request.method.upper()
        headers = headers_of(request)
        names = {name.lower() for name, _ in headers}
        if b"host" not in names:
            headers.insert(0, (b"Host", url.netloc))
        if b"content-length" not in names and (request.body or method in {"POST", "PUT", "PATCH"}):
            headers.append((b"Content-Length", b"%d" % len(request.body)))
        send = self._protocol.send
        head = send(h11.Request(method=method, target=url.raw_path, headers=headers)) or b""
        body = (send(h11.Data(request.body)) or b"") + (send(h11.EndOfMessage()) or b"")
        pieces = [head + body] if len(body) <= _TOGETHER_BYTES else [head, body]
        try:
            for piece in pieces:
                connection.settimeout(_left(deadline))
                connection.sendall(piece)
        except TimeoutError as error:
            raise httpx.WriteTimeout(str(error)) from error
        except OSError as error:
            raise httpx.WriteError(str(error)) from error

    def _receive(self, connection: socket.socket, deadline: float) -> Response:
        protocol = self._protocol
        answer: h11.Response | None = None
        body = bytearray()
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                data = _read(connection, deadline)
                if not data and protocol.their_state is h11.SEND_RESPONSE:
                    raise httpx.RemoteProtocolError("the server ended the connection without an answer")
                protocol.receive_data(data)
            elif isinstance(event, h11.Response):
                answer = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) >= BODY_LIMIT:
                    break
            elif isinstance(event, h11.EndOfMessage):
                break
            elif event is h11.PAUSED:
                raise httpx.RemoteProtocolError("the server switches to another protocol")
        self._keep_or_close()
        if answer is None:  # pragma: no cover  h11 ends no message before it began
            raise httpx.RemoteProtocolError("the answer has no head")
        return Response(answer.status_code, _headers(answer), bytes(body[:BODY_LIMIT]))

    def _keep_or_close(self) -> None:
        protocol = self._protocol
        # What stands behind an answer must not become the answer to the next request.
        surplus, _ = protocol.trailing_data
        if protocol.our_state is h11.DONE and protocol.their_state is h11.DONE and not surplus:
            protocol.start_next_cycle()
            self._idle_since = time.monotonic()
        else:
            self.close()


def _protocol() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)


def _reach(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first of the host's addresses that answers; each has its share of the time."""
    failure: OSError = OSError("the host has no address")
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for place, (family, kind, protocol, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(min(CONNECT_SECONDS, _left(deadline) / (len(addresses) - place)))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def _read(connection: socket.socket, deadline: float) -> bytes:
    connection.settimeout(_left(deadline))
    try:
        return connection.recv(_READ_BYTES)
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error)) from error
    except OSError as error:
        raise httpx.ReadError(str(error)) from error


def _left(deadline: float) -> float:
    """Return the seconds until then."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpx.ReadTimeout("the answer was not complete in time")
    return left


def _headers(answer: h11.Response) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in answer.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _has_something(connection: socket.socket) -> bool:
    """Return whether there is something to read where nothing is expected: as a rule the server's end."""
    if not hasattr(select, "poll"):
        return bool(select.select([connection], [], [], 0)[0])
    poll = select.poll()  # which, unlike select, takes descriptors of any number
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))
