"""Memory and the caller's time stay bounded whatever is tracked and whatever the backends do.

The heavy ones run in processes of their own and compare with a control in the same process.
"""

from __future__ import annotations

import json
import textwrap
import time
from typing import Any

import pytest

from agent_tracking import Tracker
from agent_tracking.logs import Reporter
from agent_tracking.settings import Settings
from agent_tracking.testing import Fault, refused_url

PRELUDE = """
import gc, json, os, statistics, sys, threading, time
import agent_tracking
from agent_tracking import Tracker, flush, register_provider, shutdown, stats, track

PAGE = os.sysconf("SC_PAGE_SIZE")

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE

class Peak(threading.Thread):
    '''Watches how far the memory grows.'''
    def __init__(self):
        super().__init__(daemon=True)
        self.start_bytes = self.most = resident()
        self.start()
    def run(self):
        while True:
            self.most = max(self.most, resident())
            time.sleep(0.005)
    def grown(self):
        return max(self.most, resident()) - self.start_bytes

def each(call, count):
    times = []
    for number in range(count):
        began = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - began)
    return times

def quiet_control():
    '''A tracker whose dispatcher runs, without any provider.'''
    control = Tracker(environ={}, discover=False)
    control.track("warm")
    control.flush(5)
    return control

def say(**values):
    print(json.dumps(values), flush=True)
"""
MIB = 1024 * 1024
ALL_DOWN = {
    "POSTHOG_API_KEY": "phc_k",
    "MIXPANEL_TOKEN": "t",
    "AMPLITUDE_API_KEY": "k",
    "AGENT_TRACKING_PROVIDERS": "*",
    "AGENT_TRACKING_SHUTDOWN_TIMEOUT": "0.5",
}


def down(url: str) -> dict[str, str]:
    """Return variables that point all four providers at ``url``."""
    hosts = ("POSTHOG_HOST", "MIXPANEL_HOST", "AMPLITUDE_HOST", "TRACKING_WEBHOOK_URL")
    return {**ALL_DOWN, **dict.fromkeys(hosts, url)}


def measured(apps: Any, body: str, environ: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a script and return the numbers that it prints."""
    finished = apps.run(PRELUDE + textwrap.dedent(body), environ=environ or {})
    assert finished.status == 0, finished.err
    assert "Traceback" not in finished.err
    said: dict[str, Any] = json.loads(finished.out.splitlines()[-1])
    return said


def test_500000_events_with_all_four_backends_down_stay_under_150_mb_and_calls_stay_as_fast(
    apps: Any,
) -> None:
    said = measured(
        apps,
        """
        control = quiet_control()
        agent_tracking.providers()
        track("warm")
        flush(1)
        peak = Peak()
        properties = {"total": 9.5, "currency": "CHF", "path": "/checkout/step/2", "ok": True}
        mine, fair = [], []
        for block in range(50):
            times = each(lambda n: track("order paid", properties, user_id=f"u-{n}"), 10_000)
            fair.append(statistics.median(each(lambda n: control.track("order paid", properties, user_id="u"), 500)))
            mine.append(statistics.median(times))
        flush(1)
        numbers = stats()
        say(grown=peak.grown(), early=statistics.median(mine[:10]), late=statistics.median(mine[-10:]),
            fair=statistics.median(fair), tracked=numbers.tracked, waiting=[p.waiting for p in numbers.providers.values()],
            sums=[p.accepted - p.delivered - sum(p.dropped.values()) - p.waiting for p in numbers.providers.values()])
        """,
        down(refused_url()),
    )
    assert said["tracked"] == 500_001
    assert len(said["waiting"]) == 4
    assert all(50_000 < waiting <= 100_600 for waiting in said["waiting"]), said["waiting"]
    assert said["sums"] == [0] * 4
    assert said["grown"] < 150 * MIB
    assert said["late"] < 3 * said["early"] + 5e-6
    assert said["late"] < 6 * said["fair"] + 5e-6


@pytest.mark.parametrize("paused", ["lanes", "dispatcher"])
def test_100000_large_events_that_nobody_takes_stay_within_the_bounds_in_bytes(
    apps: Any, paused: str
) -> None:
    said = measured(
        apps,
        f"""
        gate = threading.Event()
        class Stalled:
            def __init__(self, name):
                self.name = name
            def track(self, event):
                gate.wait()

        def stall(record):
            gate.wait()
            return record

        tracker = Tracker(environ={{}}, discover=False, processors=(stall,) if {paused!r} == "dispatcher" else ())
        for number in range(4):
            tracker.register_provider(Stalled(f"stalled-{{number}}"))
        tracker.track("warm")
        tracker.flush(0.2)
        peak = Peak()
        properties = {{"text": "x" * 20_000}}
        for number in range(100_000):
            tracker.track("large", properties)
        tracker.flush(0.5)
        numbers = tracker.stats()
        dropped = sum(numbers.dropped.values()) + max(sum(p.dropped.values()) for p in numbers.providers.values())
        say(grown=peak.grown(), tracked=numbers.tracked, dropped=dropped)
        os._exit(0)
        """,
    )
    assert said["tracked"] == 100_001
    assert said["dropped"] > 80_000
    # The intake's bound, one copy of the lanes' records, and what each of them holds in its hands.
    assert said["grown"] < 1.2 * (64 + 64 + 4 * 5) * MIB


def test_100000_waiting_records_cost_the_garbage_collector_little(apps: Any) -> None:
    said = measured(
        apps,
        """
        gate = threading.Event()
        class Stalled:
            name = "stalled"
            def track(self, event):
                gate.wait()

        def collect():
            times = []
            for _ in range(9):
                began = time.perf_counter()
                gc.collect()
                times.append(time.perf_counter() - began)
            return min(times)

        tracker = Tracker(environ={}, discover=False)
        tracker.register_provider(Stalled())
        tracker.track("warm")
        tracker.flush(0.2)
        make = lambda number: {"total": number, "items": [{"sku": "a", "n": 1}, {"sku": "b", "n": 2}], "user": {"id": number}}
        empty = collect()
        trees = [make(number) for number in range(100_000)]
        control = collect() - empty
        trees.clear()
        empty = collect()
        for number in range(100_000):
            tracker.track("event", make(number), user_id="u")
        tracker.flush(1)
        waiting = tracker.stats().providers["stalled"].waiting
        say(control=control, grown=collect() - empty, waiting=waiting)
        os._exit(0)
        """,
    )
    assert said["waiting"] > 99_000
    assert said["grown"] < said["control"] / 2


def test_a_million_names_leave_the_counters_and_the_log_limiter_small(apps: Any) -> None:
    said = measured(
        apps,
        """
        from agent_tracking import Reject
        class Picky:
            name = "picky"
            def track(self, event):
                if event.name[-1] == "0":
                    raise Reject(event.name)
        tracker = Tracker(environ={"AGENT_TRACKING_QUEUE_RECORDS": "20000"}, discover=False)
        tracker.register_provider(Picky())
        tracker.track("warm")
        tracker.flush(5)
        peak = Peak()
        for number in range(1_000_000):
            tracker.track(f"event {number}")
        tracker.track("", {"a": 1})
        tracker.flush(10)
        numbers = tracker.stats()
        report = tracker.dispatcher().report
        say(grown=peak.grown(), reasons=len(numbers.providers["picky"].dropped), own=list(numbers.dropped),
            limiter=len(report._next) + len(report._held), tracked=numbers.tracked, text=len(repr(numbers)))
        tracker.shutdown(1)
        """,
    )
    assert said["tracked"] == 1_000_002
    assert said["reasons"] <= 52
    assert set(said["own"]) <= {"queue-full", "bad-name"}
    assert said["limiter"] <= 200
    assert said["text"] < 10_000
    assert said["grown"] < 60 * MIB


def test_calls_from_eight_threads_are_as_short_beside_a_provider_that_never_returns(apps: Any) -> None:
    said = measured(
        apps,
        """
        class Hanging:
            name = "hanging"
            def track(self, event):
                pass
            def flush(self):
                threading.Event().wait()

        def p99(tracker):
            found = []
            def work():
                found.extend(each(lambda number: tracker.track("event", {"n": number}), 1_250))
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            return sorted(found)[int(len(found) * 0.99)]

        hung = Tracker(environ={"AGENT_TRACKING_FLUSH_AT": "1"}, discover=False)
        hung.register_provider(Hanging())
        hung.track("warm")
        hung.flush(0.3)
        control = quiet_control()
        mine, fair = [], []
        for _ in range(3):
            mine.append(p99(hung))
            fair.append(p99(control))
        say(mine=min(mine), fair=min(fair), busy=hung.stats().providers["hanging"].busy)
        os._exit(0)
        """,
    )
    assert said["busy"] > 0.2
    assert said["mine"] < 5 * said["fair"] + 0.001


def test_a_backend_that_takes_connections_and_never_answers_costs_the_caller_nothing(
    apps: Any, silent_port: int
) -> None:
    said = measured(
        apps,
        """
        control = quiet_control()
        track("warm")
        flush(0.3)
        mine, fair = [], []
        for _ in range(300):
            mine += each(lambda n: track("event", {"n": n}), 10)
            fair += each(lambda n: control.track("event", {"n": n}), 10)
            time.sleep(0.002)
        say(mine=statistics.median(mine), fair=statistics.median(fair),
            late=sorted(mine)[-30], late_fair=sorted(fair)[-30])
        """,
        down(f"http://127.0.0.1:{silent_port}"),
    )
    assert said["mine"] < 3 * said["fair"] + 5e-6
    assert said["late"] < 10 * said["late_fair"] + 0.001


def test_a_call_on_a_full_queue_costs_no_more_than_on_an_empty_one_and_nothing_can_be_told_to_block(
    apps: Any,
) -> None:
    said = measured(
        apps,
        """
        gate = threading.Event()
        def stall(record):
            gate.wait()
        tracker = Tracker(environ={"AGENT_TRACKING_QUEUE_RECORDS": "5000"}, discover=False, processors=(stall,))
        tracker.providers()  # from now on its settings hold
        tracker.track("warm")
        tracker.flush(0.2)
        empty = statistics.median(each(lambda n: tracker.track("event", {"n": n}), 4_000))
        each(lambda n: tracker.track("event", {"n": n}), 2_000)
        full = statistics.median(each(lambda n: tracker.track("event", {"n": n}), 20_000))
        say(empty=empty, full=full, waiting=len(tracker.entries))
        os._exit(0)
        """,
    )
    assert said["waiting"] == 5_000
    assert said["full"] < 3 * said["empty"] + 3e-6
    assert not [name for name in Settings.__struct_fields__ if "block" in name or "wait" in name]


def test_hundreds_of_trackers_made_and_shut_down_leave_no_thread_no_hook_and_no_memory(apps: Any) -> None:
    said = measured(
        apps,
        """
        import atexit
        class Quiet:
            name = "quiet"
            def track(self, event):
                pass
        def once():
            tracker = Tracker(environ={}, discover=False)
            tracker.register_provider(Quiet())
            tracker.track("x")
            assert tracker.shutdown(5)
        for _ in range(50):
            once()
        gc.collect()
        hooks, before = atexit._ncallbacks(), resident()
        for _ in range(300):
            once()
        deadline = time.monotonic() + 10
        while threading.active_count() > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        gc.collect()
        say(threads=threading.active_count(), hooks=atexit._ncallbacks() - hooks, grown=resident() - before)
        """,
    )
    assert said["threads"] == 1
    assert said["hooks"] == 0
    assert said["grown"] < 10 * MIB


def test_without_threads_records_wait_and_go_at_the_next_call_that_gets_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from agent_tracking import background as module

    class Recorder:
        name = "recorder"

        def __init__(self) -> None:
            self.seen: list[int] = []

        def track(self, event: Any) -> None:
            self.seen.append(event.properties["n"])

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    tracker, recorder = Tracker(environ={}, discover=False), Recorder()
    tracker.register_provider(recorder)
    with monkeypatch.context() as patch:
        patch.setattr(module._thread, "start_new_thread", refuse)
        for number in range(10):
            tracker.track("event", {"n": number})
        assert len(tracker.entries) == 10
    tracker.due = 0.0
    tracker.track("event", {"n": 10})
    assert tracker.flush(10)
    assert recorder.seen == list(range(11))
    tracker.shutdown(1)


def test_a_backlog_goes_in_full_batches_without_waiting_for_a_timer(apps: Any, sink: Any) -> None:
    sink.fail("webhook", Fault.delay(0.05, times=None))
    said = measured(
        apps,
        """
        began = time.monotonic()
        for number in range(10_000):
            track("event", {"n": number})
        flush(25)
        say(seconds=time.monotonic() - began, dropped=stats().providers["webhook"].dropped)
        """,
    )
    assert said["dropped"] == {}
    assert sink.totals("webhook").counted == 10_000
    assert sink.totals("webhook").requests <= 10_000 // 100 + 5
    assert said["seconds"] < 15


class Lines:
    """Counts log lines by logger."""

    def __init__(self, reporter: Reporter) -> None:
        self.found: list[tuple[str, str, int]] = []
        reporter._write = lambda provider, text, total: self.found.append((provider, text, total))  # type: ignore[method-assign]


def test_an_hour_of_outage_is_one_line_a_minute_for_each_provider_and_kind_with_every_record_counted() -> (
    None
):
    now = 0.0
    reporter = Reporter(lambda _on: None, clock=lambda: now)
    lines = Lines(reporter)
    for second in range(3600):
        now = float(second)
        for provider in ("posthog", "mixpanel"):
            for kind in ("queue-full", "retry"):
                for _ in range(20):
                    reporter.warn(provider, kind, kind, 5)
    now = 3660.0
    for provider in ("posthog", "mixpanel"):
        for kind in ("queue-full", "retry"):
            reporter.warn(provider, kind, kind, 0)
    for provider in ("posthog", "mixpanel"):
        for kind in ("queue-full", "retry"):
            totals = [total for owner, text, total in lines.found if (owner, text) == (provider, kind)]
            assert len(totals) <= 61
            assert totals[0] == 5, "the first one is told at once"
            assert sum(totals) == 3600 * 20 * 5


def test_kinds_that_are_made_up_share_one_line() -> None:
    reporter = Reporter(lambda _on: None, clock=lambda: 0.0)
    lines = Lines(reporter)
    for number in range(100_000):
        reporter.warn("inventive", f"kind {number}", "text", 1)
    assert len(lines.found) <= 51
    assert len(reporter._next) + len(reporter._held) <= 102


def test_first_drop_of_a_kind_is_a_warning_without_any_setup_that_says_who_why_how_many_and_what_helps(
    apps: Any,
) -> None:
    finished = apps.run(
        """
        from agent_tracking import flush, register_provider, track
        class Slow:
            name = "slow"
            def track(self, event):
                raise ValueError
        register_provider(Slow())
        for n in range(2000):
            track("event", {"n": n})
        flush(5)
        track("")
        flush(5)
        """,
        environ={"AGENT_TRACKING_QUEUE_RECORDS": "100"},
    )
    assert finished.status == 0
    assert "AGENT_TRACKING_QUEUE_RECORDS" in finished.err
    assert "queue is full" in finished.err or "intake is full" in finished.err
    assert "the provider raised ValueError" in finished.err
    assert "bad-name" in finished.err
    assert "(records: " in finished.err
    assert len(finished.err.splitlines()) < 12


def test_the_fast_path_bounds_its_time_for_one_text_that_is_passed_many_times() -> None:
    tracker = Tracker(environ={}, discover=False)
    tracker.due = float("inf")
    text = "x" * 5_000_000
    times = {}
    for name, properties in (
        ("once", {"a": text}),
        ("often", {"a": [text] * 1000}),
        ("flat", {str(n): text for n in range(1000)}),
    ):
        began = time.perf_counter()
        tracker.track("event", properties)
        times[name] = time.perf_counter() - began
    assert times["often"] < 20 * times["once"] + 0.05
    assert times["flat"] < 20 * times["once"] + 0.05
