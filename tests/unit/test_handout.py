"""What the dispatcher takes out of the intake at once."""

from __future__ import annotations

import math

import pytest

from agent_tracking import Tracker
from agent_tracking.handout import HandOut

MEGABYTE = 1024 * 1024


class Lane:
    """Takes what it is given, and notes how many records and bytes came together."""

    def __init__(self):
        self.given = []

    def put(self, records, size):
        self.given.append((len(records), size))


@pytest.fixture
def handed_out():
    """Return a function that tracks events with texts of so many bytes, and returns what came together."""

    def hand_out(sizes):
        tracker = Tracker(environ={}, discover=False)
        tracker.due = math.inf  # there is no thread beside this one
        for size in sizes:
            tracker.track("event", {"text": "x" * size})
        lane = Lane()
        HandOut(tracker, None, lambda: {"lane": lane}, None).run()
        assert not tracker.entries
        assert tracker.size == 0
        return lane.given

    return hand_out


def test_large_records_are_handed_out_a_megabyte_and_one_record_at_a_time(handed_out):
    given = handed_out([400_000] * 8)
    assert sum(count for count, _ in given) == 8
    assert len(given) > 1
    assert max(size for _, size in given) <= MEGABYTE + 401_000


def test_small_records_are_handed_out_a_thousand_at_a_time(handed_out):
    assert [count for count, _ in handed_out([10] * 2_500)] == [1_000, 1_000, 500]
