"""One way to a backend through a proxy: httpx's transport, which knows tunnels, SOCKS and their passwords.

The transport rather than httpx's client: the client logs whole addresses, follows redirects when told to,
and builds a TLS context for each one.
"""

from __future__ import annotations

import logging
import socket
import time
from _thread import get_ident
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from agent_tracking.delivery.connection import BODY_LIMIT, CONNECT_SECONDS, KEEP_SECONDS, headers_of
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import Request, Response

__all__ = ["Proxied"]

#: The threads that send a request of ours now.
_sending: set[int] = set()


def _is_harmless(record: logging.LogRecord) -> bool:
    """Keep headers out of httpcore's log at DEBUG: a backend that redirects repeats the address there."""
    return get_ident() not in _sending or "_headers." not in str(record.msg)


logging.getLogger("httpcore.http11").addFilter(_is_harmless)


class Proxied:
    """Speaks to one server through a proxy; see :class:`agent_tracking.delivery.connection.Connection`."""

    def __init__(self, proxy: httpx.Proxy, tls: Callable[[], Any]) -> None:
        self.socket: socket.socket | None = None
        try:
            self._transport = httpx.HTTPTransport(
                verify=tls(),
                proxy=proxy,
                limits=httpx.Limits(
                    max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEP_SECONDS
                ),
                trust_env=False,
            )
        except ImportError:
            raise ConfigurationError(
                "the proxy variable names a SOCKS proxy", fix="pip install 'httpx[socks]'"
            ) from None

    def exchange(self, request: Request, url: httpx.URL, deadline: float) -> Response:
        """Send a request and return its answer."""
        seconds = max(0.001, deadline - time.monotonic())
        timeouts = {
            "connect": min(CONNECT_SECONDS, seconds),
            "read": seconds,
            "write": seconds,
            "pool": seconds,
        }
        outgoing = httpx.Request(
            request.method,
            url,
            headers=headers_of(request),
            content=request.body,
            extensions={"timeout": timeouts, "trace": self._trace},
        )
        _sending.add(get_ident())
        try:
            answer = self._transport.handle_request(outgoing)
            try:
                return _read(answer, deadline)
            finally:
                answer.close()
        finally:
            _sending.discard(get_ident())

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        # https://www.python-httpx.org/advanced/extensions/#trace
        # TLS moves the connection into another socket object.
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.socket = info["return_value"].get_extra_info("socket")


def _read(answer: httpx.Response, deadline: float) -> Response:
    body = bytearray()
    for chunk in answer.iter_raw():
        body += chunk
        if len(body) >= BODY_LIMIT:
            break
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the answer was not complete in time")
    names = {name.lower(): value for name, value in answer.headers.items()}
    return Response(answer.status_code, names, bytes(body[:BODY_LIMIT]))
