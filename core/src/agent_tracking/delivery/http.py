"""One request, one answer, within one deadline: straight to the backend, or through the proxy that is set."""

from __future__ import annotations

import codecs
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from agent_tracking import forks
from agent_tracking.delivery.connection import BODY_LIMIT, Connection
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import Request, Response

__all__ = ["BODY_LIMIT", "TOTAL_SECONDS", "HTTPSender", "proxy_for", "tls_context"]

#: Seconds from the first byte sent to the last one read; the vendors' own SDKs allow 10 to 15.
TOTAL_SECONDS = 15.0

# Looking up any host imports this. A fork in the middle of that would leave a child that waits for ever,
# so it happens now, while a fork waits (see forks.BOOT).
codecs.lookup("idna")

_contexts: dict[str, Any] = {}


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


class _Way(Protocol):
    """One connection to one server."""

    socket: socket.socket | None

    def exchange(self, request: Request, url: httpx.URL, deadline: float) -> Response: ...

    def close(self) -> None: ...


class HTTPSender:
    """Sends one lane's requests over one connection that is kept open between them.

    Args:
        total: seconds for one request and its answer.
        tls: returns the ``ssl.SSLContext`` for addresses of HTTPS.
    """

    def __init__(self, total: float = TOTAL_SECONDS, tls: Callable[[], Any] = tls_context) -> None:
        self._total = total
        self._tls = tls
        self._ways: dict[str, _Way] = {}
        self._routes: dict[str, tuple[httpx.URL, _Way]] = {}
        #: The way that is in use, and until when.
        self._now: tuple[_Way, float] | None = None

    def send(self, request: Request) -> Response:
        """Return the answer.

        Raises:
            ConfigurationError: the address or a proxy variable cannot work, so that retrying is no use.
            httpx.TransportError, OSError: no answer.
        """
        url, way = self._routes.get(request.url) or self._route(request.url)
        deadline = time.monotonic() + self._total
        self._now = (way, deadline)
        try:
            return way.exchange(request, url, deadline)
        finally:
            self._now = None

    def enforce(self, now: float) -> None:
        """End a request that is over its deadline, from another thread.

        Timeouts of sockets are for each read, so a server that sends its headers byte by byte could hold
        the lane for ever (https://github.com/encode/httpx/issues/1450).
        """
        way, deadline = self._now or (None, 0.0)
        if way is not None and now > deadline + 1.0 and (connection := way.socket) is not None:
            with suppress(OSError):
                # Not SSLSocket's own shutdown, which takes the TLS state from under the thread that reads.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        ways = list(self._ways.values())
        self._ways, self._routes = {}, {}
        for way in ways:
            way.close()

    def _route(self, address: str) -> tuple[httpx.URL, _Way]:
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL:
            raise ConfigurationError("the address is not a URL", fix="correct the provider's host") from None
        if url.scheme not in {"http", "https"} or not url.host:
            raise ConfigurationError(
                "the address is none of HTTP", fix="correct the provider's host: https://..."
            )
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        if origin not in self._ways:
            with forks.BOOT:  # it imports modules
                self._ways[origin] = self._way(url, origin)
        found = self._routes[address] = (url, self._ways[origin])
        return found

    def _way(self, url: httpx.URL, origin: str) -> _Way:
        proxy = proxy_for(origin)
        if proxy is None:
            return Connection(url, self._tls)
        from agent_tracking.delivery.proxied import Proxied

        return Proxied(proxy, self._tls)
