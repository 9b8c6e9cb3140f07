"""A lane: its queue, its schedule, what it makes of what a provider does."""

import threading
import time

import pytest

from agent_tracking import Reject, RetryLater, Tracker, TrackingEvent
from agent_tracking.sources.memory import MemorySource
from agent_tracking.sources.protocol import RECORD_OVERHEAD, weight


def event(name="e", size=2):
    return TrackingEvent(name=name, message_id=name, time=0.0, properties_json=b"x" * size)


def until(condition, seconds=10.0):
    """Wait for a condition with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


@pytest.fixture
def tracker():
    trackers = []

    def make(**environ):
        tracker = Tracker(
            environ={f"AGENT_TRACKING_{k.upper()}": v for k, v in environ.items()}, discover=False
        )
        trackers.append(tracker)
        return tracker

    yield make
    for each in trackers:
        each.shutdown(1)


def test_a_full_queue_drops_the_oldest_and_says_how_many():
    source = MemorySource(3, 1_000_000)
    assert source.put([event(str(n)) for n in range(5)], 5 * (RECORD_OVERHEAD + 2)) == 2
    assert [record.name for record in source.take(10, 10**6)] == ["2", "3", "4"]
    assert (source.end(), source.settled()) == (5, 2)


def test_a_queue_is_bounded_in_bytes_too():
    source = MemorySource(1000, 10 * (RECORD_OVERHEAD + 1000))
    records = [event(str(n), 1000) for n in range(30)]
    assert source.put(records, sum(map(weight, records))) == 20
    assert source.waiting() == 10


def test_a_batch_takes_what_fits_but_at_least_one_record():
    source = MemorySource(10, 10**6)
    source.put([event("a", 500), event("b", 500)], 1800)
    assert [record.name for record in source.take(10, 1)] == ["a"]


def test_records_given_back_come_first_again():
    source = MemorySource(10, 10**6)
    source.put([event("a"), event("b"), event("c")], 3 * (RECORD_OVERHEAD + 2))
    taken = source.take(2, 10**6)
    source.release(taken)
    assert [record.name for record in source.take(5, 10**6)] == ["a", "b", "c"]
    assert source.settled() == 0


class Buffered:
    """Fifteen lines that are a complete provider."""

    name = "buffered"

    def __init__(self):
        self.buffer, self.batches = [], []

    def track(self, event):
        self.buffer.append(event.name)

    def flush(self):
        self.batches.append(self.buffer)
        self.buffer = []


def test_fifty_records_are_sent_before_the_interval_is_over(tracker):
    tracker = tracker(flush_interval="3600")
    provider = Buffered()
    tracker.register_provider(provider)
    for number in range(50):
        tracker.track(str(number))
    until(lambda: provider.batches)
    assert provider.batches == [[str(number) for number in range(50)]]


def test_fewer_are_sent_when_the_interval_is_over(tracker):
    tracker = tracker(flush_interval="0.05")
    provider = Buffered()
    tracker.register_provider(provider)
    tracker.track("one")
    until(lambda: provider.batches == [["one"]])


def test_what_gathers_while_a_batch_is_on_its_way_goes_together(tracker):
    tracker = tracker(flush_interval="0.01")
    gate, entered = threading.Event(), threading.Event()
    provider = Buffered()
    plain_flush = provider.flush

    def flush():
        entered.set()
        gate.wait(10)
        plain_flush()

    provider.flush = flush
    tracker.register_provider(provider)
    tracker.track("first")
    assert entered.wait(10)
    for number in range(300):
        tracker.track(str(number))
    until(lambda: tracker.stats().providers["buffered"].accepted == 301)
    gate.set()
    assert tracker.flush(10)
    assert [len(batch) for batch in provider.batches] == [1, 300]


def test_nothing_to_send_means_no_flush_hook_call(tracker):
    tracker = tracker(flush_interval="0.01")
    provider = Buffered()
    tracker.register_provider(provider)
    tracker.track("")  # dropped at the door
    assert not tracker.flush(10)
    assert provider.batches == []


@pytest.mark.parametrize(
    "error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), RecursionError(), MemoryError()]
)
def test_a_hook_that_raises_costs_its_own_record_and_nobody_elses(tracker, caplog, error):
    tracker = tracker()
    good = Buffered()

    class Bad:
        name = "bad"

        def __init__(self):
            self.seen = []

        def track(self, event):
            if event.name == "2":
                raise error
            self.seen.append(event.name)

    bad = Bad()
    tracker.register_provider(bad)
    tracker.register_provider(good)
    for number in range(4):
        tracker.track(str(number))
    assert not tracker.flush(10)
    stats = tracker.stats().providers
    assert bad.seen == ["0", "1", "3"]
    assert (stats["bad"].delivered, stats["bad"].dropped) == (3, {"provider-error": 1})
    assert stats["buffered"].delivered == 4
    assert type(error).__name__ in stats["bad"].last_error


def test_a_flush_that_raises_drops_its_batch_and_counts_it(tracker):
    tracker = tracker()

    class Bad(Buffered):
        name = "bad"

        def flush(self):
            raise ValueError

    tracker.register_provider(Bad())
    tracker.track("a")
    tracker.track("b")
    assert not tracker.flush(10)
    assert tracker.stats().providers["bad"].dropped == {"provider-error": 2}


def test_reject_drops_one_record_under_its_reason(tracker):
    tracker = tracker()

    class Picky:
        name = "picky"

        def track(self, event):
            if event.name == "bad":
                raise Reject("not-wanted")

    tracker.register_provider(Picky())
    tracker.track("bad")
    tracker.track("good")
    result = tracker.flush(10)
    assert (result.delivered, result.dropped) == (1, {"not-wanted": 1})


@pytest.mark.parametrize("error", [RetryLater(after=0.01), ConnectionRefusedError(), TimeoutError()])
def test_what_may_pass_hands_the_same_records_over_again_in_order(tracker, error):
    tracker = tracker()

    class Flaky:
        name = "flaky"

        def __init__(self):
            self.failures, self.seen = 2, []

        def track(self, event):
            if event.name == "1" and self.failures:
                self.failures -= 1
                raise error
            self.seen.append(event.name)

    flaky = Flaky()
    tracker.register_provider(flaky)
    for number in range(4):
        tracker.track(str(number))
    assert tracker.flush(20)
    assert flaky.seen == ["0", "1", "2", "3"]
    assert tracker.stats().providers["flaky"].retried == 6


def test_retry_later_from_flush_hands_over_only_what_is_left(tracker):
    tracker = tracker()

    class Partly(Buffered):
        name = "partly"

        def __init__(self):
            super().__init__()
            self.records = []

        def track(self, event):
            self.records.append(event)

        def flush(self):
            records, self.records = self.records, []
            self.batches.append([record.name for record in records])
            if len(records) > 1:
                raise RetryLater(after=0.01, records=records[1:], rejected={})

    provider = Partly()
    tracker.register_provider(provider)
    for name in "abc":
        tracker.track(name)
    assert tracker.flush(10)
    assert provider.batches == [["a", "b", "c"], ["b", "c"], ["c"]]
    assert tracker.stats().providers["partly"].delivered == 3


def test_a_hanging_hook_holds_up_neither_the_caller_nor_the_others(tracker):
    tracker = tracker(flush_interval="0.01")
    gate = threading.Event()

    class Hanging:
        name = "hanging"

        def track(self, event):
            gate.wait(60)

    good = Buffered()
    tracker.register_provider(Hanging())
    tracker.register_provider(good)
    for number in range(2000):
        tracker.track(str(number))
    until(lambda: sum(map(len, good.batches)) == 2000)
    start = time.monotonic()
    result = tracker.flush(0.2)
    assert time.monotonic() - start < 5
    assert set(result.waiting) == {"hanging"}
    assert not result
    gate.set()


def test_accepted_is_delivered_and_dropped_and_waiting_at_every_moment(tracker):
    tracker = tracker(flush_interval="0.01", queue_records="500")

    class Slow:
        name = "slow"

        def track(self, event):
            if event.name == "bad":
                raise ValueError
            time.sleep(0.0005)

    tracker.register_provider(Slow())
    for number in range(3000):
        tracker.track("bad" if number % 7 == 0 else "good")
        if number % 100 == 0 and (slow := tracker.stats().providers.get("slow")):
            assert slow.accepted == slow.delivered + sum(slow.dropped.values()) + slow.waiting
    tracker.flush(20)
    stats = tracker.stats()
    slow = stats.providers["slow"]
    assert slow.waiting == 0
    assert stats.tracked == 3000 == slow.delivered + sum(slow.dropped.values()) + sum(stats.dropped.values())


def test_flush_from_a_hook_returns_at_once_without_waiting_for_itself(tracker):
    tracker = tracker()
    results = []

    class Reentrant:
        name = "reentrant"

        def track(self, event):
            if event.name == "outer":
                tracker.track("inner")
                results.append(tracker.flush(30))

    tracker.register_provider(Reentrant())
    start = time.monotonic()
    tracker.track("outer")
    tracker.flush(10)
    assert time.monotonic() - start < 10
    assert results
    assert tracker.flush(10)
    assert tracker.stats().providers["reentrant"].delivered == 2


def test_a_provider_that_unregisters_itself_in_its_hook_is_gone_and_hurts_nobody(tracker):
    tracker = tracker()
    good = Buffered()

    class Leaving:
        name = "leaving"

        def track(self, event):
            tracker.unregister_provider("leaving")

    tracker.register_provider(Leaving())
    tracker.register_provider(good)
    for name in "abc":
        tracker.track(name)
    tracker.flush(10)
    assert good.batches == [["a", "b", "c"]]
    assert tracker.unregister_provider("leaving") is False
    stats = tracker.stats().providers["leaving"]
    assert stats.accepted == stats.delivered + sum(stats.dropped.values())


def test_an_async_hook_that_never_ends_is_cancelled(tracker, monkeypatch):
    monkeypatch.setattr("agent_tracking.delivery.loop.HOOK_SECONDS", 0.05)
    tracker = tracker()

    class Never:
        name = "never"

        async def track(self, event):
            import asyncio

            await asyncio.Event().wait()

    tracker.register_provider(Never())
    tracker.track("x")
    assert not tracker.flush(10)
    assert tracker.stats().providers["never"].dropped == {"provider-error": 1}


def test_a_thread_that_cannot_be_started_leaves_the_record_queued_for_the_next_look(tracker, monkeypatch):
    tracker = tracker()
    provider = Buffered()
    tracker.register_provider(provider)
    original, failures = threading.Thread.start, [1]

    def start(thread):
        if thread.name == "agent_tracking.buffered" and failures:
            failures.pop()
            raise RuntimeError("can't start new thread")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    tracker.track("x")
    until(lambda: not failures)
    assert tracker.flush(10)
    assert provider.batches == [["x"]]


def test_one_threads_identify_and_track_keep_their_order(tracker):
    tracker = tracker()
    seen = []

    class Ordered:
        name = "ordered"

        def track(self, event):
            seen.append(event.name)

        def identify(self, identity):
            seen.append(identity.user_id)

    tracker.register_provider(Ordered())
    for number in range(100):
        tracker.identify(f"u{number}")
        tracker.track(f"e{number}")
    assert tracker.flush(10)
    assert seen == [f"{kind}{number}" for number in range(100) for kind in "ue"]
