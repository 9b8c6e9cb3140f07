"""``track()`` from where nobody expects it: log handlers, finalizers, signals, hooks, traces, forks.

Each in a process of its own with a deadline, since a deadlock would hold up everything else.
"""

from __future__ import annotations

import json
import textwrap

import pytest

from agent_tracking.testing import Fault, refused_url

ALL = "posthog,mixpanel,amplitude,webhook"
PRELUDE = """
import gc, json, logging, os, signal, sys, threading, time
import agent_tracking
from agent_tracking import flush, identify, register_provider, stats, track, unregister_provider

def say(**more):
    numbers = stats()
    print(json.dumps({"tracked": numbers.tracked, "dropped": numbers.dropped,
                      "delivered": {name: p.delivered for name, p in numbers.providers.items()}, **more}))
"""
HANDLER = """
class Handler(logging.Handler):
    def emit(self, record):
        track("log line", {"text": record.getMessage(), "logger": record.name})

logging.basicConfig(level=logging.DEBUG, handlers=[Handler()])
"""


def run(apps, body, **environ):
    """Run a script to its end and return what it says of itself."""
    finished = apps.run(PRELUDE + textwrap.dedent(body), environ=environ)
    assert finished.status == 0, finished.err
    assert "Traceback" not in finished.err
    return json.loads(finished.out.splitlines()[-1])


def tracking_logs(apps, sink, *, after="", between="", **environ):
    """Let an application that tracks its whole log track 100 events, in four flushes."""
    body = HANDLER + textwrap.dedent(
        f"""
        for number in range(100):
            track("event", {{"number": number}})
            if number % 25 == 24:
                flush(0.5)
                {between or "pass"}
        {after or "pass"}
        say()
        """
    )
    return run(
        apps,
        body,
        AGENT_TRACKING_PROVIDERS=ALL,
        AGENT_TRACKING_SHUTDOWN_TIMEOUT="1",
        **{**sink.environ(), **environ},
    )


def test_an_app_that_tracks_its_whole_log_causes_no_loop_while_the_backends_are_up(apps, sink):
    said = tracking_logs(apps, sink, AGENT_TRACKING_DEBUG="1")
    assert said["dropped"]["own-traffic"] >= 16, (
        "their own lines at DEBUG came to the handler and were dropped"
    )
    assert said["tracked"] - said["dropped"]["own-traffic"] <= 120
    for provider in ALL.split(","):
        assert 1 <= sink.totals(provider).requests <= 200
        names = [event.get("event", event.get("event_type")) for event in sink.events(provider)]
        assert names.count("event") == 100


@pytest.mark.parametrize(
    "fault",
    [Fault.status(503, times=None), Fault.html(times=None), Fault.reset(times=None)],
    ids=lambda f: f.kind,
)
def test_an_app_that_tracks_its_whole_log_causes_no_loop_while_the_backends_fail(apps, sink, fault):
    for provider in ALL.split(","):
        sink.fail(provider, fault)
    said = tracking_logs(apps, sink)
    assert said["tracked"] - said["dropped"]["own-traffic"] <= 120
    assert all(sink.totals(provider).requests <= 200 for provider in ALL.split(","))


def test_an_app_that_tracks_its_whole_log_causes_no_loop_while_nobody_listens(apps, sink):
    said = tracking_logs(apps, sink, POSTHOG_HOST=refused_url(), TRACKING_WEBHOOK_URL=refused_url())
    assert said["tracked"] - said["dropped"]["own-traffic"] <= 120


def test_an_app_that_tracks_its_whole_log_causes_no_loop_after_shutdown(apps, sink):
    said = tracking_logs(apps, sink, between="agent_tracking.shutdown(1)")
    assert said["dropped"]["after-shutdown"] >= 75
    assert said["tracked"] <= 400
    assert all(sink.totals(provider).requests <= 200 for provider in ALL.split(","))


def test_an_app_that_tracks_its_whole_log_causes_no_loop_while_disabled(apps, sink):
    said = tracking_logs(apps, sink, AGENT_TRACKING_DISABLED="1")
    assert sink.seen == 0
    assert said["tracked"] <= 220


def test_a_log_handler_that_raises_exits_or_flushes_costs_no_record(apps, sink):
    said = run(
        apps,
        """
        class Handler(logging.Handler):
            turn = 0
            def emit(self, record):
                Handler.turn += 1
                flush(5)
                stats()
                raise (SystemExit, RuntimeError, KeyboardInterrupt)[Handler.turn % 3]

        logging.getLogger("agent_tracking").addHandler(Handler())

        class Failing:
            name = "failing"
            def track(self, event):
                raise type(f"Error{event.properties['n'] % 40}", (Exception,), {})

        register_provider(Failing())
        for n in range(200):
            track("event", {"n": n})
            track("")
            if n % 50 == 49:
                flush(10)
        say(lines=Handler.turn)
        """,
    )
    assert said["lines"] >= 10
    assert said["delivered"] == {"failing": 0, "webhook": 200}
    assert said["dropped"] == {"bad-name": 200}
    assert apps.arrived() == sorted(range(200))


def test_finalizers_that_track_flush_and_ask_in_the_middle_of_everything_hang_nothing(apps, sink):
    said = run(
        apps,
        """
        class Cycle:
            def __init__(self, action):
                self.me, self.action = self, action
            def __del__(self):
                self.action()

        made = 0
        def litter():
            global made
            made += 1
            Cycle(lambda: track("finalized", {"n": -1}))
            Cycle(stats)
            Cycle(lambda: flush(0))
            Cycle(agent_tracking.providers)

        class Provider:
            name = "own"
            def track(self, event):
                litter() if event.name == "event" else None
                if event.properties["n"] % 10 == 0:
                    raise ValueError  # the way through the log and the counters
            flush = staticmethod(litter)

        register_provider(Provider())
        gc.set_threshold(3, 2, 2)
        end = time.monotonic() + 3
        for n in range(2000):
            track("event", {"n": n, "list": [n]})
            litter()
            if n % 100 == 0:
                flush(10)
                stats()
            if time.monotonic() > end:
                break
        gc.set_threshold(700, 10, 10)
        gc.collect()
        flush(10)
        flush(10)
        say(count=n + 1, made=made)
        """,
    )
    assert said["made"] > 100
    arrived = apps.arrived()
    assert [number for number in arrived if number >= 0] == list(range(said["count"]))
    assert said["tracked"] >= said["count"] + arrived.count(-1)
    assert arrived.count(-1) >= said["made"] * 0.9


def test_a_signal_every_millisecond_that_tracks_flushes_and_asks_hangs_nothing_and_loses_nothing(apps, sink):
    said = run(
        apps,
        """
        signals = 0
        def handler(*_):
            global signals
            signals += 1
            track("signal", {"n": -1})
            stats()
            if signals % 7 == 0:
                flush(0)

        signal.signal(signal.SIGALRM, handler)
        track("event", {"n": 0})
        flush(10)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        n = 0
        end = time.monotonic() + 3
        while time.monotonic() < end:
            n += 1
            track("event", {"n": n})
            stats()
            if n % 200 == 0:
                flush(5)
        signal.setitimer(signal.ITIMER_REAL, 0)
        flush(20)
        say(count=n + 1, signals=signals)
        """,
    )
    assert said["signals"] > 200
    arrived = apps.arrived()
    assert arrived.count(-1) == said["signals"]
    assert [number for number in arrived if number >= 0] == list(range(said["count"]))


def test_a_hook_that_calls_everything_the_package_has_neither_hangs_nor_loops(apps, sink):
    said = run(
        apps,
        """
        class Other:
            name = "other"
            def track(self, event):
                pass

        class Busy:
            name = "busy"
            calls = 0
            def track(self, event):
                Busy.calls += 1
                track("from the hook", {"n": -1})
                identify("u", {"a": 1})
                flush(30)
                stats()
                agent_tracking.providers()
                if not unregister_provider("other"):
                    register_provider(Other())
            def flush(self):
                flush(30)
                track("from the flush", {"n": -2})

        register_provider(Busy())
        began = time.monotonic()
        for n in range(100):
            track("event", {"n": n})
        flush(10)
        say(seconds=time.monotonic() - began, calls=Busy.calls)
        """,
        AGENT_TRACKING_SHUTDOWN_TIMEOUT="1",
    )
    assert said["seconds"] < 10
    assert said["calls"] < 2_000, "a hook that tracks for each event sustains one event, not a flood"
    numbers = [event["properties"]["n"] for event in sink.events("webhook") if "properties" in event]
    assert sorted(number for number in numbers if number >= 0) == list(range(100))
    assert sink.totals("webhook").requests <= 200


def test_a_hook_that_shuts_the_tracker_down_returns(apps, sink):
    said = run(
        apps,
        """
        done = threading.Event()
        class Ending:
            name = "ending"
            def track(self, event):
                agent_tracking.shutdown(5)
                done.set()

        register_provider(Ending())
        track("event", {"n": 1})
        flush(10)
        print(done.wait(10))
        track("later", {"n": 2})
        say(ended=done.is_set())
        """,
    )
    assert said["ended"]
    assert said["dropped"]["after-shutdown"] == 1


def test_a_processor_that_tracks_for_each_record_holds_up_nothing(apps, sink):
    said = run(
        apps,
        """
        seen = []
        class Recorder:
            name = "recorder"
            def track(self, event):
                seen.append(event.name)

        def echo(record):
            tracker.track("echo")
            tracker.flush(30)
            tracker.stats()
            return record

        tracker = agent_tracking.Tracker(environ={}, discover=False, processors=(echo,))
        tracker.register_provider(Recorder())
        began = time.monotonic()
        for n in range(100):
            tracker.track("event")
        settled = bool(tracker.flush(10))
        tracker.shutdown(1)
        say(seconds=time.monotonic() - began, settled=settled, events=seen.count("event"), all=len(seen))
        """,
    )
    assert said["settled"]
    assert said["events"] == 100
    assert said["seconds"] < 8
    assert said["all"] < 5_000


def test_a_trace_function_that_tracks_every_call_does_not_recurse(apps, sink):
    said = run(
        apps,
        """
        def trace(frame, event, argument):
            track("trace", {"n": 1, "line": frame.f_lineno, "event": event})
            return trace

        def traced(n):
            track("event", {"n": 0})
            stats()
            flush(0)
            return n

        flush(10)
        stats()  # what these import would be traced, too: some 300,000 lines
        sys.settrace(trace)
        for n in range(50):
            traced(n)
        sys.settrace(None)
        flush(10)
        say()
        """,
    )
    arrived = apps.arrived()
    assert said["dropped"] == {}
    assert said["delivered"] == {"webhook": len(arrived)}
    assert arrived.count(0) == 50
    assert arrived.count(1) > 200
    assert said["tracked"] == len(arrived)


def test_fork_hooks_that_track_flush_and_ask_neither_hang_nor_double(apps, sink):
    said = run(
        apps,
        """
        os.register_at_fork(
            before=lambda: (track("before", {"n": 1}), stats(), flush(0)),
            after_in_parent=lambda: (track("parent", {"n": 2}), stats(), flush(0)),
            after_in_child=lambda: (track("child", {"n": 3}), stats(), flush(5)),
        )
        track("event", {"n": 0})
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                flush(10)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        flush(10)
        say()
        """,
    )
    assert apps.arrived() == [0] + [1] * 10 + [2] * 10 + [3] * 10
    assert said["tracked"] == 21
