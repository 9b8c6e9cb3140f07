"""``delay`` in ``stats()``: for how long the oldest record that is not settled has waited."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_tracking import Tracker
from agent_tracking.counters import LaneCounters


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counters(clock):
    return LaneCounters(clock)


def test_nothing_waits_nothing_is_delayed(counters):
    assert counters.snapshot().delay is None
    counters.accept(3)
    counters.deliver(3)
    assert counters.snapshot().delay is None
    counters.accept(0)
    assert counters.snapshot().delay is None


def test_it_is_the_oldest_records_age_however_it_is_settled(clock, counters):
    counters.accept(2)
    clock.now += 5
    counters.accept(2)
    clock.now += 5
    assert counters.snapshot().delay == 10
    counters.deliver(1)
    assert counters.snapshot().delay == 10
    counters.drop("rejected", 1)
    assert counters.snapshot().delay == 5
    counters.retry(2)
    clock.now += 60
    assert counters.snapshot().delay == 65
    counters.deliver(2)
    assert counters.snapshot().delay is None


def test_a_lane_that_is_closed_delays_nothing(clock, counters):
    counters.accept(2)
    clock.now += 5
    counters.close("shutdown")
    assert counters.snapshot().delay is None


def test_what_a_closed_lane_leaves_in_the_spool_waits_there(clock, counters):
    counters.accept(2)
    clock.now += 5
    counters.close("shutdown", kept=2)
    assert counters.snapshot().delay is None


def test_a_provider_that_was_registered_again_counts_its_own_records_only(clock, counters):
    counters.accept(2)
    counters.close("unregistered")
    again = LaneCounters(clock)
    again.resume(counters.snapshot())
    assert again.snapshot().delay is None
    again.accept(1)
    clock.now += 7
    assert again.snapshot().delay == 7


def test_a_backlog_of_any_length_costs_a_bounded_memory_and_is_never_said_to_be_younger(clock, counters):
    for _ in range(20_000):
        counters.accept(1)
        clock.now += 1
    assert len(counters._marks) <= 1_024
    assert counters.snapshot().delay == 20_000
    counters.deliver(10_000)
    assert 10_000 <= counters.snapshot().delay <= 10_100


@given(st.lists(st.tuples(st.sampled_from(["accept", "settle", "wait"]), st.integers(1, 9)), max_size=60))
def test_it_is_what_a_list_of_all_records_says(steps):
    clock = Clock()
    counters, waiting = LaneCounters(clock), []
    for what, number in steps:
        if what == "accept":
            counters.accept(number)
            waiting += [clock.now] * number
        elif what == "settle":
            counters.deliver(min(number, len(waiting)))
            del waiting[:number]
        else:
            clock.now += number
        assert counters.snapshot().delay == (clock.now - waiting[0] if waiting else None)


def test_it_grows_while_a_provider_blocks_and_is_gone_when_it_has_delivered():
    gate = threading.Event()

    class Blocking:
        name = "blocking"

        def track(self, event):
            gate.wait(60)

    tracker = Tracker(environ={"AGENT_TRACKING_FLUSH_AT": "1"}, discover=False)
    tracker.register_provider(Blocking())
    assert tracker.stats().providers["blocking"].delay is None
    began = time.monotonic()
    tracker.track("x")
    try:
        seen = [0.0]
        while seen[-1] < 0.3:
            assert time.monotonic() - began < 30
            stats = tracker.stats().providers["blocking"]
            assert stats.delay is None or seen[-1] <= stats.delay <= time.monotonic() - began
            seen.append(stats.delay or 0.0)
            time.sleep(0.01)
        tracker.track("y")
        assert tracker.stats().providers["blocking"].delay >= 0.3, "a younger one changes nothing"
    finally:
        gate.set()
    assert tracker.flush(20)
    assert tracker.stats().providers["blocking"].delay is None
    tracker.shutdown(5)
    assert tracker.stats().providers["blocking"].delay is None
