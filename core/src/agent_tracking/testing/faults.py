"""Faults: how a backend misbehaves, as data.

Every constructor takes ``times`` (how many requests it applies to; ``None``: until cleared) and
``match`` (only requests to this path behind the backend's prefix, with or without a trailing slash;
``*`` and ``?`` are wild cards). A fault whose condition does not hold, or whose path is another one, is
passed over and keeps its ``times``; the next one in the queue is looked at.

``kept`` says that the backend takes the records in although its answer denies it. What waits
(``delay``, ``hang``, ``trickle``) is let go by ``sink.clear()`` and ``sink.close()``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import msgspec
import orjson

from agent_tracking.testing.backends import Incoming, Reading, Record

__all__ = ["Fault"]

Kind = Literal[
    "status",
    "throttled",
    "unauthorized",
    "redirect",
    "poison",
    "too-large",
    "delay",
    "hang",
    "trickle",
    "reset",
    "disconnect",
    "closed-afterwards",
    "huge",
]
Body = str | bytes | Mapping[str, Any] | Sequence[Any] | None

_HTML = "<!doctype html><html><head><title>Welcome</title></head><body><h1>Please sign in</h1></body></html>"
#: How deep a poisoned property is looked for.
_DEPTH = 4


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way to misbehave: use the class methods. Encodes to JSON, for a sink in another process."""

    kind: Kind
    times: int | None = 1
    match: str = ""
    code: int = 0
    headers: dict[str, str] = {}
    body: bytes | None = None
    seconds: float = 0.0
    size: int = 0
    kept: bool = False
    where: str = ""
    key: str = ""
    values: list[Any] | None = None
    #: A function from a record to a bool; a fault that has one cannot be sent to another process.
    predicate: Any = None

    @classmethod
    def status(
        cls,
        code: int,
        *,
        times: int | None = 1,
        match: str = "",
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        kept: bool = False,
    ) -> Fault:
        """Answer with ``code``, whatever was sent.

        Args:
            code: 200 to 599.
            times: how many requests; ``None``: until cleared.
            match: only requests to this path.
            headers: added to the answer's own.
            body: text, bytes, or what becomes JSON; ``None``: what the vendor says with this code.
            kept: take the records in all the same.

        ``Fault.status(503, times=3)``, ``Fault.status(429, headers={"Retry-After": "1"})``
        """
        extra = {name.lower(): value for name, value in (headers or {}).items()}
        if body is None or isinstance(body, bytes):
            content = body
        elif isinstance(body, str):
            content = body.encode()
            extra.setdefault("content-type", "text/plain; charset=utf-8")
        else:
            content = orjson.dumps(body)
            extra.setdefault("content-type", "application/json")
        return cls(kind="status", times=times, match=match, code=code, headers=extra, body=content, kept=kept)

    @classmethod
    def throttled(
        cls, seconds: float = 1, *, as_date: bool = False, times: int | None = 1, match: str = ""
    ) -> Fault:
        """Answer 429 with a ``Retry-After`` of ``seconds`` from now; ``as_date``: as an HTTP date.

        A date has whole seconds: it is rounded up.
        """
        where = "date" if as_date else "seconds"
        return cls(kind="throttled", times=times, match=match, code=429, seconds=seconds, where=where)

    @classmethod
    def request_timeout(cls, *, times: int | None = 1, match: str = "") -> Fault:
        """Answer 408."""
        return cls.status(408, times=times, match=match)

    @classmethod
    def unauthorized(cls, *, times: int | None = 1, match: str = "") -> Fault:
        """Refuse the key in the vendor's words: 401, and 400 ``Invalid API key`` for Amplitude."""
        return cls(kind="unauthorized", times=times, match=match)

    @classmethod
    def html(cls, code: int = 200, *, times: int | None = 1, match: str = "", kept: bool = False) -> Fault:
        """Answer with a web page, as captive portals and misconfigured proxies do."""
        headers = {"content-type": "text/html; charset=utf-8"}
        return cls.status(code, times=times, match=match, headers=headers, body=_HTML, kept=kept)

    @classmethod
    def redirect(
        cls, location: str = "", *, code: int = 307, times: int | None = 1, match: str = ""
    ) -> Fault:
        """Answer with a redirect.

        By default to ``/elsewhere`` at the same sink, so that ``sink.requests("elsewhere")`` shows
        whether it was followed.
        """
        headers = {"location": location or "/elsewhere"}
        return cls(kind="redirect", times=times, match=match, code=code, headers=headers)

    @classmethod
    def poison(
        cls,
        key: str = "poison",
        *,
        values: Sequence[Any] | None = None,
        predicate: Callable[[Record], bool] | None = None,
        times: int | None = None,
        match: str = "",
    ) -> Fault:
        """Refuse records in the vendor's way, those that have a field or property called ``key``.

        PostHog and webhooks refuse the whole batch and name nobody; Mixpanel names the bad ones and
        keeps the others; Amplitude keeps nothing and names the first bad one only.

        Args:
            key: looked for in the record and in the objects inside it, four levels deep.
            values: only with one of these values.
            predicate: decides instead of ``key``: called with the record as a dict.
            times: how many requests with such records; ``None``: until cleared.
            match: only requests to this path.
        """
        chosen = None if values is None else list(values)
        return cls(kind="poison", times=times, match=match, key=key, values=chosen, predicate=predicate)

    @classmethod
    def too_large(cls, limit: int, *, times: int | None = None, match: str = "") -> Fault:
        """Answer 413 to bodies of more than ``limit`` bytes, counted after decompression."""
        return cls(kind="too-large", times=times, match=match, size=limit)

    @classmethod
    def delay(cls, seconds: float, *, times: int | None = 1, match: str = "") -> Fault:
        """Answer as usual, ``seconds`` late. The records are kept when the request arrives."""
        return cls(kind="delay", times=times, match=match, seconds=seconds)

    @classmethod
    def hang(cls, *, times: int | None = 1, match: str = "", kept: bool = False) -> Fault:
        """Read the request and never answer; the connection ends with ``clear()`` or ``close()``."""
        return cls(kind="hang", times=times, match=match, kept=kept)

    @classmethod
    def trickle(
        cls, interval: float = 0.1, *, headers: bool = False, times: int | None = 1, match: str = ""
    ) -> Fault:
        """Answer as usual, but a byte every ``interval`` seconds: the body, or the headers too.

        The records are kept when the request arrives.
        """
        where = "headers" if headers else "body"
        return cls(kind="trickle", times=times, match=match, seconds=interval, where=where)

    @classmethod
    def reset(
        cls,
        where: Literal["before", "middle", "after"] = "before",
        *,
        times: int | None = 1,
        match: str = "",
        kept: bool | None = None,
    ) -> Fault:
        """Reset the connection (RST): before the answer, in the middle of it, or right after it.

        Unless ``kept`` says otherwise the records are kept but for ``"before"``.
        """
        taken = where != "before" if kept is None else kept
        return cls(kind="reset", times=times, match=match, where=where, kept=taken)

    @classmethod
    def lost_answer(cls, *, times: int | None = 1, match: str = "") -> Fault:
        """Keep the records, then reset the connection without a word."""
        return cls.reset("before", times=times, match=match, kept=True)

    @classmethod
    def disconnect(cls, *, times: int | None = 1, match: str = "", kept: bool = False) -> Fault:
        """Read the request and close the connection (FIN) without an answer."""
        return cls(kind="disconnect", times=times, match=match, kept=kept)

    @classmethod
    def closed_afterwards(cls, *, times: int | None = 1, match: str = "") -> Fault:
        """Answer as usual, as if the connection were kept alive, and close it without notice.

        Whether the sender's next request still goes out on it is a race, as in real life. For a request
        that is certain to meet a closed connection, queue ``Fault.disconnect()``.
        """
        return cls(kind="closed-afterwards", times=times, match=match)

    @classmethod
    def huge(
        cls, size: int = 100_000_000, *, gzip: bool = False, times: int | None = 1, match: str = ""
    ) -> Fault:
        """Answer as usual, with ``size`` bytes of white space in front of the body.

        With ``gzip`` they are sent compressed, a thousandth of that.
        """
        return cls(kind="huge", times=times, match=match, size=size, where="gzip" if gzip else "")

    def applies(self, incoming: Incoming, reading: Reading) -> bool:
        """Tell whether this fault is meant for that request."""
        if self.match:
            path, match = incoming.path.rstrip("/") or "/", self.match.rstrip("/") or "/"
            if not fnmatchcase(path, match):
                return False
        if self.kind == "poison":
            return any(map(self.is_bad, reading.records))
        return self.kind != "too-large" or len(incoming.body) > self.size

    def is_bad(self, record: Record) -> bool:
        """Tell whether the record is one of those that ``poison`` means."""
        if self.predicate is not None:
            return bool(self.predicate(record))
        return self._holds(record, _DEPTH)

    def _holds(self, node: Record, depth: int) -> bool:
        if self.key in node and (self.values is None or node[self.key] in self.values):
            return True
        return depth > 1 and any(
            self._holds(value, depth - 1) for value in node.values() if isinstance(value, dict)
        )
