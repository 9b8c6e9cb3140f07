"""One request, one answer, within one deadline: httpx's transport, made off the caller's thread.

The transport rather than httpx's client: the client logs whole addresses, follows redirects when told to,
and builds a TLS context for each one.
"""

from __future__ import annotations

import codecs
import logging
import socket
import time
from _thread import get_ident
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from agent_tracking import forks
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import Request, Response

__all__ = ["BODY_LIMIT", "TOTAL_SECONDS", "HTTPSender", "proxy_for", "tls_context"]

#: The most bytes of an answer that are read: no vendor's own answer is longer.
BODY_LIMIT = 64 * 1024
#: Seconds from the first byte sent to the last one read; the vendors' own SDKs allow 10 to 15.
TOTAL_SECONDS = 15.0
_CONNECT_SECONDS = 5.0

TransportFactory = Callable[[str], httpx.BaseTransport]

# Looking up any host imports this. A fork in the middle of that would leave a child that waits for ever,
# so it happens now, while a fork waits (see forks.BOOT).
codecs.lookup("idna")

#: The threads that send a request of ours now.
_sending: set[int] = set()


def _is_harmless(record: logging.LogRecord) -> bool:
    """Keep headers out of httpcore's log at DEBUG: a backend that redirects repeats the address there."""
    return get_ident() not in _sending or "_headers." not in str(record.msg)


logging.getLogger("httpcore.http11").addFilter(_is_harmless)


class HTTPSender:
    """Sends one lane's requests over one connection that is kept open between them.

    Args:
        transport: makes the transport for an address (``httpx.MockTransport`` in tests).
        total: seconds for one request and its answer.
    """

    def __init__(self, transport: TransportFactory | None = None, total: float = TOTAL_SECONDS) -> None:
        self._make = transport or _transport
        self._total = total
        self._transports: dict[str, httpx.BaseTransport] = {}
        self._urls: dict[str, httpx.URL] = {}
        self._socket: socket.socket | None = None
        self._deadline: float | None = None

    def send(self, request: Request) -> Response:
        """Return the answer.

        Raises:
            ConfigurationError: the address or a proxy variable cannot work, so that retrying is no use.
            httpx.TransportError, OSError: no answer.
        """
        url, transport = self._route(request.url)
        # As bytes: httpx encodes text as ASCII, and an Authorization given by an operator may be Latin-1.
        headers = [
            (name.encode("ascii"), value.encode("latin-1"))
            for name, value in {"accept-encoding": "identity", **request.headers}.items()
        ]
        outgoing = httpx.Request(
            request.method,
            url,
            headers=headers,
            content=request.body,
            extensions={
                "timeout": {
                    "connect": min(_CONNECT_SECONDS, self._total),
                    "read": self._total,
                    "write": self._total,
                    "pool": self._total,
                },
                "trace": self._trace,
            },
        )
        self._deadline = time.monotonic() + self._total
        _sending.add(get_ident())
        try:
            answer = transport.handle_request(outgoing)
            try:
                return self._read(answer)
            finally:
                answer.close()
        finally:
            _sending.discard(get_ident())
            self._deadline = None

    def _read(self, answer: httpx.Response) -> Response:
        deadline = self._deadline or 0.0
        body = bytearray()
        for chunk in answer.iter_raw():
            body += chunk
            if len(body) >= BODY_LIMIT:
                break
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("the answer was not complete in time")
        names = {name.lower(): value for name, value in answer.headers.items()}
        return Response(answer.status_code, names, bytes(body[:BODY_LIMIT]))

    def enforce(self, now: float) -> None:
        """End a request that is over its deadline, from another thread.

        httpx's timeouts are for each read, so a server that sends its headers byte by byte would hold
        the lane for ever (https://github.com/encode/httpx/issues/1450).
        """
        deadline, connection = self._deadline, self._socket
        if deadline is not None and now > deadline + 1.0 and connection is not None:
            with suppress(OSError):
                # Not SSLSocket's own shutdown, which takes the TLS state from under the thread that reads.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        transports, self._transports = self._transports, {}
        for transport in transports.values():
            transport.close()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        # https://www.python-httpx.org/advanced/extensions/#trace
        # TLS moves the connection into another socket object.
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")

    def _route(self, address: str) -> tuple[httpx.URL, httpx.BaseTransport]:
        url = self._urls.get(address)
        if url is None:
            try:
                url = httpx.URL(address)
            except httpx.InvalidURL:
                raise ConfigurationError(
                    "the address is not a URL", fix="correct the provider's host"
                ) from None
            self._urls[address] = url
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        transport = self._transports.get(origin)
        if transport is None:
            with forks.BOOT:  # it imports modules
                transport = self._transports[origin] = self._make(origin)
        return url, transport


_contexts: dict[str, Any] = {}


def _transport(origin: str) -> httpx.BaseTransport:
    secure = origin.startswith("https:")
    proxy = proxy_for(origin)
    try:
        return httpx.HTTPTransport(
            verify=tls_context() if secure or proxy else False,
            proxy=proxy,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=30.0),
            trust_env=False,
        )
    except ImportError:
        raise ConfigurationError(
            "the proxy variable names a SOCKS proxy", fix="pip install 'httpx[socks]'"
        ) from None


def tls_context() -> Any:  # noqa: ANN401  ssl is imported only when there is TLS
    """Return the one TLS context of this process: building one takes 25 ms and more."""
    if "tls" not in _contexts:
        try:
            _contexts["tls"] = httpx.create_ssl_context()
        except (OSError, ValueError):
            raise ConfigurationError(
                "SSL_CERT_FILE or SSL_CERT_DIR cannot be read",
                fix="correct or unset SSL_CERT_FILE, SSL_CERT_DIR",
            ) from None
    return _contexts["tls"]


def proxy_for(origin: str) -> httpx.Proxy | None:
    """Return the proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY ask for."""
    parts = urlsplit(origin)
    proxies = getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address or proxy_bypass(parts.netloc):
        return None
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
        if not url.host or "%" in url.host:  # httpx escapes what no host name can have
            raise ValueError
        return httpx.Proxy(url)
    except (ValueError, httpx.InvalidURL):
        variable = f"{parts.scheme.upper()}_PROXY"
        raise ConfigurationError(
            f"{variable} or ALL_PROXY is not a proxy's address",
            fix=f"correct or unset {variable} and ALL_PROXY",
        ) from None
