"""capture(): what is captured, what is told when an assertion fails, and that nothing leaves."""

import asyncio
import datetime as dt
import decimal
import gc
import sys
import threading
import uuid
import weakref
from unittest.mock import ANY

import pytest

import agent_tracking
from agent_tracking import ConfigurationError, Tracker, TrackingError, TrackingEvent, context
from agent_tracking.processors import deny, redact
from agent_tracking.testing import Captured, capture


class Recorder:
    name = "recorder"

    def __init__(self):
        self.names = []

    def track(self, event):
        self.names.append(event.name)

    def identify(self, identity):
        self.names.append(f"identify {identity.user_id}")


@pytest.fixture
def tracker():
    tracker = Tracker(environ={}, discover=False)
    tracker.recorder = Recorder()
    yield tracker
    tracker.shutdown(5)


@pytest.fixture
def running(tracker):
    tracker.register_provider(tracker.recorder)
    tracker.track("before")
    assert tracker.flush(20)
    return tracker


def message(function, *args, **options):
    with pytest.raises(AssertionError) as raised:
        function(*args, **options)
    return str(raised.value)


def test_records_are_what_providers_would_get(tracker):
    with capture(tracker=tracker) as events:
        tracker.track(
            " order paid ",
            {"total": 9.5},
            user_id=7,
            anonymous_id="a",
            session_id="s",
            timestamp=5,
            message_id="m",
        )
        tracker.identify("u-1", {"plan": "pro"}, anonymous_id="a")
    tracker.register_provider(provider := Keeper())
    tracker.track(
        " order paid ",
        {"total": 9.5},
        user_id=7,
        anonymous_id="a",
        session_id="s",
        timestamp=5,
        message_id="m",
    )
    assert tracker.flush(20)
    assert list(events) == provider.events
    assert events[0].name == "order paid"
    assert events[0].user_id == "7"
    (identity,) = events.identities
    assert (identity.user_id, identity.anonymous_id, identity.traits) == ("u-1", "a", {"plan": "pro"})


class Keeper:
    name = "keeper"

    def __init__(self):
        self.events = []

    def track(self, event):
        self.events.append(event)


def test_the_events_are_a_sequence_of_events_in_their_order(tracker):
    with capture(tracker=tracker) as events:
        assert isinstance(events, Captured)
        assert not events
        for name in ("one", "two", "three"):
            tracker.track(name)
        tracker.identify("u-1")
        assert events.names() == ["one", "two", "three"], "seen at once, inside the block too"
        assert [event.name for event in events[1:]] == ["two", "three"]
        assert events[-1].name == "three"
        assert all(isinstance(event, TrackingEvent) for event in events)
        with pytest.raises(
            IndexError, match="there is no event 3; events captured: 'one', 'two', 'three'; identities: 1"
        ):
            events[3]
        events.clear()
        assert len(events) == len(events.identities) == 0
    assert repr(events) == "<Captured events captured: none>"


def test_what_is_passed_is_frozen_and_what_is_bound_around_it_is_in_it(tracker):
    with capture(tracker=tracker) as events, context(user_id="u-1", properties={"plan": "pro"}):
        tracker.track("x", held := {"list": [1]})
        held["list"].append(2)
        event = events.assert_tracked("x", {"list": [1], "plan": "pro"}, user_id="u-1")
    assert event is events[0]


def test_the_process_wide_tracker_is_captured_by_default_and_another_one_is_not(running):
    with capture() as events:
        agent_tracking.track("here")
        running.track("there")
    assert events.names() == ["here"]
    assert running.flush(20)
    assert running.recorder.names == ["before", "there"]


def test_one_is_the_only_one_or_says_what_there_is(tracker):
    with capture(tracker=tracker) as events:
        assert message(events.one, "x") == "'x' was not tracked\nevents captured: none"
        tracker.track("order paid", {"total": 1}, user_id="u-1")
        tracker.track("signed up")
        assert events.one("order paid").properties == {"total": 1}
        tracker.track("order paid", {"total": 2})
        assert message(events.one, "order paid") == (
            "'order paid' was tracked 2 times, not once:\n"
            "  'order paid' user_id='u-1' {\"total\":1}\n"
            "  'order paid' {\"total\":2}\n"
            "events captured: 'order paid' (2), 'signed up'"
        )
        assert message(events.one, "order payed") == (
            "'order payed' was not tracked; is 'order paid' meant?\nevents captured: 'order paid' (2), 'signed up'"
        )


def test_a_mismatch_is_told_by_the_nearest_event_value_by_value(tracker):
    with capture(tracker=tracker) as events:
        tracker.track("order paid", {"total": 1, "currency": "EUR"}, user_id="u-2")
        tracker.track("order paid", {"total": 8.0, "tax": 1}, user_id="u-1")
        text = message(
            events.assert_tracked, "order paid", {"total": 9.5, "currency": "CHF", "tax": 1}, user_id="u-1"
        )
    assert text == (
        "no 'order paid' was tracked like that; the nearest of 2:\n"
        "  properties['total']: expected 9.5, is 8.0\n"
        "  properties['currency']: expected 'CHF', is not there (there are: 'total', 'tax')\n"
        "events captured: 'order paid' (2)"
    )


def test_each_id_is_checked_if_given_and_none_means_that_there_is_none(tracker):
    with capture(tracker=tracker) as events:
        tracker.track("x", user_id=7, session_id="s")
        events.assert_tracked("x", {}, user_id=7, anonymous_id=None, session_id="s")
        events.assert_tracked("x", user_id="7")
        text = message(events.assert_tracked, "x", user_id=None, anonymous_id="a", session_id="t")
    assert text == (
        "no 'x' was tracked like that; the only one:\n"
        "  user_id: expected None, is '7'\n"
        "  anonymous_id: expected 'a', is None\n"
        "  session_id: expected 't', is 's'\n"
        "events captured: 'x'"
    )


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(2026, 5, 4, tzinfo=dt.timezone.utc), dt.date(2026, 5, 4), uuid.UUID(int=7),
        decimal.Decimal("9.50"), (1, 2), {3}, b"bytes", float("nan"), 2**70, {1: {"a": (1,)}}, None, True, "\ud800",
        type("Odd", (), {})(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_was_passed_to_track_matches_as_it_was_passed(tracker, value):
    with capture(tracker=tracker) as events:
        tracker.track("x", {"value": value})
        events.assert_tracked("x", {"value": value})
        tracker.identify("u-1", {"value": value})
        events.assert_identified("u-1", {"value": value})
        assert "expected 'another'" in message(events.assert_tracked, "x", {"value": "another"})


def test_what_compares_equal_matches(tracker):
    with capture(tracker=tracker) as events:
        tracker.track("x", {"total": 0.1 + 0.2, "id": "f81d", "inside": {"id": 5, "b": 1}})
        events.assert_tracked("x", {"total": pytest.approx(0.3), "id": ANY, "inside": {"id": ANY, "b": 1}})
        assert "expected {'id': <ANY>" in message(events.assert_tracked, "x", {"inside": {"id": ANY}})


def test_an_array_which_has_no_truth_matches_as_what_it_was_turned_into(tracker):
    import numpy as np

    with capture(tracker=tracker) as events:
        tracker.track("x", {"array": np.array([1.5, 2.5]), "list": [1.5, 2.5], "number": np.float64(1.5)})
        events.assert_tracked("x", {"array": np.array([1.5, 2.5]), "number": np.float64(1.5)})
        message(events.assert_tracked, "x", {"list": np.array([1.5, 3.5])})


def test_a_comparison_that_raises_is_no_match_and_nothing_else(tracker):
    class Nasty:
        def __eq__(self, other):
            raise ValueError

        __hash__ = None

    with capture(tracker=tracker) as events:
        tracker.track("x", {"a": 1})
        assert "properties['a']" in message(events.assert_tracked, "x", {"a": Nasty()})


def test_identities_are_asserted_on_like_events(tracker):
    with capture(tracker=tracker) as events:
        assert message(events.assert_identified, "u-1") == "'u-1' was not identified\nevents captured: none"
        tracker.identify("u-1", {"plan": "free"}, anonymous_id="a")
        tracker.identify("u-1", {"plan": "pro"})
        assert events.assert_identified("u-1", {"plan": "pro"}) is events.identities[1]
        assert message(events.assert_identified, "u-2") == (
            "'u-2' was not identified, but 'u-1'\nevents captured: none; identities: 2"
        )
        assert message(events.assert_identified, "u-1", {"plan": "pro"}, anonymous_id="a") == (
            "'u-1' was not identified like that; the nearest of 2:\n"
            "  traits['plan']: expected 'pro', is 'free'\n"
            "events captured: none; identities: 2"
        )


def test_nothing_tracked_lists_what_was(tracker):
    with capture(tracker=tracker) as events:
        events.assert_nothing_tracked()
        tracker.identify("u-1", {"plan": "pro"})
        tracker.track("x", {"a": "b" * 1_000})
        text = message(events.assert_nothing_tracked)
    assert '\'x\' {"a":"bbb' in text
    assert 'identify user_id=\'u-1\' {"plan":"pro"}' in text
    assert len(text) < 500


def test_calls_of_which_no_record_comes_are_counted_and_mentioned(tracker):
    with capture(tracker=tracker) as events:
        tracker.track("")
        tracker.track(None)
        tracker.identify("anonymous")
        tracker.track("x", {"still": object()})
        assert events.names() == ["x"]
        assert events.dropped == {"bad-name": 2, "bad-id": 1}
        assert "dropped: bad-name (2), bad-id (1)" in message(events.one, "y")


def test_processors_that_are_given_are_run_and_those_of_the_tracker_are_not():
    tracker = Tracker(environ={}, discover=False, processors=[lambda record: None])
    with capture(tracker=tracker) as events:
        tracker.track("x", {"email": "a@example.com"})
        with capture(tracker=tracker, processors=[redact(), deny("secret*")]) as redacted:
            tracker.track("y", {"email": "a@example.com"})
            tracker.track("secret thing")
    assert events.one("x").properties == {"email": "a@example.com"}
    assert redacted.one("y").properties != {"email": "a@example.com"}
    assert redacted.names() == ["y"]
    assert redacted.dropped == {"denied": 1}


@pytest.mark.parametrize(
    "options", [{"processors": [5]}, {"processors": 5}, {"tracker": "x"}, {"tracker": agent_tracking.track}]
)
def test_bad_arguments_are_told_at_once(options):
    with pytest.raises((TypeError, ConfigurationError)):
        capture(**options)


def test_a_capture_is_for_one_block(tracker):
    block = capture(tracker=tracker)
    with block, pytest.raises(RuntimeError, match="call capture\\(\\) anew"):
        block.__enter__()
    tracker.register_provider(tracker.recorder)
    tracker.track("after")
    assert tracker.flush(20)
    assert tracker.recorder.names == ["after"]


def test_nothing_is_started_found_or_asked(tmp_path):
    tracker = Tracker(environ={"POSTHOG_API_KEY": "phc_x", "TRACKING_WEBHOOK_URL": "http://127.0.0.1:9/"})
    before = set(threading.enumerate())
    with capture(tracker=tracker) as events:
        for _ in range(200):
            tracker.track("x")
        assert tracker.providers() == ()
        assert tracker.flush(20)
        assert tracker.shutdown(20)
        assert asyncio.run(tracker.aflush(20))
        assert asyncio.run(tracker.adrain())
        tracker.drain_at_exit()
        tracker.hurry()
    assert set(threading.enumerate()) <= before
    assert len(events) == 200
    assert tracker.stats().tracked == 0
    assert tracker.stats().providers == {}


def test_a_running_tracker_goes_on_after_the_block_as_before(running):
    with capture(tracker=running) as events:
        running.track("inside")
        assert running.flush(20)
        running.shutdown()
        running.track("inside still")
    running.track("after")
    assert running.flush(20)
    assert running.recorder.names == ["before", "after"]
    assert events.names() == ["inside", "inside still"]
    assert running.stats().tracked == 2


def test_flush_inside_does_not_wait_for_what_was_tracked_before(tracker):
    gate = threading.Event()

    class Blocking(Recorder):
        def track(self, event):
            gate.wait(60)
            super().track(event)

    tracker.register_provider(provider := Blocking())
    tracker.track("before")
    assert not tracker.flush(0.05)
    with capture(tracker=tracker) as events:
        tracker.track("inside")
        assert tracker.flush(60)
        assert asyncio.run(tracker.aflush(60))
        assert not gate.is_set()
    gate.set()
    assert tracker.flush(20)
    assert provider.names == ["before"]
    assert events.names() == ["inside"]


def test_a_tracker_that_was_shut_down_is_captured_and_stays_shut_down(running):
    running.shutdown(20)
    with capture(tracker=running) as events:
        running.track("inside")
    running.track("after")
    assert events.names() == ["inside"]
    assert running.stats().dropped == {"after-shutdown": 1}
    assert running.recorder.names == ["before"]


def test_a_disabled_tracker_is_captured_and_stays_disabled():
    tracker = Tracker(environ={"AGENT_TRACKING_DISABLED": "1"}, discover=False)
    tracker.providers()  # reads the settings
    tracker.track("before")
    with capture(tracker=tracker) as events:
        tracker.track("inside")
    tracker.track("after")
    assert events.names() == ["inside"]
    assert not tracker.entries


def test_strict_mode_raises_inside_as_ever():
    tracker = Tracker(environ={"AGENT_TRACKING_STRICT": "1"}, discover=False)
    with capture(tracker=tracker) as events:
        with pytest.raises(TrackingError):
            tracker.track("")
        tracker.track("x")
    assert events.names() == ["x"]


def test_an_exception_ends_the_capture_and_passes(running):
    with pytest.raises(ZeroDivisionError), capture(tracker=running) as events:
        running.track("inside") or 1 / 0
    running.track("after")
    assert running.flush(20)
    assert events.names() == ["inside"]
    assert running.recorder.names == ["before", "after"]


def test_the_innermost_capture_gets_the_record(running):
    with capture(tracker=running) as outer:
        running.track("one")
        with capture(tracker=running) as inner:
            running.track("two")
            with capture() as other:
                running.track("three")
                agent_tracking.track("four")
        running.track("five")
    assert outer.names() == ["one", "five"]
    assert inner.names() == ["two", "three"]
    assert other.names() == ["four"]
    assert running.recorder.names == ["before"]


def test_captures_may_end_in_another_order_than_they_began(running):
    first, second = capture(tracker=running), capture(tracker=running)
    one, two = first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    running.track("a")
    second.__exit__(None, None, None)
    running.track("b")
    assert running.flush(20)
    assert (one.names(), two.names()) == ([], ["a"])
    assert running.recorder.names == ["before", "b"]


def test_providers_may_be_registered_and_settings_changed_inside(tracker):
    with capture(tracker=tracker) as events:
        tracker.register_provider(tracker.recorder)
        tracker.configure(flush_at=1)
        tracker.track("inside")
        assert [record.name for record in tracker.providers()] == ["recorder"]
    tracker.track("after")
    assert tracker.flush(20)
    assert events.names() == ["inside"]
    assert tracker.recorder.names == ["after"]


def test_a_tracker_is_not_kept_alive_by_having_been_captured():
    tracker = Tracker(environ={}, discover=False)
    with capture(tracker=tracker):
        tracker.track("x")
    alive = weakref.ref(tracker)
    del tracker
    gc.collect()
    assert alive() is None


def test_calls_below_the_recursion_limit_do_not_raise(tracker):
    def deep(left):
        if left:
            return deep(left - 1)
        return tracker.track("x", {"a": 1})

    with capture(tracker=tracker) as events:
        for left in range(sys.getrecursionlimit() - 100, sys.getrecursionlimit()):
            try:
                deep(left)
            except RecursionError:  # deep() itself
                break
    assert events.names().count("x") + sum(events.dropped.values()) >= 1
