"""Names, ids, times: what a record says of itself, the same for every provider."""

import re
from datetime import datetime, timedelta, timezone

import pytest

from agent_tracking import Identity, Tracker
from agent_tracking.clock import iso_text
from agent_tracking.names import PLACEHOLDERS, IdPrefix


class Recorder:
    name = "recorder"

    def __init__(self):
        self.records = []

    def track(self, event):
        self.records.append(event)

    def identify(self, identity):
        self.records.append(identity)


@pytest.fixture
def tracker():
    tracker = Tracker(environ={}, discover=False)
    tracker.recorder = Recorder()
    tracker.register_provider(tracker.recorder)
    yield tracker
    tracker.shutdown(5)


def seen(tracker):
    tracker.flush(10)
    return tracker.recorder.records


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("order paid", "order paid"),
        ("  x \n", "x"),
        ("n" * 500, "n" * 200),
        ("a\nb", "a\nb"),
        ("é\ud800", "é�"),
    ],
)
def test_event_names_are_stripped_and_cut_at_200_characters(tracker, given, name):
    tracker.track(given)
    assert [event.name for event in seen(tracker)] == [name]


@pytest.mark.parametrize("given", ["", "   ", None, b"bytes", 5, [], object()])
def test_an_event_without_a_usable_name_is_dropped_and_counted(tracker, given):
    tracker.track(given)
    tracker.track("good")
    assert [event.name for event in seen(tracker)] == ["good"]
    assert tracker.stats().dropped == {"bad-name": 1}


@pytest.mark.parametrize(
    "placeholder", [*sorted(PLACEHOLDERS), " Anonymous ", "NULL", 0, -1, None, 1.5, [], True]
)
def test_placeholder_ids_count_as_no_id(tracker, placeholder):
    tracker.track("event", user_id=placeholder, anonymous_id=placeholder, session_id=placeholder)
    (event,) = seen(tracker)
    assert (event.user_id, event.anonymous_id, event.session_id) == (None, None, None)


@pytest.mark.parametrize(
    ("given", "text"), [(42, "42"), (" u-1 ", "u-1"), ("日本", "日本"), (2**70, str(2**70))]
)
def test_ids_are_text(tracker, given, text):
    tracker.track("event", user_id=given)
    assert seen(tracker)[0].user_id == text


def test_identify_without_a_user_is_dropped_and_counted(tracker):
    tracker.identify(None, {"plan": "pro"})
    tracker.identify("anonymous", {"plan": "pro"})
    assert seen(tracker) == []
    assert tracker.stats().dropped == {"bad-id": 2}


def test_identify_carries_traits_and_the_anonymous_id(tracker):
    tracker.identify("u-1", {"plan": "pro"}, anonymous_id="visitor")
    (identity,) = seen(tracker)
    assert isinstance(identity, Identity)
    assert (identity.user_id, identity.anonymous_id, identity.traits) == ("u-1", "visitor", {"plan": "pro"})


@pytest.mark.parametrize(
    "given",
    [
        datetime(2026, 5, 4, 10, 0, tzinfo=timezone.utc),
        datetime(2026, 5, 4, 12, 0, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 5, 4, 10, 0),
        1777888800,
        1777888800.0,
        "2026-05-04T10:00:00Z",
        "2026-05-04T12:00:00+02:00",
        "2026-05-04T10:00:00",
    ],
)
def test_a_time_is_read_as_utc_unless_it_names_an_offset(tracker, given):
    tracker.track("event", timestamp=given)
    (event,) = seen(tracker)
    assert event.iso == "2026-05-04T10:00:00.000000Z"
    assert event.time_ms == 1777888800000
    assert event.timestamp == datetime(2026, 5, 4, 10, 0, tzinfo=timezone.utc)


@pytest.mark.parametrize("given", ["yesterday", -5, 1e30, float("nan"), [], {}, True])
def test_an_unreadable_time_becomes_now_and_is_counted(tracker, given):
    tracker.track("event", timestamp=given)
    (event,) = seen(tracker)
    assert abs(event.time - datetime.now(timezone.utc).timestamp()) < 60
    assert tracker.stats().salvaged == (0 if given != given else 1)  # NaN is null: no time


def test_message_ids_are_distinct_uuids(tracker):
    for _ in range(100):
        tracker.track("event")
    ids = [event.message_id for event in seen(tracker)]
    assert len(set(ids)) == 100
    assert all(
        re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids
    )
    assert IdPrefix().uuid(1) != IdPrefix().uuid(1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("0190B6F2-7A3E-7C10-9A55-0D7B1F6C2E11", "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11"),
        ("0190b6f27a3e7c109a550d7b1f6c2e11", "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11"),
    ],
)
def test_a_message_id_that_is_a_uuid_is_kept(tracker, given, expected):
    tracker.track("event", message_id=given)
    assert seen(tracker)[0].message_id == expected


@pytest.mark.parametrize("given", ["order-7", "a\r\nX: y", "x" * 300])
def test_a_message_id_that_is_other_text_becomes_one_uuid_always(tracker, given):
    tracker.track("event", message_id=given)
    tracker.track("event", message_id=given)
    first, second = (event.message_id for event in seen(tracker))
    assert first == second
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", first)


@pytest.mark.parametrize("given", ["", 5, []])
def test_a_message_id_that_is_no_text_is_replaced_by_a_made_one(tracker, given):
    tracker.track("event", message_id=given)
    assert re.fullmatch(r"[0-9a-f-]{36}", seen(tracker)[0].message_id)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (0.9999999, "1970-01-01T00:00:01.000000Z"),
        (1777888800.123456, "2026-05-04T10:00:00.123456Z"),
        (253402300799, "9999-12-31T23:59:59.000000Z"),
    ],
)
def test_times_are_rfc_3339_with_microseconds(seconds, text):
    assert iso_text(seconds) == text
