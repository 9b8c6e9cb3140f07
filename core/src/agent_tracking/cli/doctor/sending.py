"""``--send``: one real event to every active provider, the request that carried it, and the answer."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from threading import local
from typing import Any
from urllib.parse import urlsplit

import msgspec

from agent_tracking.cli.direct import direct_tracker
from agent_tracking.cli.doctor.causes import failure_of
from agent_tracking.cli.doctor.findings import Finding, ok, problem
from agent_tracking.cli.doctor.masking import Masker
from agent_tracking.cli.doctor.requests import EVENT, MARKER
from agent_tracking.cli.output import held_log
from agent_tracking.counters import ProviderStats
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.delivery.http import HTTPSender
from agent_tracking.delivery.outbox import Exchange
from agent_tracking.http_provider import Request, Response
from agent_tracking.records import ProviderRecord, ProviderState

__all__ = ["Sent", "check_sent", "send_one"]

#: Seconds for the answers of all providers; one request has 15.
_PATIENCE = 25.0
#: Characters of an answer's body that are shown: enough for any vendor's error.
_ANSWER_CHARS = 500
#: One try: what an application would try again is said instead.
_ONCE = RetryPolicy(tries=1, window=0.0)


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's request and answer, without anything secret.

    Attributes:
        method, url, headers, body: the request; ``body`` as JSON where it is JSON. Empty without HTTP.
        status, answer: the response; ``None`` and the error's words when there was none.
        verdict: what the provider made of it: ``delivered``, ``retry``, ``split``, ``drop``, ``stop``;
            without HTTP ``delivered``, ``dropped`` or ``waiting``.
        words: that, in words.
        fix: what to do about it; empty when it was delivered.
    """

    provider: str
    method: str = ""
    url: str = ""
    headers: dict[str, str] = {}
    body: Any = None
    status: int | None = None
    answer: str = ""
    verdict: str
    words: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Whether the provider took the event."""
        return self.verdict == "delivered"


class _Recorder:
    """Sends as the delivery does, and keeps what was sent and answered for :class:`_Book`."""

    def __init__(self, book: _Book) -> None:
        self._book = book
        self._sender = HTTPSender()

    def send(self, request: Request) -> Response:
        """Send, and keep both sides."""
        self._book.begin(request)
        try:
            response = self._sender.send(request)
        except Exception as error:
            self._book.end(error)
            raise
        self._book.end(response)
        return response

    def enforce(self, now: float) -> None:
        """See :class:`agent_tracking.delivery.outbox.Sender`."""
        self._sender.enforce(now)

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()


class _Book:
    """Requests and answers by provider: the observer is told of a request on the thread that sent it."""

    def __init__(self) -> None:
        self._here = local()
        self.pages: dict[str, tuple[Exchange, Request | None, Response | Exception | None]] = {}

    def begin(self, request: Request) -> None:
        self._here.request, self._here.answer = request, None

    def end(self, answer: Response | Exception) -> None:
        self._here.answer = answer

    def __call__(self, exchange: Exchange) -> None:
        request = getattr(self._here, "request", None)
        self.pages[exchange.provider] = (exchange, request, getattr(self._here, "answer", None))


def send_one(environ: Mapping[str, str], masker: Masker) -> list[Sent]:
    """Track one event through a real tracker; return what became of it at each active provider."""
    book = _Book()
    with held_log(), direct_tracker(environ, book, sender=lambda: _Recorder(book), retry=_ONCE) as tracker:
        active = [each.name for each in tracker.providers() if each.state is ProviderState.ACTIVE]
        if not active:
            return []
        tracker.track(EVENT, MARKER, anonymous_id="agent-tracking-doctor")
        tracker.flush(_PATIENCE)
        stats = tracker.stats().providers
        records = {each.name: each for each in tracker.providers() if each.name in active}
    return [_sent(name, stats.get(name, ProviderStats()), records.get(name), book, masker) for name in active]


def _sent(
    name: str, stats: ProviderStats, record: ProviderRecord | None, book: _Book, masker: Masker
) -> Sent:
    page = book.pages.get(name)
    if page is None:
        return _without_http(name, stats)
    exchange, request, answer = page
    words, fix = _words(exchange, answer, record)
    shown = {} if request is None else _request(request, masker)
    return Sent(
        provider=name,
        status=exchange.status,
        answer=_answer(answer, masker),
        verdict=exchange.verdict,
        words=words,
        fix=fix,
        **shown,
    )


def _without_http(name: str, stats: ProviderStats) -> Sent:
    if stats.waiting:
        words = f"no answer within {_PATIENCE:.0f} s" + (f": {stats.last_error}" if stats.last_error else "")
        return Sent(provider=name, verdict="waiting", words=words, fix="see what its backend does")
    if stats.dropped:
        words = f"dropped: {', '.join(stats.dropped)}" + (
            f" ({stats.last_error})" if stats.last_error else ""
        )
        return Sent(provider=name, verdict="dropped", words=words, fix="see its package's documentation")
    return Sent(provider=name, verdict="delivered", words="it took the event (no HTTP of the core's)")


def _words(
    exchange: Exchange, answer: Response | Exception | None, record: ProviderRecord | None
) -> tuple[str, str]:
    """Return the verdict in words, and what to do about it."""
    if isinstance(answer, Exception):
        failure = failure_of(answer)
        again = "" if exchange.verdict == "stop" else "; an application would try again"
        return f"no answer: {failure.what}{again}", failure.fix
    if exchange.verdict == "delivered":
        return "delivered: the backend took it", ""
    if exchange.verdict == "stop":
        reason, fix = ("stopped", "") if record is None else (record.reason, record.fix)
        return f"{reason}: an application would send nothing more", fix
    return _again(exchange.status) if exchange.verdict == "retry" else _refused(exchange.status)


def _again(status: int | None) -> tuple[str, str]:
    if status is not None and 200 <= status < 300:
        return (
            f"{status}, but not the backend's own answer: an application would try again",
            "see the answer: a proxy or a captive portal may stand between; check the host",
        )
    return f"not now ({status}): an application would try again, for minutes", "see the answer; try later"


def _refused(status: int | None) -> tuple[str, str]:
    if status is None:
        return "the provider made no request of it: it would be dropped", "tell its author"
    if 300 <= status < 400:
        return (
            f"it redirects ({status}), which is never followed: the event would be dropped",
            "set the host variable to where it redirects to",
        )
    return (
        f"refused ({status}): the event would be dropped",
        "see the answer; check the key, the host and its path",
    )


def _request(request: Request, masker: Masker) -> dict[str, Any]:
    parts = urlsplit(request.url)
    target = masker.text(parts.path + (f"?{parts.query}" if parts.query else ""))
    host = parts.netloc.rpartition("@")[2]
    return {
        "method": request.method,
        "url": f"{parts.scheme}://{host}{'' if target.startswith('/') else '/'}{target}",
        "headers": {name: masker.header(name, value) for name, value in request.headers.items()},
        "body": _body(request, masker),
    }


def _body(request: Request, masker: Masker) -> Any:  # noqa: ANN401  any JSON
    """Return the body as JSON, as a list of JSON lines, or as text; masked before it is written again."""
    data = request.body
    if request.headers.get("content-encoding") == "gzip":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return f"{len(data)} bytes"
    for read in (_json, _json_lines):
        try:
            return masker.json(read(data))
        except (ValueError, RecursionError):
            continue
    try:
        return masker.text(data.decode())
    except ValueError:
        return f"{len(data)} bytes"


def _json(data: bytes) -> Any:  # noqa: ANN401  any JSON
    return msgspec.json.decode(data)


def _json_lines(data: bytes) -> list[Any]:
    return [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]


def _answer(answer: Response | Exception | None, masker: Masker) -> str:
    if not isinstance(answer, Response):
        return type(answer).__name__ if answer is not None else ""
    # Masked before it is cut: half of a secret is one, too.
    return masker.text(answer.body.decode("utf-8", "replace"))[:_ANSWER_CHARS].strip()


def check_sent(sent: Sequence[Sent]) -> Iterator[Finding]:
    """Tell of each provider whether it took the event."""
    for each in sent:
        if each.ok:
            yield ok("send", each.provider, each.words)
        else:
            yield problem("send", each.provider, each.words, each.fix)
