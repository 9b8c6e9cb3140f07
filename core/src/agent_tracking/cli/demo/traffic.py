"""What a small shop would track: visitors who look around, sign up, and buy, on several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from threading import Event, Thread
from time import perf_counter_ns
from typing import Any
from uuid import UUID

import msgspec

from agent_tracking.tracker import Tracker

__all__ = ["THREADS", "Call", "Traffic"]

#: Threads that track at the same time, as those of a server would.
THREADS = 4

_PATHS = ("/", "/shoes", "/shoes/trail", "/bags", "/sale", "/stories/one-summer")
_WORDS = ("trail shoes", "rucksack 30 l", "rain jacket", "gift card", "wool socks")
_ITEMS = (("SH-204", 129.0), ("BA-031", 84.5), ("JA-117", 219.9), ("SO-009", 14.9))


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call of ``track()`` (with a name) or ``identify()`` (without)."""

    message_id: str
    data: dict[str, Any]
    name: str = ""
    user_id: str | None = None
    anonymous_id: str | None = None


class Traffic:
    """So many events, and the identities that belong to them, spread over so many seconds.

    Attributes:
        calls: what is tracked, for each thread.
        shown: the message id of the event that the report shows as each provider got it.
        nanoseconds: how long each call of ``track()`` took so far.
    """

    def __init__(self, events: int, seconds: float, *, seed: int = 1) -> None:
        self._seconds = seconds
        self._stop = Event()
        self._threads: list[Thread] = []
        self.nanoseconds: list[int] = []
        visits = _visits(events, Random(seed))  # noqa: S311  the same story each time
        self.calls: list[list[Call]] = [[] for _ in range(THREADS)]
        for number, visit in enumerate(visits):
            self.calls[number % THREADS] += visit
        tracked = [call for calls in self.calls for call in calls if call.name]
        paid = [call for call in tracked if call.name == "order paid"]
        self.shown = (paid or tracked)[0].message_id

    def message_ids(self, *, identities: bool = True) -> set[str]:
        """Return the id of every record, or of the events alone."""
        return {call.message_id for calls in self.calls for call in calls if call.name or identities}

    def start(self, tracker: Tracker) -> None:
        """Begin to track, on threads of its own."""
        for calls in self.calls:
            thread = Thread(target=self._run, args=(tracker, calls), name="demo", daemon=True)
            self._threads.append(thread)
            thread.start()

    def running(self) -> bool:
        """Return whether anything is still to be tracked."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """End before everything is tracked."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, tracker: Tracker, calls: list[Call]) -> None:
        started = perf_counter_ns()
        pause = self._seconds * 1e9 / max(1, len(calls))
        for number, call in enumerate(calls):
            ahead = started + number * pause - perf_counter_ns()
            if self._stop.wait(max(0.0, ahead / 1e9)):
                return
            if call.name:
                _timed(tracker, call, self.nanoseconds.append)
            else:
                tracker.identify(
                    call.user_id or "",
                    call.data,
                    anonymous_id=call.anonymous_id,
                    message_id=call.message_id,
                )


def _timed(tracker: Tracker, call: Call, note: Callable[[int], None]) -> None:
    name, data, user, visitor, message = (
        call.name,
        call.data,
        call.user_id,
        call.anonymous_id,
        call.message_id,
    )
    before = perf_counter_ns()
    tracker.track(name, data, user_id=user, anonymous_id=visitor, message_id=message)
    note(perf_counter_ns() - before)


def _visits(events: int, random: Random) -> Iterator[list[Call]]:
    """Yield one list of calls for each visitor, with so many events in all."""
    number = 1000
    while events > 0:
        visit = list(_visit(number, random))
        named = [place for place, call in enumerate(visit) if call.name]
        yield visit if len(named) <= events else visit[: named[events]]
        events -= len(named)
        number += 1


def _visit(number: int, random: Random) -> Iterator[Call]:
    """Yield what one visitor does: ten events, and the identity once it is known."""
    visitor, user = f"visitor-{number}", f"user-{number}"
    item, price = random.choice(_ITEMS)
    count = random.randint(1, 3)
    order = {"order": f"A-{number}", "sku": item, "count": count, "total": round(price * count, 2)}
    seen: dict[str, Any] = {"anonymous_id": visitor}
    known: dict[str, Any] = {"user_id": user}

    def call(name: str, who: dict[str, Any], **data: object) -> Call:
        return Call(message_id=str(UUID(int=random.getrandbits(128), version=4)), name=name, data=data, **who)

    yield call("page viewed", seen, path=random.choice(_PATHS), referrer="https://search.example/")
    yield call("page viewed", seen, path=random.choice(_PATHS), referrer=None)
    yield call("product searched", seen, words=random.choice(_WORDS), results=random.randint(0, 60))
    yield call("page viewed", seen, path=random.choice(_PATHS), referrer=None)
    yield call("signed up", {**seen, **known}, method=random.choice(("email", "passkey")))
    yield call("", {**seen, **known}, plan="free", country=random.choice(("CH", "DE", "FR", "IN", "US")))
    yield call("page viewed", known, path=random.choice(_PATHS), referrer=None)
    yield call("item added", known, sku=item, price=price, count=count)
    yield call("checkout started", known, **order)
    yield call("order paid", known, **order, currency="CHF", coupon=None)
    yield call("receipt sent", known, order=order["order"], by="email")
