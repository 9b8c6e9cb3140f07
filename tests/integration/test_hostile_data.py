"""Whatever an application passes: the call returns, the rest of the event and its neighbours arrive everywhere."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import math
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any

import attrs
import numpy as np
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_tracking import Tracker
from agent_tracking.snapshot import NODES
from agent_tracking.testing import Sink
from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider
from agent_tracking_webhook import WebhookProvider

PROVIDERS = {
    "posthog": PostHogProvider,
    "mixpanel": MixpanelProvider,
    "amplitude": AmplitudeProvider,
    "webhook": WebhookProvider,
}
#: Where each backend keeps an event's name and its properties.
FIELDS = {
    "posthog": ("event", "properties"),
    "mixpanel": ("event", "properties"),
    "amplitude": ("event_type", "event_properties"),
    "webhook": ("event", "properties"),
}


class Bench:
    """A tracker with all four providers, and the sink that they post to."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.tracker = Tracker(environ={}, discover=False)
        for name, kind in PROVIDERS.items():
            self.tracker.register_provider(kind(sink.environ(name)))
        self.seen = dict.fromkeys(PROVIDERS, 0)

    def arrived(self) -> dict[str, list[tuple[str, dict[str, Any]]]]:
        """Return the names and properties that came to each provider since the last call."""
        assert self.tracker.flush(30).waiting == {}
        found = {}
        for provider, (name, properties) in FIELDS.items():
            events = self.sink.events(provider)
            fresh = [event for event in events[self.seen[provider] :] if properties in event]
            found[provider] = [(event[name], event[properties]) for event in fresh]
            self.seen[provider] = len(events)
        return found

    def salvaged(self) -> int:
        """Return how many records were changed so far."""
        return self.tracker.stats().salvaged


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Sink() as sink:
        bench = Bench(sink)
        yield bench
        bench.tracker.shutdown(5)


def stall(*_: object) -> Any:
    time.sleep(1)
    raise SystemExit("must not be called")


def make_class(*methods: str, **members: object) -> type:
    return type("Odd", (), {**dict.fromkeys(methods, stall), "__hash__": object.__hash__, **members})


class Text(str):
    __slots__ = ()
    __str__ = __repr__ = __len__ = __iter__ = __getitem__ = encode = stall


class Whole(int):
    __int__ = __index__ = __str__ = __repr__ = bit_length = stall


class Real(float):
    __float__ = __str__ = __repr__ = stall


class Table(dict):
    items = keys = values = __iter__ = __getitem__ = __len__ = __contains__ = stall


class Row(list):
    __iter__ = __len__ = __getitem__ = stall


class Moment(datetime):
    isoformat = utcoffset = __str__ = stall


class Colour(enum.Enum):
    RED = "red"

    @property
    def value(self) -> Any:
        return stall()


class Zone(tzinfo):
    def utcoffset(self, _when: datetime | None) -> timedelta:
        raise RuntimeError("no offset")


class Meta(type):
    @property
    def __name__(cls) -> Any:
        raise RuntimeError("no name")


class Nameless(metaclass=Meta):
    pass


@dataclasses.dataclass
class Lazy:
    """A field that is a property, as object-relational mappers make them."""

    plain: int

    @property
    def queried(self) -> Any:
        return stall()


Lazy.__dataclass_fields__["queried"] = copy.copy(Lazy.__dataclass_fields__["plain"])
Lazy.__dataclass_fields__["queried"].name = "queried"


@attrs.define
class Slotted:
    x: int
    y: object


class Model(pydantic.BaseModel):
    x: int
    y: list[int]


def cycle() -> dict[str, Any]:
    made: dict[str, Any] = {"a": 1}
    made["self"] = [made]
    return made


def deep(levels: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(levels):
        made = [made]
    return made


def generator() -> Iterator[int]:
    yield 1
    raise AssertionError("consumed")


SHARED = "x" * 10_000_000
#: A value, and whether something of it is lost, which is counted.
VALUES: dict[str, tuple[Callable[[], Any], bool]] = {
    "nan": (lambda: [math.nan, math.inf, -math.inf, {"a": math.nan}], False),
    "surrogates": (lambda: {"\ud800": "\udfff", "a": "\ud800x"}, True),
    "text of 10 MB": (lambda: SHARED, True),
    "one text of 10 MB a hundred times": (lambda: [SHARED] * 100, True),
    "100,000 keys": (lambda: {str(number): number for number in range(100_000)}, True),
    "keys that are no text": (
        lambda: {1: 1, None: 2, False: 3, (1, 2): 4, (3, 4): 5, 1.5: 6, b"b": 7},
        False,
    ),
    "a cycle": (cycle, True),
    "10,000 levels": (lambda: deep(10_000), True),
    "bytes": (lambda: [b"\x00\xff", bytearray(b"x"), memoryview(b"abc")[::2]], False),
    "decimals": (lambda: [Decimal("1.1"), Decimal("NaN"), Decimal("1e400")], False),
    "huge integers": (lambda: [2**64, -(2**63) - 1, 10**1000], False),
    "an integer of 1 MB": (lambda: 1 << 8_000_000, True),
    "dates": (lambda: [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone.utc)], False),
    "a zone that raises": (lambda: datetime(2026, 1, 1, tzinfo=Zone()), True),
    "a uuid": (lambda: uuid.UUID(int=1), False),
    "an enum with code": (lambda: Colour.RED, False),
    "a dataclass with a lazy field": (lambda: Lazy(1), False),
    "an object with slots": (lambda: Slotted(1, {2}), False),
    "a model": (lambda: Model(x=1, y=[2]), False),
    "numpy scalars": (
        lambda: [np.int8(1), np.float16(0.5), np.longdouble(2), np.bool_(True)],
        False,
    ),
    "a numpy array": (lambda: np.zeros((1000, 1000)), True),
    "sets": (lambda: [{1}, frozenset({2}), collections.deque([3])], False),
    "a generator": (generator, True),
    "a mapping": (lambda: collections.ChainMap({"a": 1}), True),
    "a dict that is read only": (lambda: types.MappingProxyType({"a": 1}), False),
    "slow __str__ and __repr__": (make_class("__str__", "__repr__", "__format__"), True),
    "slow __eq__ and __iter__": (make_class("__eq__", "__iter__", "__len__", "__getitem__"), True),
    "slow attributes": (make_class("__getattr__", "__getattribute__", "__dir__"), True),
    "slow __class__": (make_class(__class__=property(stall)), True),
    "a class without a name": (Nameless, True),
    "text that lies": (lambda: Text("safe"), False),
    "an integer that lies": (lambda: Whole(5), False),
    "a float that lies": (lambda: Real(0.5), False),
    "a table that lies": (lambda: Table(a=1), False),
    "a row that lies": (lambda: Row([1, 2]), False),
    "a moment that lies": (lambda: Moment(2026, 1, 1), False),
    "an exception with a secret": (lambda: ValueError("password"), True),
    "a function": (lambda: stall, True),
}


def seconds_of(properties: dict[str, Any]) -> float:
    """Return how long a call takes at best, on a tracker that does nothing else."""
    tracker = Tracker(environ={}, discover=False)
    tracker.due = math.inf
    times = []
    for _ in range(3):
        began = time.perf_counter()
        tracker.track("event", properties)
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize("name", VALUES)
def test_no_value_raises_or_stalls_and_everything_else_arrives_at_all_four(bench: Bench, name: str) -> None:
    make, lossy = VALUES[name]
    properties, before = {"first": 1, "value": make(), "other": "stays"}, bench.salvaged()
    fair = seconds_of({"list": list(range(NODES * 2)), "odd": object()})
    assert seconds_of(properties) < 0.05 + 20 * fair
    bench.tracker.track("before", {"n": 1})
    bench.tracker.track("hostile", properties, user_id="u-1")
    bench.tracker.track("after", {"n": 2})
    for provider, events in bench.arrived().items():
        assert [event for event, _ in events] == ["before", "hostile", "after"], provider
        sent = events[1][1]
        assert sent["first"] == 1, provider
        assert sent["other"] == "stays", provider
        assert "value" in sent, provider
    assert bench.salvaged() - before == lossy


def test_a_property_that_needs_a_query_is_not_asked_for(bench: Bench) -> None:
    bench.tracker.track("lazy", {"row": Lazy(7)})
    assert bench.arrived()["webhook"][0][1]["row"] == {"plain": 7, "queried": "<error>"}


def test_what_stands_behind_a_huge_value_arrives_at_any_depth(bench: Bench) -> None:
    huge = {str(number): number for number in range(100_000)}
    bench.tracker.track("behind", {"a": {"b": huge, 0: None, "c": {"d": huge, 1: 1}}, "e": [huge], "last": 1})
    (properties,) = [properties for _, properties in bench.arrived()["webhook"]]
    assert properties["last"] == 1
    assert {"b", "0", "c"} <= set(properties["a"])


def test_tuples_as_keys_stay_apart(bench: Bench) -> None:
    bench.tracker.track("keys", {"cells": {(1, 2): "a", (3, 4): "b"}})
    assert bench.arrived()["webhook"][0][1]["cells"] == {"[1,2]": "a", "[3,4]": "b"}


def test_a_time_zone_that_changes_the_properties_while_they_are_read_is_harmless(bench: Bench) -> None:
    properties: dict[str, Any] = {f"k{number}": "v" * 50 for number in range(500)}

    class Changing(tzinfo):
        def utcoffset(self, _when: datetime | None) -> timedelta:
            properties.clear()
            properties.update({str(number) * 3: [number] for number in range(2000)})
            properties.clear()
            return timedelta(0)

    when = datetime(2026, 1, 1, tzinfo=Changing())
    for place in (properties, [properties], {"a": properties}):
        properties["when"] = when
        bench.tracker.track("changing", properties if place is properties else {"place": place})
    assert len(bench.arrived()["webhook"]) == 3


NAMES: list[tuple[Any, str | None]] = [
    ("", None),
    ("   ", None),
    (None, None),
    (5, None),
    (b"bytes", None),
    (["list"], None),
    (Text("safe"), "safe"),
    ("n" * 1_000_000, "n" * 200),
    ("n" * 10_000_000, "n" * 200),
    ("a\ud800", "a�"),
    ("a\r\nX: y", "a\r\nX: y"),
]


@pytest.mark.parametrize("place", range(len(NAMES)))
def test_a_name_is_sent_cut_or_dropped_and_its_neighbours_arrive(bench: Bench, place: int) -> None:
    given_name, sent = NAMES[place]
    dropped = bench.tracker.stats().dropped.get("bad-name", 0)
    bench.tracker.track("before")
    bench.tracker.track(given_name, {"a": 1})
    bench.tracker.track("after")
    for provider, events in bench.arrived().items():
        expected = ["before", *([] if sent is None else [sent]), "after"]
        if provider != "amplitude" or sent is None:
            assert [event for event, _ in events] == expected, provider
        else:
            assert len(events) == 3
    assert bench.tracker.stats().dropped.get("bad-name", 0) - dropped == (sent is None)


IDS = ["", None, 0, -1, 42, 2**70, 1.5, True, "anonymous", "null", "i" * 1_000_000, "a\r\nX: y", b"x", [], object(),
       Text("u"), Whole(7), "\ud800", make_class("__str__")()]  # fmt: skip


@pytest.mark.parametrize("place", range(len(IDS)))
def test_any_id_is_used_cleaned_or_left_out_and_the_event_arrives(bench: Bench, place: int) -> None:
    value = IDS[place]
    bench.tracker.track(
        "ids", {"a": 1}, user_id=value, anonymous_id=value, session_id=value, message_id=value
    )
    if not isinstance(value, int | float):  # events of 1970 are too old for some
        bench.tracker.track("time", {"a": 1}, timestamp=value)
    bench.tracker.track("after", {"n": 2})
    for provider, events in bench.arrived().items():
        assert [event for event, _ in events if event != "time"] == ["ids", "after"], provider
        assert len(events) == (2 if isinstance(value, int | float) else 3), provider


def test_what_was_cut_from_names_and_ids_is_counted(bench: Bench) -> None:
    before = bench.salvaged()
    for arguments in ({"user_id": "i" * 2000}, {"user_id": 1.5}, {"session_id": []}, {"timestamp": "soon"}):
        bench.tracker.track("cut", **arguments)
    bench.tracker.track("n" * 201)
    bench.tracker.track("whole", user_id="anonymous", anonymous_id=0)
    bench.arrived()
    assert bench.salvaged() - before == 5


def test_eight_threads_change_the_properties_meanwhile_and_every_event_arrives(bench: Bench) -> None:
    properties: dict[str, Any] = {str(number): number for number in range(50)}
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            properties["extra"] = Colour.RED
            properties.pop("extra", None)

    threads = [threading.Thread(target=change) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for number in range(200):
            bench.tracker.track("moving", {"n": number, "nested": properties})
            bench.tracker.track("moving", properties)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for provider, events in bench.arrived().items():
        assert len(events) == 400, provider


def test_every_value_at_once_costs_no_event_of_the_batch(bench: Bench) -> None:
    for number, (make, _) in enumerate(VALUES.values()):
        bench.tracker.track("together", {"n": number, "value": make()})
        bench.tracker.identify(f"u-{number}", {"value": make()})
    expected = list(range(len(VALUES)))
    for provider, events in bench.arrived().items():
        found = [properties["n"] for name, properties in events if name == "together"]
        assert found == expected, provider
        assert bench.sink.ledger[provider].refused_keys() == [], provider


@dataclasses.dataclass(frozen=True)
class Pick:
    """Stands for one of the values above: those have no repr that could be shown."""

    name: str

    @staticmethod
    def resolved(value: Any) -> Any:
        """Return the value with the picks replaced by what they stand for."""
        if type(value) is Pick:
            return VALUES[value.name][0]()
        if type(value) is dict:
            return {key: Pick.resolved(item) for key, item in value.items()}
        return type(value)(map(Pick.resolved, value)) if type(value) in {list, tuple} else value


tree = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=300)
    | st.binary(max_size=20) | st.datetimes() | st.decimals() | st.uuids() | st.timedeltas()
    | st.sampled_from(sorted(VALUES)).map(Pick),
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(st.text(st.characters(), max_size=8) | st.integers() | st.none() | st.dates(), inner, max_size=5)
    | st.tuples(inner, inner),
    max_leaves=12,
)  # fmt: skip
events = st.lists(
    st.tuples(
        # Names that begin with "$" are the vendors' own, with rules of their own.
        st.text(st.characters(), min_size=1, max_size=30).filter(lambda name: not name.strip().startswith("$")),
        st.dictionaries(st.text(st.characters()), tree, max_size=5),
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(batch=events)
def test_any_batch_of_anything_arrives_whole_at_all_four(
    bench: Bench, batch: list[tuple[str, dict[str, Any]]]
) -> None:
    bench.arrived()
    for number, (name, properties) in enumerate(batch):
        bench.tracker.track(name, {**Pick.resolved(properties), "marker": number})
    named = [number for number, (name, _) in enumerate(batch) if name.strip()]
    for provider, found in bench.arrived().items():
        assert [properties["marker"] for _, properties in found] == named, provider
        assert bench.sink.ledger[provider].refused_keys() == [], provider
