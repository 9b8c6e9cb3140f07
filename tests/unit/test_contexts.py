"""``context()``: what is bound, for whom, and when it ends."""

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_tracking import Tracker, TrackingError, context
from agent_tracking.contexts import CURRENT


class Recorder:
    name = "recorder"

    def __init__(self):
        self.events = []
        self.identities = []

    def track(self, event):
        self.events.append(event)

    def identify(self, identity):
        self.identities.append(identity)


class Recording(Tracker):
    """A tracker that shows what arrived."""

    def __init__(self):
        super().__init__(environ={}, discover=False)
        self.recorder = Recorder()
        self.register_provider(self.recorder)

    def seen(self):
        assert not self.flush(20).waiting
        return self.recorder.events

    def last(self):
        return self.seen()[-1]

    def users(self):
        """Return the user id of each event by its name."""
        return {event.name: event.user_id for event in self.seen()}


@pytest.fixture
def tracker():
    tracker = Recording()
    assert CURRENT.get() is None
    yield tracker
    tracker.shutdown(5)
    assert context.current() == {}


def ids(event):
    return event.user_id, event.anonymous_id, event.session_id


# What is bound


def test_ids_and_properties_that_are_bound_reach_what_is_tracked_inside_and_nothing_after(tracker):
    with context(user_id=7, anonymous_id="v-1", session_id="s-1", properties={"plan": "pro"}):
        tracker.track("inside", {"a": 1})
        tracker.track("without properties")
    tracker.track("after", {"a": 1})
    inside, without, after = tracker.seen()
    assert ids(inside) == ids(without) == ("7", "v-1", "s-1")
    assert inside.properties == {"plan": "pro", "a": 1}
    assert without.properties == {"plan": "pro"}
    assert (ids(after), after.properties) == ((None, None, None), {"a": 1})


def test_what_a_call_passes_wins_and_an_empty_id_is_none(tracker):
    with context(user_id="u-1", anonymous_id="v-1", properties={"plan": "pro", "b": 1}):
        tracker.track("x", {"plan": "free"}, user_id="u-2", anonymous_id="")
    assert ids(tracker.last()) == ("u-2", None, None)
    assert tracker.last().properties == {"plan": "free", "b": 1}


def test_nested_contexts_add_to_each_other_and_the_inner_one_wins(tracker):
    with context(user_id="u-1", session_id="s-1", properties={"a": 1, "b": 1}):
        with context(user_id="u-2", anonymous_id="v-2", properties={"b": 2}):
            tracker.track("inner", {"c": 3})
            with context(user_id=""):
                tracker.track("nobody")
        tracker.track("outer")
    inner, nobody, outer = tracker.seen()
    assert (ids(inner), inner.properties) == (("u-2", "v-2", "s-1"), {"a": 1, "b": 2, "c": 3})
    assert ids(nobody) == (None, "v-2", "s-1")
    assert (ids(outer), outer.properties) == (("u-1", None, "s-1"), {"a": 1, "b": 1})


def test_properties_are_those_of_the_moment_when_context_was_called(tracker):
    given_ones = {"deep": {"list": [1]}}
    held = context(properties=given_ones)
    given_ones["deep"]["list"].append(2)
    with held:
        given_ones["deep"] = None
        tracker.track("x")
        context.current()["properties"]["deep"]["list"].append(3)
        tracker.track("y")
    assert [event.properties for event in tracker.seen()] == [{"deep": {"list": [1]}}] * 2


def test_one_object_may_be_entered_again_inside_itself_and_at_once_in_many_threads(tracker):
    shared = context(properties={"area": "shop"})
    barrier = threading.Barrier(4)

    def visit(number):
        with context(user_id=f"u-{number}"), shared:
            barrier.wait(20)
            with shared:
                tracker.track(f"in {number}")
            tracker.track(f"out {number}")
            barrier.wait(20)
            if number:
                return
        tracker.track("after")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(visit, range(4)))
    assert shared._entered == []
    seen = {event.name: (event.user_id, event.properties) for event in tracker.seen()}
    assert seen.pop("after") == (None, {})
    assert seen == {
        f"{side} {number}": (f"u-{number}", {"area": "shop"}) for number in range(4) for side in ("in", "out")
    }


def test_bind_adds_to_the_innermost_context_until_its_end(tracker):
    context.bind(user_id="nobody's")
    with context(session_id="s-1", properties={"a": 1}):
        with context(anonymous_id="v-1"):
            context.bind(user_id="u-1", properties={"b": 2})
            tracker.track("x")
        tracker.track("y")
    x, y = tracker.seen()
    assert (ids(x), x.properties) == (("u-1", "v-1", "s-1"), {"a": 1, "b": 2})
    assert (ids(y), y.properties) == ((None, None, "s-1"), {"a": 1})


def test_current_is_what_another_process_needs_to_bind_the_same(tracker):
    with context(user_id=UUID(int=5), properties={"at": {1}}), context(session_id="s-1"):
        handed_over = context.current()
        tracker.track("here")
    with context(**handed_over):
        tracker.track("there")
    here, there = tracker.seen()
    assert (
        (ids(here), here.properties)
        == (ids(there), there.properties)
        == ((str(UUID(int=5)), None, "s-1"), {"at": [1]})
    )
    assert context.current() == {}


# Identities


def test_identify_gets_the_anonymous_id_and_neither_properties_nor_the_bound_user(tracker):
    with context(anonymous_id="v-1", session_id="s-1", properties={"a": 1}):
        tracker.identify("u-1", {"plan": "pro"})
        tracker.identify("u-1", anonymous_id="v-2")
        tracker.identify("u-1", anonymous_id="")
    tracker.flush(20)
    assert [(i.user_id, i.anonymous_id, i.traits) for i in tracker.recorder.identities] == [
        ("u-1", "v-1", {"plan": "pro"}),
        ("u-1", "v-2", {}),
        ("u-1", None, {}),
    ]


def test_identify_of_somebody_else_than_the_bound_user_merges_nobody(tracker):
    with context(anonymous_id="v-1"), context(user_id=1):
        for user in (2, "1", 1, "3"):
            tracker.identify(user)
    tracker.flush(20)
    got = [(i.user_id, i.anonymous_id) for i in tracker.recorder.identities]
    assert got == [("2", None), ("1", "v-1"), ("1", "v-1"), ("3", None)]


def test_where_no_user_is_bound_the_first_who_is_identified_gets_the_anonymous_id(tracker):
    class Text(str):
        __slots__ = ()

    for first in (Text("u-1"), UUID(int=1), 42):
        with context(anonymous_id="v-1"):
            for user in (None, "anonymous", first, "u-2", first):
                with context(session_id="s"):
                    tracker.identify(user)
    tracker.flush(20)
    merged = ["v-1", None, "v-1"]
    assert [i.anonymous_id for i in tracker.recorder.identities] == merged * 3


# Whatever is passed


class Raising(Mapping):
    def __getitem__(self, key):
        raise SystemExit(key)

    def __iter__(self):
        raise ValueError("iterated")

    def __len__(self):
        raise MemoryError

    def __bool__(self):
        raise RuntimeError

    def __eq__(self, other):
        raise RuntimeError

    def __hash__(self):
        return hash("plan")


ODD = [
    7,
    "text",
    [1],
    object(),
    Raising(),
    MappingProxyType(Raising()),
    int,
    {Raising(): 1},
    {"deep": object()},
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
def test_odd_arguments_raise_nowhere_and_cost_only_themselves(tracker, odd):
    with context(user_id=odd, session_id="s-1", properties=odd):
        with context(properties={"plan": "pro"}):
            tracker.track("x", {"a": 1}, user_id="u-1")
            tracker.track("y", odd, user_id="u-1")
            tracker.identify("u-9", odd)
            tracker.identify(odd)
        context.bind(anonymous_id=odd, properties=odd)
        assert isinstance(context.current(), dict)
        context.carry(tracker.track)("z")
    x, y, z = tracker.seen()
    assert (x.session_id, x.user_id, x.properties["a"], x.properties["plan"]) == ("s-1", "u-1", 1, "pro")
    assert y.properties["plan"] == "pro"
    assert z.session_id == "s-1"


@pytest.mark.parametrize("kind", [MappingProxyType, OrderedDict, type("Sub", (dict,), {})])
def test_mappings_that_are_no_plain_dict_keep_their_own_and_the_bound_properties(tracker, kind):
    with context(properties=kind({"plan": "pro", "b": 1})):
        tracker.track("x", kind({"a": 1, "b": 2}))
    assert tracker.last().properties == {"plan": "pro", "a": 1, "b": 2}


def test_properties_too_large_for_one_record_keep_the_bound_ones(tracker):
    with context(session_id="s-1", properties={"plan": "pro"}):
        tracker.track("x", {"text": "x" * 2_000_000})
        tracker.track("y", dict.fromkeys(map(str, range(20_000)), 1))
        tracker.track("z", OrderedDict((f"{n}", "\x01" * 8_000) for n in range(21)))
    assert len(tracker.seen()) == 3
    for event in tracker.seen():
        assert event.properties["plan"] == "pro"
        assert event.session_id == "s-1"


def test_what_is_bound_leaves_room_for_what_a_call_passes(tracker):
    for large in ({"large": "x" * 300_000}, {str(n): "\x01" * 8_000 for n in range(21)}):
        with context(session_id="s-1", properties=large):
            tracker.track("x", {"text": "y" * 700_000})
        assert tracker.last().session_id == "s-1"
        assert tracker.last().properties["text"] == "y" * 700_000


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(json, json, json, json)
def test_arbitrary_data_is_bound_as_it_would_be_tracked(user_id, session_id, properties, own):
    tracker = ARBITRARY
    with context(user_id=user_id, session_id=session_id, properties=properties):
        tracker.track("bound", own)
    merged = {**properties, **own} if isinstance(properties, dict) and isinstance(own, dict) else None
    tracker.track("passed", merged, user_id=user_id, session_id=session_id)
    bound, passed = tracker.seen()[-2:]
    assert ids(bound) == ids(passed)
    if merged is not None and set(map(type, merged)) <= {str}:
        assert bound.properties == passed.properties


ARBITRARY = Recording()


def test_strict_mode_tells_of_what_was_changed_when_it_was_bound():
    tracker = Tracker(environ={"AGENT_TRACKING_STRICT": "1"}, discover=False)
    told = pytest.raises(TrackingError, match=r"strict mode: an id or a property of the context")
    with context(properties={"a": object()}), context(user_id="u-1"), told:
        tracker.track("x")
    with context(properties={"a": {1}, "b": UUID(int=1)}):
        tracker.track("x")
    tracker.shutdown(1)


def test_twenty_frames_below_the_recursion_limit_track_inside_a_context_does_not_raise(tracker):
    def down(frames):
        if frames:
            return down(frames - 1)
        tracker.track("x", {"a": 1})
        return tracker.identify("u-1")

    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    for spare in (20, 22, 25, 30, 60):
        with context(user_id="u-1", anonymous_id="v-1"):
            down(sys.getrecursionlimit() - depth - spare)
    assert tracker.last().user_id == "u-1"


# As a decorator


def test_it_wraps_functions_and_async_functions_and_each_call_has_its_own(tracker):
    @context(user_id="u-1", properties={"job": "nightly"})
    def plain(depth, *, extra=0):
        """Say."""
        context.bind(properties={f"bound {depth}": 1})
        if depth:
            plain(depth - 1)
        tracker.track(f"plain {depth}")
        return depth + extra

    @context(session_id="s-1")
    async def asynchronous(number):
        context.bind(user_id=number)
        await asyncio.sleep(0)
        tracker.track(f"async {number}")
        return number

    async def main():
        return await asyncio.gather(*map(asynchronous, range(1, 9)))

    assert plain(1, extra=5) == 6
    assert (plain.__name__, plain.__doc__) == ("plain", "Say.")
    assert asyncio.iscoroutinefunction(asynchronous)
    assert asyncio.run(main()) == list(range(1, 9))
    seen = {event.name: event for event in tracker.seen()}
    assert seen["plain 0"].properties == {"job": "nightly", "bound 1": 1, "bound 0": 1}
    assert seen["plain 1"].properties == {"job": "nightly", "bound 1": 1}
    for number in range(1, 9):
        assert ids(seen[f"async {number}"]) == (str(number), None, "s-1")


def test_a_call_that_is_given_up_elsewhere_ends_its_own_block_only(tracker):
    @context(user_id="u-1")
    async def work():
        await asyncio.sleep(0)
        tracker.track("goes on")

    calls = [(work(), contextvars.copy_context()) for _ in range(2)]
    for call, here in calls:
        here.run(call.send, None)
    (given_up, _), (goes_on, here) = calls
    given_up.close()
    with pytest.raises(StopIteration):
        here.run(goes_on.send, None)
    assert tracker.last().user_id == "u-1"


def test_typed_events_get_what_is_bound(tracker):
    @dataclass
    class OrderPaid:
        total: float
        plan: str = "free"

    with context(user_id="u-1", properties={"plan": "pro", "area": "shop"}):
        tracker.track(OrderPaid(9.5))
    assert tracker.last().user_id == "u-1"
    assert tracker.last().properties == {"total": 9.5, "plan": "free", "area": "shop"}


def test_generators_classes_and_what_cannot_be_called_are_refused_with_what_to_do():
    def generator():
        yield 1

    async def asynchronous():
        yield 1

    for function in (generator, asynchronous):
        for wrap in (context(user_id=1), context.carry):
            with pytest.raises(TypeError, match=r"use 'with context\(\.\.\.\):' inside it"):
                wrap(function)
    for wrong in (Recorder, 7):
        with pytest.raises(TypeError, match="can wrap functions and async functions, not"):
            context(user_id=1)(wrong)


def test_a_second_copy_of_the_package_sees_what_the_first_one_binds():
    source = """
import sys
from agent_tracking import context as first, track
for name in [name for name in sys.modules if name.split(".")[0] == "agent_tracking"]:
    del sys.modules[name]
from agent_tracking import context as second
assert first is not second
with second(user_id="u-1"):
    print(first.current())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("{'user_id': 'u-1'}\n", "")
