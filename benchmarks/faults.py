"""The faults that this project and the vendors' own SDKs are run against, and how a run is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import orjson

from agent_tracking.testing import Answer, Backend, Fault, Incoming, Reading, Sink

EVENTS = 200
#: The serial number of the event that a backend refuses, where one is.
POISON = 77


@dataclass(frozen=True)
class Case:
    """A fault, and when it passes.

    Attributes:
        name: for the table.
        faults: put into the backend's queue before the first event.
        clear: seconds after which the backend is well again; ``None``: the faults end by themselves.
        poison: one event is refused.
        late: the backend listens only after so many seconds.
    """

    name: str
    faults: tuple[Fault, ...] = ()
    clear: float | None = None
    poison: bool = False
    late: float = 0.0


CASES = (
    Case("none", ()),
    Case("503 three times", (Fault.status(503, times=3),)),
    Case("503 for 8 s", (Fault.status(503, times=None),), clear=8.0),
    Case("429, Retry-After: 2", (Fault.throttled(2),)),
    Case("each answer 2 s late", (Fault.delay(2.0, times=None),), clear=20.0),
    Case("one request never answered", (Fault.hang(times=1),)),
    Case("kept, answer lost, twice", (Fault.lost_answer(times=2),)),
    Case("reset in mid-answer, twice", (Fault.reset("middle", times=2),)),
    Case("closed without an answer, twice", (Fault.disconnect(times=2),)),
    Case("a web page with 200, twice", (Fault.html(times=2),)),
    Case("413 above 20 kB", (Fault.too_large(20_000),)),
    Case("one event refused", (Fault.poison(values=[True]),), poison=True),
    Case("connection refused for 4 s", late=4.0),
)


@dataclass(frozen=True)
class Judgement:
    """What a backend has of a run's events."""

    lost: int
    twice: int

    @classmethod
    def of(cls, sink: Sink, name: str, case: Case) -> Judgement:
        """Compare what the backend counts with what was tracked."""
        counts = Counter(serial(record) for record in sink.events(name))
        expected = set(range(EVENTS)) - ({POISON} if case.poison else set())
        return cls(len(expected - counts.keys()), sum(count - 1 for count in counts.values()))


def serial(record: Mapping[str, Any]) -> int:
    """Return property ``n`` of an event as any of the vendors gets it."""
    for field in ("properties", "event_properties"):
        if field in record:
            found: int = record[field]["n"]
            return found
    raise ValueError("no properties")


class MixpanelTrack(Backend):
    """``/track`` as Mixpanel's own SDK uses it: a form whose ``data`` is a JSON array; all or nothing."""

    def __init__(self) -> None:
        super().__init__(read=_form, key=lambda record: record["properties"]["$insert_id"])

    def answer(self, incoming: Incoming, reading: Reading) -> Answer:
        """Answer as with ``verbose=1``."""
        if reading.problem:
            return Answer.json(200, {"status": 0, "error": reading.problem}, kept=())
        return Answer.json(200, {"status": 1, "error": None})

    def poisoned(self, incoming: Incoming, reading: Reading, bad: Sequence[int]) -> Answer:
        """Refuse the request behind a 200."""
        return Answer.json(200, {"status": 0, "error": "some data points are not valid"}, kept=())


class Segment(Backend):
    """``/v1/batch``: the answer is 200 whatever becomes of an event."""

    def __init__(self) -> None:
        super().__init__(read=lambda incoming: incoming.json()["batch"], key="messageId")

    def answer(self, incoming: Incoming, reading: Reading) -> Answer:
        """Answer as the endpoint does."""
        return Answer.json(400 if reading.problem else 200, {"success": not reading.problem})

    def poisoned(self, incoming: Incoming, reading: Reading, bad: Sequence[int]) -> Answer:
        """Say yes and throw the bad one away."""
        kept = [index for index in range(len(reading.records)) if index not in bad]
        return Answer.json(200, {"success": True}, kept=kept)


def _form(incoming: Incoming) -> list[dict[str, Any]]:
    found = orjson.loads(parse_qs(incoming.body.decode())["data"][0])
    return found if isinstance(found, list) else [found]
