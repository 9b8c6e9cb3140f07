"""A provider may do what it likes: its neighbours and the caller notice nothing, its counters tell."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent_tracking import (
    Delivered,
    Drop,
    Endpoint,
    HTTPProvider,
    Payload,
    ProviderSpecError,
    Reject,
    Request,
    Response,
    Retry,
    RetryLater,
    Split,
    Stop,
    Tracker,
    TrackingEvent,
    hookspecs,
)
from agent_tracking.delivery import lane as lanes
from agent_tracking.delivery import loop as loops
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.http_provider import json_array
from agent_tracking.testing import Sink
from agent_tracking_webhook import WebhookProvider

RECORDS = 20


class Good:
    """The neighbour."""

    name = "good"

    def __init__(self) -> None:
        self.seen: list[int] = []

    def track(self, event: TrackingEvent) -> None:
        self.seen.append(event.properties["n"])


class Answering:
    """A sender that answers 200 to everything."""

    def send(self, request: Request) -> Response:
        len(request.body)
        return Response(200, {}, b"{}")

    def enforce(self, now: float) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def beside() -> Iterator[Callable[[object], Tracker]]:
    """Return a function that puts a provider beside a good one and a real one."""
    made = []
    gate = threading.Event()

    def make(hostile: object, **options: Any) -> Tracker:
        tracker = Tracker(environ={}, discover=False, **options)
        tracker.good = Good()  # type: ignore[attr-defined]
        tracker.gate = gate  # type: ignore[attr-defined]
        tracker.register_provider(hostile)
        tracker.register_provider(tracker.good)  # type: ignore[attr-defined]
        made.append(tracker)
        return tracker

    yield make
    gate.set()
    for tracker in made:
        tracker.shutdown(1)


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.002)


def track_all(tracker: Tracker) -> list[float]:
    """Track some events and return how long each call took."""
    times = []
    for number in range(RECORDS):
        began = time.perf_counter()
        tracker.track("event", {"n": number})
        times.append(time.perf_counter() - began)
    return times


def balanced(stats: Any) -> bool:
    return (
        stats.accepted == stats.delivered + sum(stats.dropped.values()) + stats.waiting
        and stats.delivered >= 0
    )


class Treacherous(OSError):
    """An exception that raises when it is looked at."""

    @property
    def after(self) -> float:
        raise SystemExit

    def __str__(self) -> str:
        raise SystemExit


RAISED = [ValueError("secret"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), RecursionError(),
          BaseException("x"), StopIteration(), asyncio.CancelledError(), Treacherous()]  # fmt: skip


@pytest.mark.parametrize("hook", ["track", "flush", "async track"])
@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_hook_raises_costs_its_own_records_only_and_is_counted_and_said(
    beside: Callable[..., Tracker], caplog: pytest.LogCaptureFixture, error: BaseException, hook: str
) -> None:
    class Hostile:
        name = "hostile"

        def track(self, event: TrackingEvent) -> None:
            if hook == "track":
                raise error

    class Flushing(Hostile):
        def flush(self) -> None:
            raise error

    class Async(Hostile):
        async def track(self, event: TrackingEvent) -> None:
            raise error

    tracker = beside({"track": Hostile, "flush": Flushing, "async track": Async}[hook]())
    track_all(tracker)
    result = tracker.flush(10)
    stats = tracker.stats().providers
    assert tracker.good.seen == list(range(RECORDS))  # type: ignore[attr-defined]
    assert stats["hostile"].dropped == {"provider-error": RECORDS}
    assert stats["hostile"].waiting == 0
    assert stats["hostile"].last_error is not None
    assert result.dropped == {"provider-error": RECORDS}
    lines = [record for record in caplog.records if record.name == "agent_tracking.hostile"]
    assert 1 <= len(lines) <= 3
    assert "secret" not in caplog.text


NONSENSE: list[Callable[[list[Any]], BaseException]] = [
    lambda _: Reject("x", counts={"x": 10_000}),
    lambda _: Reject("x", counts={"x": -5}),
    lambda _: Reject("x", counts={"x": "many"}),  # type: ignore[dict-item]
    lambda _: Reject("x", counts={None: 1, 5: 2, "a\r\nb": 1}),  # type: ignore[dict-item]
    lambda _: Reject(counts={f"reason {number}": 1 for number in range(RECORDS)}),
    lambda _: RetryLater(records=[1, "two", None]),  # type: ignore[list-item]
    lambda _: RetryLater(records=[TrackingEvent(name="x", message_id="foreign", time=0.0)]),
    lambda held: RetryLater(records=held * 3, after=0),
    lambda _: RetryLater(records=5),  # type: ignore[arg-type]
    lambda _: RetryLater(after="soon"),  # type: ignore[arg-type]
    lambda _: RetryLater(after=math.nan),
    lambda _: RetryLater(after=-math.inf),
    lambda _: RetryLater(rejected={"x": 10_000}),
]


@pytest.mark.parametrize("place", range(len(NONSENSE)))
def test_a_flush_that_says_nonsense_settles_its_records_and_the_counters_add_up(
    beside: Callable[..., Tracker], place: int
) -> None:
    class Hostile:
        name = "hostile"

        def __init__(self) -> None:
            self.held: list[Any] = []
            self.turn = 0

        def track(self, event: TrackingEvent) -> None:
            self.held.append(event)

        def flush(self) -> None:
            self.turn += 1
            held, self.held = self.held, []
            if self.turn == 1:
                raise NONSENSE[place](held)

    tracker = beside(Hostile())
    track_all(tracker)
    result = tracker.flush(10)
    stats = tracker.stats().providers["hostile"]
    assert result.waiting == {}
    assert stats.waiting == 0
    assert balanced(stats)
    assert all(type(reason) is str and "\n" not in reason for reason in stats.dropped)
    tracker.track("event", {"n": -1})
    assert tracker.flush(10), "the lane goes on"
    assert tracker.good.seen == [*range(RECORDS), -1]  # type: ignore[attr-defined]


def http(**methods: Any) -> HTTPProvider:
    """Return an HTTP provider in which some methods are replaced."""
    plain = {
        "name": "hostile",
        "endpoints": (Endpoint("events", records=5),),
        "encode": lambda _self, record: Payload(record.data_json, "events", record.message_id),
        "request": lambda _self, _endpoint, batch: Request("http://x/", body=json_array(batch)),
        "judge": lambda _self, _response, _batch: Delivered(),
    }
    return type("Hostile", (HTTPProvider,), {**plain, **methods})({})


def exits(*_: object) -> Any:
    raise SystemExit(3)


HTTP_NONSENSE: dict[str, Callable[[], HTTPProvider]] = {
    "encode gives text": lambda: http(encode=lambda _s, _r: "text"),
    "encode gives a number": lambda: http(encode=lambda _s, _r: 5),
    "encode names no endpoint": lambda: http(encode=lambda _s, _r: Payload(b"{}", "nowhere")),
    "encode exits": lambda: http(encode=exits),
    "request gives nothing": lambda: http(request=lambda *_: None),
    "request exits": lambda: http(request=exits),
    "judge gives nothing": lambda: http(judge=lambda *_: None),
    "judge gives a word": lambda: http(judge=lambda *_: "ok"),
    "judge names others": lambda: http(judge=lambda *_: Drop([99, -1, 2**70], "x", Drop())),
    "judge names words": lambda: http(judge=lambda *_: Drop(["a"])),  # type: ignore[list-item]
    "judge gives no reason": lambda: http(judge=lambda *_: Drop(reason=None)),  # type: ignore[arg-type]
    "judge exits": lambda: http(judge=exits),
    "judge splits for ever": lambda: http(judge=lambda *_: Split()),
    "judge retries nobody": lambda: http(judge=lambda *_: Retry(indexes=[])),
}


@pytest.mark.parametrize("name", HTTP_NONSENSE)
def test_an_http_provider_that_answers_nonsense_settles_its_records(
    beside: Callable[..., Tracker], name: str
) -> None:
    tracker = beside(HTTP_NONSENSE[name](), sender=Answering)
    track_all(tracker)
    assert tracker.flush(10).waiting == {}
    stats = tracker.stats().providers["hostile"]
    assert (stats.accepted, stats.waiting) == (RECORDS, 0)
    assert balanced(stats)
    assert name == "judge retries nobody" or stats.delivered == 0
    assert tracker.good.seen == list(range(RECORDS))  # type: ignore[attr-defined]


@pytest.mark.parametrize("after", [math.nan, math.inf, -1.0, 1e300, "soon"], ids=str)
def test_a_pause_that_is_none_neither_spins_nor_parks_for_ever(
    beside: Callable[..., Tracker], after: Any
) -> None:
    sent = []
    policy = RetryPolicy(first=0.02, longest=0.05, tries=5, window=0.1)
    tracker = beside(
        http(judge=lambda *_: sent.append(1) or Retry(after=after, at_least=after)),
        sender=Answering,
        retry=policy,
    )
    tracker.track("event", {"n": 0})
    assert tracker.flush(10).dropped == {"gave-up": 1}
    assert len(sent) <= 12


def test_one_record_that_cannot_be_encoded_costs_itself_only(beside: Callable[..., Tracker]) -> None:
    def encode(_self: object, record: Any) -> Any:
        number = record.properties["n"]
        return (
            [Payload(b"{}"), (part for part in "ab"), 7][number % 3]
            if number % 3
            else Payload(b"{}", "events")
        )

    tracker = beside(http(encode=encode), sender=Answering)
    track_all(tracker)
    tracker.flush(10)
    stats = tracker.stats().providers["hostile"]
    assert stats.delivered == 7
    assert stats.dropped == {"provider-error": 13}


def test_a_provider_that_never_returns_delays_nobody_and_is_seen_to_hang(
    beside: Callable[..., Tracker], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "STALLED_SECONDS", 0.3)

    class Sleeping:
        name = "sleeping"

        def track(self, event: TrackingEvent) -> None:
            tracker.gate.wait(60)  # type: ignore[attr-defined]

    tracker = beside(Sleeping())
    fair = sorted(track_all(Tracker(environ={}, discover=False)))[-1]
    assert sorted(track_all(tracker))[-1] < 0.1 + 10 * fair
    began = time.monotonic()
    result = tracker.flush(0.5)
    assert time.monotonic() - began < 3
    assert result.waiting == {"sleeping": RECORDS}
    assert tracker.good.seen == list(range(RECORDS))  # type: ignore[attr-defined]
    first = tracker.stats().providers["sleeping"]
    assert first.busy is not None
    assert first.busy > 0.2
    assert first.waiting == RECORDS
    assert tracker.stats().providers["good"].busy is None
    until(lambda: (tracker.stats().providers["sleeping"].busy or 0) > first.busy + 0.2)
    until(
        lambda: any(
            r.name == "agent_tracking.sleeping" and "has been running" in r.message for r in caplog.records
        )
    )
    tracker.gate.set()  # type: ignore[attr-defined]
    assert tracker.flush(10)
    assert tracker.stats().providers["sleeping"].busy is None


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_async_hook_that_never_returns_is_cancelled_counted_and_the_lane_goes_on(
    beside: Callable[..., Tracker],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    stubborn: bool,
) -> None:
    monkeypatch.setattr(loops, "HOOK_SECONDS", 0.05)
    monkeypatch.setattr(loops, "_CANCEL_SECONDS", 0.05)

    class Endless:
        name = "endless"

        async def track(self, event: TrackingEvent) -> None:
            number = event.properties["n"]
            while number < 3:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    if not stubborn or number == 2:
                        raise

    tracker = beside(Endless())
    track_all(tracker)
    began = time.monotonic()
    assert tracker.flush(10).dropped == {"provider-error": 3}
    assert time.monotonic() - began < 5
    assert tracker.stats().providers["endless"].delivered == RECORDS - 3
    assert tracker.good.seen == list(range(RECORDS))  # type: ignore[attr-defined]
    tracker.shutdown(1)
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_an_async_hook_that_blocks_holds_up_its_own_lane_only(beside: Callable[..., Tracker]) -> None:
    class Blocking:
        name = "blocking"

        async def track(self, event: TrackingEvent) -> None:
            tracker.gate.wait(30)  # type: ignore[attr-defined]

    tracker = beside(Blocking())
    track_all(tracker)
    assert tracker.flush(0.3).waiting == {"blocking": RECORDS}
    assert tracker.good.seen == list(range(RECORDS))  # type: ignore[attr-defined]
    assert tracker.stats().providers["blocking"].busy is not None


def test_what_a_hook_returns_means_nothing(beside: Callable[..., Tracker]) -> None:
    class Talking:
        name = "talking"
        answers: Any = iter([5, "no", object(), False, Exception, [1], {"status": 500}] * 10)

        def track(self, event: TrackingEvent) -> Any:
            return next(self.answers)

    tracker = beside(Talking())
    track_all(tracker)
    assert tracker.flush(10)
    assert tracker.stats().providers["talking"].delivered == RECORDS


def test_a_hook_that_is_an_async_generator_is_refused_rather_than_never_run(
    beside: Callable[..., Tracker],
) -> None:
    class Generating:
        name = "generating"

        async def track(self, event: TrackingEvent) -> Any:
            yield event

    with pytest.raises(ProviderSpecError, match="generator"):
        beside(Generating())


def test_a_provider_that_changes_what_it_was_given_changes_nothing_for_others(
    beside: Callable[..., Tracker],
) -> None:
    class Vandal:
        name = "aaa-first"

        def track(self, event: TrackingEvent) -> None:
            event.properties.clear()
            event.properties["n"] = "vandal"
            event.name = "vandal"  # type: ignore[misc]

    tracker = beside(Vandal())
    track_all(tracker)
    assert tracker.flush(10).dropped == {"provider-error": RECORDS}
    assert tracker.good.seen == list(range(RECORDS))  # type: ignore[attr-defined]


def test_a_provider_that_starts_threads_may(beside: Callable[..., Tracker]) -> None:
    class Threading:
        name = "threading"

        def track(self, event: TrackingEvent) -> None:
            thread = threading.Thread(target=tracker.track, args=("from a thread", {"n": -1}))
            thread.start() if event.properties["n"] >= 0 else None

    tracker = beside(Threading())
    track_all(tracker)
    tracker.flush(10)
    until(lambda: tracker.flush(10) is not None and len(tracker.good.seen) == 2 * RECORDS)  # type: ignore[attr-defined]


def test_registering_twice_is_one_provider_and_a_second_one_of_the_name_is_refused(
    beside: Callable[..., Tracker],
) -> None:
    @dataclasses.dataclass
    class Unhashable:
        name: str = "twice"

        def track(self, event: TrackingEvent) -> None:
            pass

    provider = Unhashable()
    tracker = beside(provider)
    assert tracker.register_provider(provider) == tracker.register_provider(provider)
    with pytest.raises(ProviderSpecError, match="twice"):
        tracker.register_provider(Unhashable())
    track_all(tracker)
    assert tracker.flush(10)
    assert tracker.stats().providers["twice"].delivered == RECORDS


def test_a_provider_that_unregisters_itself_inside_its_hook_is_gone_and_the_rest_is_counted(
    beside: Callable[..., Tracker],
) -> None:
    class Leaving:
        name = "leaving"

        def track(self, event: TrackingEvent) -> None:
            if event.properties["n"] == 5:
                assert tracker.unregister_provider("leaving")

    tracker = beside(Leaving())
    track_all(tracker)
    tracker.flush(10)
    stats = tracker.stats().providers["leaving"]
    assert balanced(stats)
    assert stats.dropped["unregistered"] >= 1
    assert "leaving" not in [record.name for record in tracker.providers()]
    assert tracker.good.seen == list(range(RECORDS))  # type: ignore[attr-defined]


def test_a_stop_verdict_fails_the_provider_with_its_reason_and_drops_what_waits(
    beside: Callable[..., Tracker],
) -> None:
    tracker = beside(http(judge=lambda *_: Stop("the key is wrong")), sender=Answering)
    track_all(tracker)
    tracker.flush(10)
    assert tracker.stats().providers["hostile"].dropped == {"stopped": RECORDS}
    (record,) = [record for record in tracker.providers() if record.name == "hostile"]
    assert "the key is wrong" in record.reason


def test_a_name_with_line_breaks_forges_no_log_line(
    beside: Callable[..., Tracker], caplog: pytest.LogCaptureFixture
) -> None:
    class Forging:
        name = "a\nCRITICAL all is lost" + "x" * 1000

        def track(self, event: TrackingEvent) -> None:
            raise type("E\nCRITICAL again", (Exception,), {})

    tracker = beside(Forging())
    track_all(tracker)
    tracker.flush(10)
    lines = [record for record in caplog.records if record.name.startswith("agent_tracking")]
    assert lines
    assert all("\n" not in record.name + record.getMessage() and len(record.name) < 200 for record in lines)


def test_exceptions_made_for_the_occasion_fill_neither_the_log_nor_the_memory(
    beside: Callable[..., Tracker], caplog: pytest.LogCaptureFixture
) -> None:
    class Inventive:
        name = "inventive"

        def track(self, event: TrackingEvent) -> None:
            number = event.properties["n"]
            if number % 2:
                raise Reject(f"reason {number}")
            raise type(f"Error{number}", (Exception,), {})

    tracker = beside(Inventive())
    for number in range(2000):
        tracker.track("event", {"n": number})
    tracker.flush(10)
    stats = tracker.stats().providers["inventive"]
    assert len(stats.dropped) <= 52
    assert sum(stats.dropped.values()) == 2000
    assert len([record for record in caplog.records if record.name == "agent_tracking.inventive"]) <= 51


def test_an_observer_that_raises_or_exits_costs_no_delivery(beside: Callable[..., Tracker]) -> None:
    def observer(_exchange: object) -> None:
        raise SystemExit

    with Sink() as sink:
        tracker = beside(WebhookProvider(sink.environ("webhook")), observers=(observer,))
        track_all(tracker)
        assert tracker.flush(10)
        assert sink.totals("webhook").counted == RECORDS


def test_providers_that_close_the_output_cost_their_neighbours_and_the_exit_nothing(
    apps: Any, sink: Sink
) -> None:
    finished = apps.run(
        """
        import sys
        from agent_tracking import flush, register_provider, track

        class Closing:
            name = "closing"
            def track(self, event):
                sys.stdout.close()
                sys.stderr.close()
                raise ValueError("nobody can be told")

        register_provider(Closing())
        for n in range(50):
            track("event", {"n": n})
            if n == 20:
                flush(5)
        """
    )
    assert (finished.status, finished.out) == (0, "")
    assert apps.arrived() == list(range(50))


def test_a_provider_that_exits_the_process_or_hangs_at_exit_is_bounded_or_said_to_be_unbounded(
    apps: Any, sink: Sink
) -> None:
    finished = apps.run(
        """
        import json, sys, threading
        from agent_tracking import register_provider, track

        class Exiting:
            name = "exiting"
            def track(self, event):
                sys.exit(9)

        class Hanging:
            name = "hanging"
            def track(self, event):
                threading.Event().wait()

        register_provider(Exiting())
        register_provider(Hanging())
        for n in range(50):
            track("event", {"n": n})
        print(json.dumps("end"))
        """,
        environ={"AGENT_TRACKING_SHUTDOWN_TIMEOUT": "1"},
    )
    assert finished.status == 0
    assert json.loads(finished.out) == "end"
    assert finished.seconds < 8
    assert "hanging: 50" in finished.err
    assert apps.arrived() == list(range(50))
    assert "os._exit" in (hookspecs.__doc__ or ""), "what no thread can contain is documented"
    assert logging.getLogger("agent_tracking").handlers == []
