"""Why a connection fails, in words, and what to do about it."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import httpx

from agent_tracking.delivery.http import TOTAL_SECONDS

__all__ = ["CONNECT_SECONDS", "Failure", "failure_of"]

#: Seconds for a name, a connection or a handshake.
CONNECT_SECONDS = 5.0

_OWN_AUTHORITY = (
    "where a company's proxy inspects TLS, or the host has its own authority: set SSL_CERT_FILE to a file"
    " with its certificate beside the usual ones; otherwise somebody else answers in its place"
)
_CLOCK = "check this machine's clock; if it is right, tell who runs the host"

#: OpenSSL's verification codes, https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_CERTIFICATES = {
    2: ("its certificate was issued by nobody known here", _OWN_AUTHORITY),
    9: ("its certificate is not valid yet", _CLOCK),
    10: ("its certificate has expired", _CLOCK),
    18: ("its certificate is self-signed, which nobody trusts", _OWN_AUTHORITY),
    19: ("its certificate comes from an authority that is not trusted here", _OWN_AUTHORITY),
    20: ("its certificate was issued by nobody known here", _OWN_AUTHORITY),
    21: ("its certificate cannot be verified", _OWN_AUTHORITY),
    62: ("its certificate is for another host", "correct the provider's host variable"),
    64: ("its certificate is for another address", "write the host's name rather than its address"),
}


class Failure(NamedTuple):
    """What went wrong: the check that it belongs to, the reason, the fix."""

    check: str
    what: str
    fix: str


def failure_of(error: BaseException, *, proxied: bool = False) -> Failure:
    """Return in words why a connection failed; texts of the error are not used, they may hold addresses."""
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            what, fix = _CERTIFICATES.get(
                each.verify_code, (f"its certificate: {each.verify_message}", _OWN_AUTHORITY)
            )
            return Failure("tls", what, fix)
        if isinstance(each, ssl.SSLError):
            return Failure(
                "tls",
                f"it does not speak TLS as expected ({each.reason or 'handshake failed'})",
                "check whether the address should begin with http://, and its port",
            )
    if proxied and any(isinstance(each, httpx.ProxyError) for each in chain):
        return _by_proxy(error)
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        what = f"it takes the connection, but does not answer within {TOTAL_SECONDS:.0f} s"
        return Failure("network", what, "see whether the server is overloaded, or is another one than meant")
    for each in chain:
        if isinstance(each, OSError) and (found := _of_system(each)):
            return found
    return Failure(
        "network", f"the connection fails: {type(error).__name__}", "check the network and the address"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it comes from."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def _by_proxy(error: BaseException) -> Failure:
    """Say what a proxy answered to ``CONNECT``: httpx tells the status first."""
    status = str(error)[:3]
    if status == "407":
        fix = "write them into the proxy variable: http://user:password@host"
        return Failure("proxy", "the proxy answers 407: it wants a user and a password", fix)
    told = f"answers {status}" if status.isdigit() else "refuses it"
    return Failure(
        "proxy", f"the proxy {told} and lets nothing through", "ask who runs the proxy, or use NO_PROXY"
    )


def _of_system(error: OSError) -> Failure | None:
    if isinstance(error, TimeoutError):
        return _no_answer()
    for kind, code, failure in _SYSTEM:
        if isinstance(error, kind) and code in {None, error.errno}:
            return failure
    return None


_DNS = "check the provider's host variable for a slip, then this machine's (or container's) DNS"
_NO_ROUTE = Failure("network", "there is no route to it", "check this machine's network and firewall")
#: The first that fits, by the class of the error and its number, if that counts.
_SYSTEM: tuple[tuple[type[OSError], int | None, Failure], ...] = (
    (
        socket.gaierror,
        socket.EAI_AGAIN,
        Failure("network", "its name cannot be looked up now: the DNS server does not answer", _DNS),
    ),
    (
        socket.gaierror,
        None,
        Failure("network", "its name cannot be resolved: DNS knows no such host", _DNS),
    ),
    (
        ConnectionRefusedError,
        None,
        Failure(
            "network", "it refuses connections at this port", "check the port, and whether the server runs"
        ),
    ),
    (OSError, errno.ENETUNREACH, _NO_ROUTE),
    (OSError, errno.EHOSTUNREACH, _NO_ROUTE),
    (OSError, errno.ENETDOWN, _NO_ROUTE),
    (OSError, errno.EADDRNOTAVAIL, _NO_ROUTE),
    (
        ConnectionError,
        None,
        Failure("network", "it ends the connection without an answer", "check the port and the proxy"),
    ),
)


def _no_answer() -> Failure:
    return Failure(
        "network",
        f"it does not answer within {CONNECT_SECONDS:.0f} s",
        "a firewall may drop what is sent: allow this host, or set a proxy",
    )
