"""What track() makes of its arguments: everything passed arrives, whatever it is, and is frozen."""

import collections
import dataclasses
import enum
import json
import math
import pathlib
import sys
import threading
import time
import types
import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_tracking import Tracker
from agent_tracking.snapshot import ENTRY_BYTES, NODES


class Recorder:
    name = "recorder"

    def __init__(self):
        self.records = []

    def track(self, event):
        self.records.append(event)

    def identify(self, identity):
        self.records.append(identity)


@pytest.fixture
def recorded():
    """Return a function that tracks properties and returns them as a provider sees them."""
    tracker = Tracker(environ={}, discover=False)
    recorder = Recorder()
    tracker.register_provider(recorder)

    def track(properties, name="event", **ids):
        recorder.records.clear()
        tracker.track(name, properties, **ids)
        tracker.flush(10)
        assert recorder.records, tracker.stats()
        return recorder.records[0]

    track.tracker = tracker
    yield track
    tracker.shutdown(5)


class Text(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError("must not be called")


class Number(int):
    pass


class Table(dict):
    def items(self):
        raise RuntimeError("must not be called")


class Colour(enum.Enum):
    RED = "red"
    MANY = [1, 2]


@dataclasses.dataclass
class Point:
    x: int
    y: object


class Struct(msgspec.Struct):
    a: int


class Hostile:
    def _no(self, *_):
        raise SystemExit("must not be called")

    __str__ = __repr__ = __eq__ = __iter__ = __len__ = __getattr__ = _no

    def __hash__(self):
        raise SystemExit("must not be called")

    @property
    def __class__(self):
        raise SystemExit("must not be called")


def generator():
    yield 1


AWARE = datetime(2026, 5, 4, 10, 0, tzinfo=timezone(timedelta(hours=2)))
VALUES = [
    (None, None),
    (True, True),
    (0, 0),
    (-(2**63), -(2**63)),
    (2**64 - 1, 2**64 - 1),
    (2**64, str(2**64)),
    (-(2**63) - 1, str(-(2**63) - 1)),
    (10**30, str(10**30)),
    (10**5000, "<int>"),
    (1.5, 1.5),
    (math.nan, None),
    (math.inf, None),
    (-math.inf, None),
    ("text", "text"),
    ("", ""),
    ("\x00\n", "\x00\n"),
    ("a\ud83db", "a�b"),
    ("\ud83d\ude00", "😀"),
    ("日本", "日本"),
    (Text("safe"), "safe"),
    (Number(5), 5),
    (Table(a=1), {"a": 1}),
    (b"bytes", "Ynl0ZXM="),
    (bytearray(b"x"), "eA=="),
    (memoryview(b"x"), "eA=="),
    (Decimal("9.50"), 9.5),
    (Decimal("NaN"), None),
    (Decimal("sNaN"), "<Decimal>"),
    (datetime(2026, 5, 4, 10, 0), "2026-05-04T10:00:00+00:00"),
    (AWARE, "2026-05-04T10:00:00+02:00"),
    (date(2026, 5, 4), "2026-05-04"),
    (timedelta(minutes=1), 60.0),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (pathlib.PurePosixPath("/a/b"), "/a/b"),
    (Colour.RED, "red"),
    (Colour.MANY, [1, 2]),
    ((1, 2), [1, 2]),
    ({7}, [7]),
    (frozenset({7}), [7]),
    (collections.deque([1]), [1]),
    (Point(1, b"x"), {"x": 1, "y": "eA=="}),
    (Struct(3), {"a": 3}),
    ({2: "a", None: "b", True: "c"}, {"2": "a", "null": "b", "true": "c"}),
    ({"1": "text", 1: "number"}, {"1": "text"}),
    ({1: "number", "1": "text"}, {"1": "text"}),
    (object(), "<object>"),
    (generator(), "<generator>"),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (collections.ChainMap({"a": 1}), "<ChainMap>"),
    (ValueError("secret"), "<ValueError>"),
    (Colour, "<EnumType>" if sys.version_info >= (3, 11) else "<EnumMeta>"),
    (Hostile(), "<Hostile>"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=lambda value: type(value).__name__)
def test_each_value_arrives_by_its_documented_rule_and_costs_no_other(recorded, value, expected):
    event = recorded({"value": value, "other": "stays", "nested": {"deep": [value]}})
    assert event.properties == {"value": expected, "other": "stays", "nested": {"deep": [expected]}}


def test_numpy_scalars_become_numbers(recorded):
    import numpy as np

    event = recorded({"i": np.int64(3), "f": np.float32(0.5), "nan": np.float64("nan")})
    assert event.properties == {"i": 3, "f": 0.5, "nan": None}


def test_attrs_and_pydantic_objects_become_objects_of_their_fields(recorded):
    import attrs
    import pydantic

    @attrs.define
    class Attrs:
        a: int

    class Pydantic(pydantic.BaseModel):
        a: int
        when: date

    event = recorded({"attrs": Attrs(1), "pydantic": Pydantic(a=2, when=date(2026, 5, 4))})
    assert event.properties == {"attrs": {"a": 1}, "pydantic": {"a": 2, "when": "2026-05-04"}}


def test_an_attribute_that_raises_keeps_its_key(recorded):
    @dataclasses.dataclass
    class Broken:
        good: int
        bad: int = dataclasses.field(init=False)

    assert recorded({"value": Broken(1)}).properties == {"value": {"good": 1, "bad": "<error>"}}


def test_a_cycle_and_a_hundred_thousand_levels_are_cut_with_a_mark(recorded):
    cycle = {"name": "cycle"}
    cycle["self"] = cycle
    deep = []
    for _ in range(100_000):
        deep = [deep]
    properties = recorded({"cycle": cycle, "deep": deep, "other": 1}).properties
    assert properties["other"] == 1
    assert "…" in json.dumps(properties, ensure_ascii=False)
    while deep:  # taken apart by hand: the interpreter's own recursion would not end well
        deep = deep[0]


@pytest.mark.parametrize(
    "huge",
    [
        {str(number): number for number in range(1_000_000)},
        {"list": list(range(1_000_000))},
        {"nested": {"list": [[number] for number in range(100_000)]}},
        {"text": "x" * 10_000_000},
        {"set": set(range(1_000_000))},
    ],
    ids=["keys", "list", "nested", "text", "set"],
)
def test_a_huge_record_is_cut_and_its_call_is_as_fast_as_cutting_a_small_one(recorded, huge):
    small = {**{str(number): str(number) for number in range(NODES * 2)}, "odd": object()}
    duration = {}
    for name, properties in (("small", small), ("huge", huge)):
        times = []
        for _ in range(5):
            start = time.perf_counter()
            recorded.tracker.track("event", properties)
            times.append(time.perf_counter() - start)
        duration[name] = min(times)
    assert duration["huge"] < duration["small"] * 10
    recorded.tracker.flush(10)
    event = recorded(huge)
    assert len(event.properties_json) <= ENTRY_BYTES
    assert "…" in event.properties_json.decode()


def test_later_changes_to_what_was_passed_are_not_seen(recorded):
    inner = [1]
    properties = {"list": inner, "dict": {"a": inner}}
    recorder = Recorder()
    recorded.tracker.unregister_provider("recorder")
    recorded.tracker.register_provider(recorder)
    recorded.tracker.track("event", properties)
    inner.append(2)
    properties["new"] = 1
    recorded.tracker.flush(10)
    assert recorder.records[0].properties == {"list": [1], "dict": {"a": [1]}}


def test_a_provider_that_changes_its_copy_changes_nobody_elses(recorded):
    event = recorded({"list": [1]})
    event.properties["list"].append(2)
    assert event.properties == {"list": [1]}


def test_a_dict_that_another_thread_changes_meanwhile_never_raises(recorded):
    properties = {str(number): number for number in range(100)}
    stop = threading.Event()

    def change():
        while not stop.is_set():
            properties["extra"] = 1
            properties.pop("extra", None)

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(500):
            recorded.tracker.track("event", properties)
            recorded.tracker.track("event", {"nested": properties, "odd": object()})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    recorded.tracker.flush(10)
    assert recorded.tracker.stats().providers["recorder"].delivered == 1000


def test_track_just_below_the_recursion_limit_does_not_raise(recorded):
    def descend(left):
        recorded.tracker.track("event", {"odd": object()})
        if left:
            descend(left - 1)

    with pytest.raises(RecursionError):
        descend(sys.getrecursionlimit())  # the test's own frames run out, never track() before them
    assert recorded.tracker.flush(10) is not None


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20)
    | st.binary(max_size=20) | st.datetimes() | st.decimals() | st.uuids(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(), max_size=8) | st.integers() | st.none() | st.booleans(), inner, max_size=4)
    | st.tuples(inner),
    max_leaves=20,
)  # fmt: skip

_shared = Tracker(environ={}, discover=False)
_recorder = Recorder()
_shared.register_provider(_recorder)


@given(properties=st.dictionaries(st.text(st.characters(), max_size=8), json_like, max_size=6))
def test_any_properties_arrive_as_json_without_double_keys(properties):
    _recorder.records.clear()
    _shared.track("event", properties)
    assert _shared.flush(10)

    def unique(pairs):
        assert len({key for key, _ in pairs}) == len(pairs)
        return dict(pairs)

    decoded = json.loads(_recorder.records[0].properties_json, object_pairs_hook=unique)
    assert len(decoded) <= len(properties)


@given(
    name=json_like, user=json_like, anonymous=json_like, session=json_like, when=json_like, message=json_like
)
def test_any_name_id_and_time_is_taken_or_dropped_but_never_raises(
    name, user, anonymous, session, when, message
):
    before = _shared.stats().tracked
    _shared.track(
        name,
        {"a": 1},
        user_id=user,
        anonymous_id=anonymous,
        session_id=session,
        timestamp=when,
        message_id=message,
    )
    _shared.identify(user, {"a": 1}, anonymous_id=anonymous, timestamp=when, message_id=message)
    _shared.flush(10)
    assert _shared.stats().tracked == before + 2
