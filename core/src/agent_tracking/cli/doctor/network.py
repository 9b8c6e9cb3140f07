"""Checks of the way to each host: name, connection, TLS, proxy, and the clock against its ``Date``."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timezone
from email.utils import parsedate_to_datetime
from threading import Thread
from urllib.request import getproxies_environment

from agent_tracking.cli.doctor.causes import CONNECT_SECONDS, Failure, failure_of
from agent_tracking.cli.doctor.findings import Finding, Level, note, ok, problem
from agent_tracking.cli.doctor.requests import Origin
from agent_tracking.delivery.http import HTTPSender, proxy_for, tls_context
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import Request, Response

__all__ = ["SKEW_SECONDS", "check_network"]

#: A clock that is off by more is a problem: backends date, order and refuse events by their time.
SKEW_SECONDS = 60.0
#: Days before the end of a certificate from which on it is worth knowing.
_EXPIRES_DAYS = 14
#: Seconds for everything about one host.
_PATIENCE = 45.0
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def check_network(origins: Mapping[Origin, Sequence[str]], environ: Mapping[str, str]) -> list[Finding]:
    """Look at every host at the same time; what is asked is ``HEAD /``, with nothing of the provider's."""
    found: dict[Origin, list[Finding]] = {origin: [] for origin in origins}

    def look(origin: Origin) -> None:
        try:
            found[origin].extend(_look(origin, environ))
        except Exception as error:  # noqa: BLE001  what went wrong with one host hides no other
            what = f"looking at it ended with {type(error).__name__}"
            found[origin].append(problem("network", str(origin), what, "check its address"))

    threads = [Thread(target=look, args=(origin,), daemon=True) for origin in origins]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _PATIENCE
    for origin, thread in zip(origins, threads, strict=True):
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            found[origin].append(
                problem("network", str(origin), f"no answer within {_PATIENCE:.0f} s", "check the network")
            )
    return [finding for origin in origins for finding in tuple(found[origin])]


def _look(origin: Origin, environ: Mapping[str, str]) -> Iterator[Finding]:
    proxied = False
    for finding in _proxy(origin, environ):
        yield finding
        if finding.level is Level.PROBLEM:
            return
        proxied = proxied or finding.level is Level.OK
    if not proxied:
        steps = [_connect(origin)]
        if steps[0].level is Level.OK and origin.scheme == "https":
            steps += _handshake(origin)
        yield from steps
        if any(step.level is Level.PROBLEM for step in steps):
            return
    yield from _ask(origin, proxied=proxied)


def _proxy(origin: Origin, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Tell which proxy stands between; ok if one does and can be reached, a note if one is passed by."""
    variable = _variable(origin, environ)
    try:
        proxy = proxy_for(origin.url)
    except ConfigurationError as error:
        yield problem("proxy", str(origin), error.reason, error.fix)
        return
    if proxy is None and not variable:
        return
    if proxy is None:
        yield note("proxy", str(origin), f"{variable} is set, but NO_PROXY names this host: no proxy is used")
        return
    variable = variable or "the system's own setting"
    url = proxy.url
    place = Origin("http", url.host, url.port or _DEFAULT_PORTS.get(url.scheme, 80))
    shown = f"{url.scheme}://{place}"
    reached = _connect(place)
    if reached.level is Level.PROBLEM:
        what = f"{variable} sends what is for {origin} through the proxy {shown}, and {reached.what}"
        fix = f"correct or unset {variable}, or name {origin.host} in NO_PROXY"
        yield problem("proxy", shown, what, fix)
        return
    yield ok("proxy", str(origin), f"{variable} sends it through {shown}, which can be reached")


def _variable(origin: Origin, environ: Mapping[str, str]) -> str:
    """Return the name of the variable that names this origin's proxy, if any, as urllib reads them."""
    proxies = getproxies_environment()
    kind = next((each for each in (origin.scheme, "all") if proxies.get(each)), None)
    if kind is None:
        return ""
    names = [f"{kind}_proxy", *(name for name in environ if name.lower() == f"{kind}_proxy")]
    return next((name for name in names if environ.get(name) == proxies[kind]), f"{kind.upper()}_PROXY")


def _connect(origin: Origin) -> Finding:
    started = time.monotonic()
    try:
        with closing(_socket(origin)):
            milliseconds = (time.monotonic() - started) * 1000
    except Exception as error:  # noqa: BLE001  a host name can also be none
        failure = failure_of(error)
        return _failed(origin, failure)
    return ok("network", str(origin), f"its name is known and it takes connections ({milliseconds:.0f} ms)")


def _socket(origin: Origin) -> socket.socket:
    """Return a connection; looking up the name is bounded, too, which the resolver is not."""
    done: list[Exception | None] = []

    def resolve() -> None:
        try:
            socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            done.append(None)
        except Exception as error:  # noqa: BLE001  raised below, on the thread that asked
            done.append(error)

    thread = Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(2 * CONNECT_SECONDS)
    if not done:
        raise socket.gaierror(socket.EAI_AGAIN, "the resolver does not answer")
    if done[0] is not None:
        raise done[0]
    return socket.create_connection((origin.host, origin.port), timeout=CONNECT_SECONDS)


def _handshake(origin: Origin) -> list[Finding]:
    try:
        context: ssl.SSLContext = tls_context()
        # The context of the delivery itself: what it trusts is what counts.
        with (
            closing(_socket(origin)) as plain,
            closing(context.wrap_socket(plain, server_hostname=origin.host)) as secure,
        ):
            certificate, version = secure.getpeercert() or {}, secure.version()
    except ConfigurationError as error:
        return [problem("tls", str(origin), error.reason, error.fix)]
    except Exception as error:  # noqa: BLE001  ssl raises several kinds
        return [_failed(origin, failure_of(error))]
    return [_certificate(origin, str(certificate.get("notAfter", "")), version or "TLS")]


def _certificate(origin: Origin, ends: str, version: str) -> Finding:
    try:
        days = int((ssl.cert_time_to_seconds(ends) - time.time()) // 86_400)
    except ValueError:
        return ok("tls", str(origin), f"{version}, and its certificate is trusted")
    if days < _EXPIRES_DAYS:
        what = f"{version}; its certificate is trusted, but only for {days} more days"
        return note("tls", str(origin), what, "tell who runs it to renew the certificate")
    return ok("tls", str(origin), f"{version}, and its certificate is trusted for {days} more days")


def _failed(origin: Origin, failure: Failure) -> Finding:
    return problem(failure.check, str(origin), failure.what, failure.fix)


def _ask(origin: Origin, *, proxied: bool) -> Iterator[Finding]:
    """Ask for the host's own page, by the delivery's own sender, and read its clock."""
    sender = HTTPSender()
    try:
        before = time.time()
        response = sender.send(Request(f"{origin.url}/", method="HEAD"))
        after = time.time()
    except ConfigurationError as error:
        yield problem("proxy" if proxied else "network", str(origin), error.reason, error.fix)
        return
    except Exception as error:  # noqa: BLE001  transports raise many kinds
        yield _failed(origin, failure_of(error, proxied=proxied))
        return
    finally:
        sender.close()
    if response.status == 407:
        what = "the proxy answers 407: it wants a user and a password"
        yield problem(
            "proxy", str(origin), what, "write them into the proxy variable: http://user:password@host"
        )
        return
    yield ok("network", str(origin), f"it answers (HEAD /: {response.status})")
    yield _clock(origin, response, before, after)


def _clock(origin: Origin, response: Response, before: float, after: float) -> Finding:
    """Compare the clocks; ``Date`` is in whole seconds, and of a stored answer as old as ``Age`` says."""
    server = _date(response.headers.get("date", ""))
    if server is None:
        return note("clock", str(origin), "its answer has no date: the clock was not compared with it")
    age = response.headers.get("age", "")
    server += int(age[:9]) if age.isascii() and age.isdigit() else 0
    # Between the two moments, and up to a second later than it says.
    ahead = max(0.0, before - (server + 1)) - max(0.0, server - after)
    if abs(ahead) <= SKEW_SECONDS:
        return ok(
            "clock", str(origin), f"this machine's clock agrees with its, within {abs(ahead) + 1:.0f} s"
        )
    direction = "ahead of" if ahead > 0 else "behind"
    return problem(
        "clock",
        str(origin),
        f"this machine's clock is {_length(abs(ahead))} {direction} the server's: events get wrong times",
        "set the clock, e.g. by NTP (timedatectl set-ntp true); in a container, that of its host",
    )


def _date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _length(seconds: float) -> str:
    """Return a length of time in its two largest units: ``1 h 5 min``."""
    left, parts = int(seconds), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
