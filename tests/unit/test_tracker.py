"""The tracker's own calls: flush, shutdown, strict mode, re-entrancy, log lines."""

import asyncio
import gc
import logging
import signal
import threading
import time

import pytest

from agent_tracking import Identity, Tracker, TrackingError, TrackingEvent
from agent_tracking.processors import required


class Recorder:
    name = "recorder"

    def __init__(self):
        self.names = []

    def track(self, event):
        self.names.append(event.name)


@pytest.fixture
def make():
    trackers = []

    def make(*, environ=None, provider=None, **options):
        tracker = Tracker(environ=environ or {}, discover=False, **options)
        trackers.append(tracker)
        tracker.recorder = provider or Recorder()
        tracker.register_provider(tracker.recorder)
        return tracker

    yield make
    for tracker in trackers:
        try:
            tracker.shutdown(1)
        except TrackingError:
            continue


def test_flush_without_anything_tracked_is_true_and_starts_nothing():
    tracker = Tracker(environ={}, discover=False)
    before = threading.active_count()
    assert tracker.flush()
    assert tracker.shutdown()
    assert threading.active_count() <= before


def test_flush_is_false_when_something_tracked_before_it_was_dropped(make):
    tracker = make()
    tracker.track("")
    tracker.track("good")
    result = tracker.flush(10)
    assert not result
    assert result.dropped == {"bad-name": 1}
    tracker.track("good")
    assert tracker.flush(10), "a drop counts in one flush only"


def test_flush_works_from_many_threads_at_once(make):
    tracker = make()
    results = []

    def work():
        for _ in range(20):
            tracker.track("x")
            results.append(bool(tracker.flush(20)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 160
    assert len(tracker.recorder.names) == 160


def test_aflush_waits_without_blocking_the_event_loop(make):
    gate = threading.Event()

    class Slow(Recorder):
        def track(self, event):
            gate.wait(20)
            super().track(event)

    tracker = make(provider=Slow())

    async def main():
        ticks = 0
        tracker.track("x")
        flush = asyncio.create_task(tracker.aflush(20))
        while ticks < 50:
            await asyncio.sleep(0)
            ticks += 1
        assert not flush.done()
        gate.set()
        return await flush

    assert asyncio.run(main())
    assert tracker.recorder.names == ["x"]


def test_aflush_ends_at_its_timeout_and_works_in_one_loop_after_another(make):
    gate = threading.Event()

    class Hanging(Recorder):
        def track(self, event):
            gate.wait(60)

    tracker = make(provider=Hanging())
    tracker.track("x")
    for _ in range(3):
        result = asyncio.run(tracker.aflush(0.05))
        assert not result
        assert result.waiting == {"recorder": 1}
    gate.set()
    assert asyncio.run(tracker.aflush(20))


def test_flush_inside_a_running_loop_works(make):
    tracker = make()

    async def main():
        tracker.track("x")
        return tracker.flush(10)

    assert asyncio.run(main())


def test_shutdown_delivers_and_what_is_tracked_after_it_is_dropped_and_counted(make):
    tracker = make()
    tracker.track("before")
    assert tracker.shutdown(10)
    tracker.track("after")
    tracker.identify("u")
    assert tracker.recorder.names == ["before"]
    assert tracker.stats().dropped == {"after-shutdown": 2}
    start = time.monotonic()
    assert tracker.flush() is not None
    assert tracker.shutdown() is not None
    assert time.monotonic() - start < 5


def test_register_provider_after_shutdown_starts_anew(make):
    tracker = make()
    tracker.track("first")
    tracker.shutdown(10)
    second = Recorder()
    second.name = "second"
    tracker.register_provider(second)
    tracker.track("x")
    assert tracker.flush(10)
    assert second.names == ["x"]


def test_shutdown_is_over_at_its_timeout_whatever_a_provider_does(make):
    gate = threading.Event()

    class Hanging(Recorder):
        def track(self, event):
            gate.wait(60)

    tracker = make(provider=Hanging())
    tracker.track("x")
    start = time.monotonic()
    result = tracker.shutdown(0.2)
    assert time.monotonic() - start < 5
    assert not result
    assert result.dropped == {"shutdown": 1}
    gate.set()


def test_a_thousand_trackers_made_and_shut_down_leave_no_threads():
    before = threading.active_count()
    for _ in range(200):
        tracker = Tracker(environ={}, discover=False)
        tracker.register_provider(Recorder())
        tracker.track("x")
        assert tracker.shutdown(10)
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_tracker_that_only_listed_its_providers_is_shut_down_without_any_thread():
    before = threading.active_count()
    for _ in range(20):
        tracker = Tracker(environ={}, discover=False)
        tracker.providers()
        assert tracker.shutdown(0)
        assert tracker._serving is None
    assert threading.active_count() <= before


def test_disabled_takes_nothing(make):
    tracker = make(environ={"AGENT_TRACKING_DISABLED": "yes"})
    tracker.providers()
    tracker.track("x")
    assert tracker.flush(10)
    assert tracker.recorder.names == []


def test_what_is_tracked_before_it_is_known_that_everything_is_off_is_no_loss():
    tracker = Tracker(environ={"AGENT_TRACKING_DISABLED": "yes"})
    tracker.track("x")
    result = tracker.flush(10)
    assert result
    assert result.dropped == {"disabled": 1}
    tracker.shutdown(0)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.track(""),
        lambda t: t.track(5),
        lambda t: t.track("x", {"a": object()}),
        lambda t: t.track("x", [("a", 1)]),
        lambda t: t.track("x", {"a": "x" * 2_000_000}),
        lambda t: t.identify(None, {}),
        lambda t: t.identify("anonymous"),
    ],
)
def test_strict_mode_raises_what_would_be_salvaged_or_dropped(make, call):
    tracker = make(environ={"AGENT_TRACKING_STRICT": "1"})
    with pytest.raises(TrackingError, match="strict mode"):
        call(tracker)
    tracker.track("fine", {"a": 1})


def test_strict_mode_raises_at_the_flush_what_went_wrong_in_a_provider(make):
    class Bad(Recorder):
        def track(self, event):
            raise ValueError("x")

    tracker = make(environ={"AGENT_TRACKING_STRICT": "1"}, provider=Bad())
    tracker.track("x")
    with pytest.raises(TrackingError, match="ValueError"):
        tracker.flush(10)


def test_a_bad_setting_is_logged_once_and_raises_in_strict_mode(make, caplog):
    tracker = make(environ={"AGENT_TRACKING_FLUSH_AT": "many"})
    tracker.track("x")
    assert tracker.flush(10)
    assert [r.message for r in caplog.records if "AGENT_TRACKING_FLUSH_AT" in r.message]
    tracker = make(environ={"AGENT_TRACKING_FLUSH_AT": "many", "AGENT_TRACKING_STRICT": "1"})
    tracker.track("x")
    with pytest.raises(TrackingError, match="AGENT_TRACKING_FLUSH_AT"):
        tracker.flush(10)


def test_a_problem_is_logged_once_a_minute_with_its_count(make, caplog):
    class Bad(Recorder):
        def track(self, event):
            raise ValueError("x")

    tracker = make(environ={"AGENT_TRACKING_FLUSH_AT": "1"}, provider=Bad())
    for _ in range(100):
        tracker.track("x")
        tracker.flush(10)
    assert len([r for r in caplog.records if r.name == "agent_tracking.recorder"]) <= 2


def test_processors_change_and_drop_in_their_order(make):
    def rename(record):
        import msgspec

        return msgspec.structs.replace(record, name=record.name.upper())

    def drop(record):
        return None if record.name == "DROP" else record

    tracker = make(processors=(rename, drop))
    tracker.track("drop")
    tracker.track("keep")
    result = tracker.flush(10)
    assert tracker.recorder.names == ["KEEP"]
    assert result.dropped == {"processor": 1}


@pytest.mark.parametrize("bad", [lambda record: 1 / 0, lambda record: "nonsense", lambda record: exit()])
@pytest.mark.parametrize("must", [True, False])
def test_a_processor_that_fails_costs_its_change_or_if_it_is_required_its_record(make, caplog, bad, must):
    def own(record):
        return bad(record) if record.name == "bad" else record

    tracker = make(processors=(required(own) if must else own,))
    tracker.track("bad")
    tracker.track("good")
    result = tracker.flush(10)
    assert tracker.recorder.names == (["good"] if must else ["bad", "good"])
    assert result.dropped == ({"processor-error": 1} if must else {})
    assert any("the processor own " in r.message for r in caplog.records)


def test_an_application_that_tracks_its_log_lines_gets_no_loop(make):
    tracker = make(environ={"AGENT_TRACKING_FLUSH_AT": "1"})

    class Bad:
        name = "bad"

        def track(self, event):
            raise ValueError

    class Handler(logging.Handler):
        def emit(self, record):
            tracker.track("log line", {"text": record.getMessage()})

    tracker.register_provider(Bad())
    handler = Handler()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        for _ in range(50):
            tracker.track("x")
            tracker.flush(10)
    finally:
        root.removeHandler(handler)
    stats = tracker.stats()
    assert stats.dropped["own-traffic"] >= 1
    assert stats.tracked <= 110


def test_track_from_a_finalizer_during_garbage_collection_does_not_deadlock(make):
    tracker = make()

    class Tracked:
        def __init__(self):
            self.cycle = self

        def __del__(self):
            tracker.track("finalized")

    for _ in range(300):
        Tracked()
        tracker.track("x", {"a": [Tracked()]})
        gc.collect(0)
    gc.collect()
    assert tracker.flush(20)
    assert tracker.recorder.names.count("finalized") == 600


def test_track_from_a_signal_handler_neither_hangs_nor_loses(make):
    tracker = make()
    signals = 0

    def handler(*_):
        nonlocal signals
        signals += 1
        tracker.track("signal")

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        end = time.monotonic() + 1.0
        calls = 0
        while time.monotonic() < end:
            tracker.track("loop")
            calls += 1
            if calls % 500 == 0:
                tracker.flush(5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    tracker.flush(20)
    assert tracker.stats().tracked == calls + signals
    assert signals > 10


def test_flush_from_a_signal_handler_returns(make):
    tracker = make()
    results = []
    previous = signal.signal(signal.SIGALRM, lambda *_: results.append(bool(tracker.flush(10))))
    try:
        tracker.track("x")
        signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert results == [True]


def test_a_single_event_is_seen_without_another_one_whenever_it_comes(make):
    """The dispatcher goes to sleep and looks again at moments of its own: an event may come at any of them."""
    tracker = make(environ={"AGENT_TRACKING_FLUSH_AT": "1"})
    seen = threading.Event()
    tracker.recorder.track = lambda event: seen.set()
    tracker.unregister_provider("recorder")
    tracker.register_provider(tracker.recorder)
    for number in range(40):
        seen.clear()
        if number % 2:
            tracker.flush(5)
            end = time.perf_counter() + number * 0.00005
            while time.perf_counter() < end:
                pass
        tracker.track("x")
        assert seen.wait(5), f"event {number} sat in the queue"


def test_a_dispatcher_thread_that_died_is_replaced(make):
    tracker = make()
    tracker.track("first")
    assert tracker.flush(10)
    tracker._serving.alive = False  # what a platform that kills daemon threads leaves behind
    tracker.track("second")
    assert tracker.flush(10)
    assert tracker.recorder.names == ["first", "second"]


def test_a_full_intake_drops_the_oldest_counts_it_and_bounds_its_bytes(make):
    tracker = make(environ={"AGENT_TRACKING_QUEUE_RECORDS": "100", "AGENT_TRACKING_QUEUE_BYTES": "100000"})
    gate = threading.Event()

    def block(record):
        gate.wait(30)
        return record

    tracker.processors = (block,)
    tracker.providers()
    tracker.track("first")
    deadline = time.monotonic() + 10
    while tracker.entries and time.monotonic() < deadline:
        time.sleep(0.001)
    for _ in range(500):
        tracker.track("x", {"text": "y" * 5000})
    assert sum(map(len, tracker.entries)) <= 100_000 + 6_000
    gate.set()
    result = tracker.flush(20)
    stats = tracker.stats()
    assert stats.tracked == 501
    assert stats.dropped["queue-full"] + stats.providers["recorder"].accepted == 501
    assert not result


def test_records_say_what_they_are_without_showing_much():
    event = TrackingEvent(name="x", message_id="m", time=0.0)
    assert event.properties == {}
    assert Identity(user_id="u", message_id="m", time=0.0).traits == {}
