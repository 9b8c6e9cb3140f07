"""The batch of one HTTP provider: sent, judged, retried, split, until every record of it is settled."""

from __future__ import annotations

import gzip
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from agent_tracking.delivery.backoff import RetryPolicy, pause_of, retry_after
from agent_tracking.events import Record, TrackingEvent
from agent_tracking.exceptions import ConfigurationError, Reject, RetryLater
from agent_tracking.http_provider import (
    Delivered,
    Drop,
    Endpoint,
    HTTPProvider,
    Payload,
    Request,
    Response,
    Retry,
    Split,
    Stop,
    Verdict,
)

__all__ = ["Exchange", "Outbox", "Refused", "Sender", "Stopped"]

_GZIP_FROM = 1024  # bytes; smaller bodies cost more time than they save
#: A batch of which a backend takes nothing is halved at most so many times for each level of halving.
_SEARCH = 6


class Sender(Protocol):
    """Sends one request: the seam for tests and the conformance kit."""

    def send(self, request: Request) -> Response:
        """Return the answer; ``OSError`` or an httpx transport error when there is none."""

    def enforce(self, now: float) -> None:
        """End a request that is over its deadline (``now``: ``time.monotonic``); called on another thread."""

    def close(self) -> None:
        """Close the connections."""


class Stopped(RetryLater):
    """The provider's verdict was :class:`agent_tracking.http_provider.Stop`; ``fix`` says what helps."""

    fix = ""


class Refused(Reject):
    """Some of a batch were given up; which ones, ``dropped`` was told."""


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what came of it, for observers: nothing secret in it."""

    provider: str
    endpoint: str
    records: int
    size: int
    status: int | None
    verdict: str
    seconds: float


class _Item(msgspec.Struct, eq=False, gc=False):
    """One payload on its way, and the place of its record in the batch."""

    payload: Payload
    place: int


class _Group:
    """What one request carries, and how often it was tried."""

    __slots__ = ("endpoint", "first", "items", "pause", "search", "tries")

    def __init__(self, endpoint: Endpoint, items: list[_Item]) -> None:
        self.endpoint = endpoint
        self.items = items
        self.tries = 0
        self.first: float | None = None
        self.pause = 0.0
        #: How many more halvings there may be until something is taken, and how many that was at first;
        #: shared by the halves.
        self.search: list[int] | None = None

    def part(self, items: list[_Item]) -> _Group:
        part = _Group(self.endpoint, items)
        part.tries, part.first, part.search = self.tries, self.first, self.search
        return part


class Outbox:
    """Sends what an :class:`HTTPProvider` encoded.

    Args:
        provider: the three pure methods.
        sender: one request, one answer.
        pause: waits so many seconds on the lane; false when the lane has to stop instead.
        retried: told how many records are about to be sent again.
        failed: told an error's kind and text, free of secrets.
        observe: told each :class:`Exchange`.
        dropped: told each record that is given up, and the reason.
    """

    def __init__(
        self,
        provider: HTTPProvider,
        sender: Sender,
        pause: Callable[[float], bool],
        *,
        policy: RetryPolicy = RetryPolicy(),  # noqa: B008  frozen
        retried: Callable[[int], None] = lambda _count: None,
        failed: Callable[[str, str], None] = lambda _kind, _text: None,
        observe: Callable[[Exchange], None] | None = None,
        dropped: Callable[[Record, str], None] = lambda _record, _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._sender = sender
        self._pause = pause
        self._policy = policy
        self._retried = retried
        self._failed = failed
        self._observe = observe
        self._dropped = dropped
        self._clock = clock
        self._endpoints = {endpoint.name: endpoint for endpoint in provider.endpoints}
        first = provider.endpoints[0]
        #: By what payloads call them: the first endpoint has no name, too.
        self._most = {"": first.record_bytes} | {each.name: each.record_bytes for each in provider.endpoints}
        self._first = first.name
        #: By endpoint: true once a compressed body was taken, false once only an uncompressed one was.
        self._compressed: dict[str, bool] = {}
        self._reset()

    def _reset(self) -> None:
        self._records: list[Record] = []
        self._reasons: dict[int, str] = {}
        self._fix = ""
        #: The Retry-After of the newest answer, in seconds.
        self._asked = 0.0
        self._waiting: dict[str, list[_Item]] = {name: [] for name in self._endpoints}
        self._waiting[""] = self._waiting[self._first]

    def add_all(self, records: Sequence[Record], start: int = 0) -> tuple[int, BaseException | None]:
        """Encode and put in what comes from ``start`` on, in place of a call of the hooks for each.

        Returns:
            Where it ended: behind the last one, or at one for which ``encode`` raised, and what.
        """
        encode, waiting, most, batch = self._provider.encode, self._waiting, self._most, self._records
        for place in range(start, len(records)):
            record = records[place]
            try:
                payload = encode(record)
                if type(payload) is Payload and len(payload.body) <= most[payload.endpoint]:
                    waiting[payload.endpoint].append(_Item(payload, len(batch)))
                    batch.append(record)
                else:
                    self.add(record, payload)
            except BaseException as error:  # noqa: BLE001  an author's code
                return place, error
        return len(records), None

    def add(self, record: Record, encoded: Payload | Sequence[Payload] | None) -> None:
        """Put what one record became into the batch; raises ``Reject`` for what is too large."""
        payloads = (encoded,) if isinstance(encoded, Payload) else tuple(encoded or ())
        for payload in payloads:
            most = self._most[payload.endpoint]
            if len(payload.body) > most:
                name = record.name if isinstance(record, TrackingEvent) else "an identity"
                self._failed("too-large", f"{name} has {len(payload.body)} bytes, at most {most} are taken")
                raise Reject("too-large")
        place = len(self._records)
        self._records.append(record)
        for payload in payloads:
            self._waiting[payload.endpoint].append(_Item(payload, place))

    def send(self) -> None:
        """Send the batch; returns when all of it is delivered, raises what became of the rest otherwise."""
        work: deque[_Group] = deque()
        for name, endpoint in self._endpoints.items():
            work.extend(_groups(endpoint, self._waiting[name]))
        stop = ""
        try:
            while work and not stop:
                stop = self._send_group(work)
            self._finish(stop, work)
        finally:
            self._reset()

    def _finish(self, stop: str, work: Sequence[_Group]) -> None:
        """Raise what became of the batch, given what of it is left."""
        counts = Counter(self._reasons.values())
        for place, reason in self._reasons.items():
            self._dropped(self._records[place], reason)
        places = {item.place for group in work for item in group.items} - self._reasons.keys()
        left = [self._records[place] for place in sorted(places)]
        if left:
            kind = Stopped if stop and stop != _INTERRUPTED else RetryLater
            error = kind(stop, records=left, rejected=counts)
            if isinstance(error, Stopped):
                error.fix = self._fix
            raise error
        if counts:
            raise Refused(counts=counts)

    def _send_group(self, work: deque[_Group]) -> str:
        """Send the first group; return why everything has to stop, or nothing."""
        group = work.popleft()
        if group.pause > 0 and not self._pause(group.pause):
            work.appendleft(group)
            return _INTERRUPTED
        started = self._clock()
        if group.first is None:
            group.first = started
        group.tries += 1
        payloads = [item.payload for item in group.items]
        status, verdict, error = self._exchange(group.endpoint, payloads)
        if self._observe is not None:
            self._observe(
                Exchange(
                    provider=self._provider.name,
                    endpoint=group.endpoint.name,
                    records=len(payloads),
                    size=sum(len(payload.body) for payload in payloads),
                    status=status,
                    verdict=type(verdict).__name__.lower(),
                    seconds=self._clock() - started,
                )
            )
        if not isinstance(verdict, Delivered):
            self._failed(type(verdict).__name__.lower(), error or f"the backend answered {status}")
        return self._apply(verdict, group, group.items, work)

    def _exchange(self, endpoint: Endpoint, payloads: list[Payload]) -> tuple[int | None, Verdict, str]:
        self._asked = 0.0
        try:
            request = self._provider.request(endpoint.name, payloads)
            if not isinstance(request, Request):
                raise TypeError("request() returned no Request")
        except Exception as error:  # noqa: BLE001  what was sent before keeps its own verdict
            return None, Drop(reason="provider-error"), f"request() raised {type(error).__name__}"
        squeeze = (
            endpoint.gzip
            and len(request.body) >= _GZIP_FROM
            and self._compressed.get(endpoint.name) is not False
        )
        try:
            response, verdict = self._judged(_compressed(request) if squeeze else request, payloads)
            if squeeze and endpoint.name not in self._compressed and response.status in {400, 415}:
                read = not _names_nobody(verdict)
                if not read:
                    response, verdict = self._judged(request, payloads)
                    read = response.status == 400
                if read or response.status < 300:
                    self._compressed[endpoint.name] = read
        except ConfigurationError as error:
            return None, Stop(error.reason, error.fix), error.reason
        except _JudgeError as error:
            return None, Drop(reason="provider-error"), str(error)
        except Exception as error:  # noqa: BLE001  a transport may raise anything; its text may hold the address
            return None, Retry(), f"{type(error).__name__} while sending"
        if squeeze and response.status < 300:
            self._compressed.setdefault(endpoint.name, True)
        self._asked = retry_after(response.headers.get("retry-after")) or 0.0
        return response.status, verdict, ""

    def _judged(self, request: Request, payloads: list[Payload]) -> tuple[Response, Verdict]:
        response = self._sender.send(request)
        try:
            return response, self._provider.judge(response, payloads)
        except Exception as error:  # noqa: BLE001  an author's code
            raise _JudgeError(f"judge() raised {type(error).__name__}") from None

    def _apply(self, verdict: Verdict, group: _Group, items: list[_Item], work: deque[_Group]) -> str:
        """Do what the verdict says to ``items``; what is to be sent again goes to the front of ``work``."""
        if isinstance(verdict, Delivered):
            if group.search is not None:
                group.search[0] = group.search[1]
            return ""
        if isinstance(verdict, Stop):
            work.appendleft(group.part(items))
            self._fix = verdict.fix
            return verdict.reason or "stopped"
        if isinstance(verdict, Split):
            self._split(verdict.reason, group, items, work)
            return ""
        named, others = _parted(verdict.indexes, group.items, items)
        stop = ""
        if isinstance(verdict, Retry):
            self._again(verdict, group, named, work)
            if others:
                stop = self._apply(verdict.rest, group, others, work)
        else:
            self._drop(verdict.reason, named)
            if named:  # a backend that names one culprit a time makes progress: this was no failed try
                group.tries, group.first = 0, None
            if others:
                stop = self._apply(verdict.rest, group, others, work)
        return stop

    def _drop(self, reason: str, items: list[_Item]) -> None:
        for item in items:
            self._reasons.setdefault(item.place, reason)

    def _again(self, verdict: Retry, group: _Group, items: list[_Item], work: deque[_Group]) -> None:
        if not items:
            return
        part = group.part(items)
        if self._policy.over(part.tries, self._clock() - (part.first or self._clock())):
            self._drop("gave-up", items)
            return
        backoff = self._policy.delay(part.tries)
        after = pause_of(verdict.after)
        at_once = after is not None and part.tries < self._policy.tries
        wanted = min(max(after or 0.0, pause_of(verdict.at_least) or 0.0), self._policy.longest)
        part.pause = max(self._asked, wanted, 0.0 if at_once else backoff)
        self._retried(len(items))
        work.appendleft(part)

    def _split(self, reason: str, group: _Group, items: list[_Item], work: deque[_Group]) -> None:
        if group.search is None:
            group.search = [_SEARCH * (len(items).bit_length() + 1)] * 2
        if len(items) == 1 or group.search[0] <= 0:
            self._drop(reason, items)
            return
        group.search[0] -= 1
        middle = len(items) // 2
        work.appendleft(group.part(items[middle:]))
        work.appendleft(group.part(items[:middle]))


class _JudgeError(Exception):
    """The provider's ``judge`` raised."""


def _names_nobody(verdict: Verdict) -> bool:
    """Return whether the backend refused a body without a word on any record: perhaps it read none."""
    return isinstance(verdict, Split) or (isinstance(verdict, Drop) and verdict.indexes is None)


#: Why a batch ends unfinished although nothing is wrong: the lane has to stop.
_INTERRUPTED = "interrupted"


def _groups(endpoint: Endpoint, items: list[_Item]) -> list[_Group]:
    """Return the items cut into requests within the endpoint's limits, in their order."""
    if items and len(items) <= endpoint.records:
        size = sum([len(item.payload.body) for item in items]) + len(items)
        if size <= endpoint.body_bytes:
            return [_Group(endpoint, items)]
    groups: list[_Group] = []
    current: list[_Item] = []
    size = 0
    for item in items:
        cost = len(item.payload.body) + 1
        if current and (len(current) >= endpoint.records or size + cost > endpoint.body_bytes):
            groups.append(_Group(endpoint, current))
            current, size = [], 0
        current.append(item)
        size += cost
    if current:
        groups.append(_Group(endpoint, current))
    return groups


def _parted(
    indexes: Sequence[int] | None, sent: list[_Item], items: list[_Item]
) -> tuple[list[_Item], list[_Item]]:
    """Return those of ``items`` that ``indexes`` (into what was sent) name, and the others."""
    if indexes is None:
        return items, []
    named = {id(sent[index]) for index in indexes if 0 <= index < len(sent)}
    return [item for item in items if id(item) in named], [item for item in items if id(item) not in named]


def _compressed(request: Request) -> Request:
    return Request(
        request.url,
        {**request.headers, "content-encoding": "gzip"},
        gzip.compress(request.body, 1, mtime=0),
        request.method,
    )
