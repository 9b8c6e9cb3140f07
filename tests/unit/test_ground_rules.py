"""Rules that keep whole kinds of trouble out: looked up in the sources, or shown on one small case."""

import ast
import enum
import logging
import os
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

import pytest

import agent_tracking
from agent_tracking import Endpoint, HTTPProvider, Payload, Request, Response, Tracker, discovery
from agent_tracking.delivery import http
from agent_tracking.delivery.lane import Lane
from agent_tracking.hooks import Hooks
from agent_tracking.logs import Reporter
from agent_tracking.settings import Settings
from agent_tracking.sources.memory import MemorySource

CORE = Path(agent_tracking.__file__).parent
PLUGINS = sorted((CORE.parents[2] / "plugins").glob("*/src"))


class Recorder:
    name = "recorder"

    def __init__(self):
        self.seen = []

    def track(self, event):
        self.seen.append(event)


@pytest.fixture
def recorded():
    tracker = Tracker(environ={}, discover=False)
    tracker.recorder = Recorder()
    tracker.register_provider(tracker.recorder)
    yield tracker
    tracker.shutdown(5)


def test_no_executor_is_used_which_refuses_work_when_the_process_ends():
    assert PLUGINS
    for folder in (CORE, *PLUGINS):
        for path in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import | ast.ImportFrom)
                    else []
                )
                module = getattr(node, "module", None) or ""
                assert not any(name.startswith("concurrent") for name in (*names, module)), path
                assert not (
                    isinstance(node, ast.Attribute) and node.attr in {"run_in_executor", "to_thread"}
                ), path


def test_no_log_handler_is_ever_added_so_that_the_first_warning_shows_without_any_setup():
    Reporter(lambda _on: None).warn("somebody", "kind", "text")
    assert logging.getLogger("agent_tracking").handlers == []
    assert logging.getLogger("agent_tracking.somebody").handlers == []


def test_all_lanes_share_one_tls_context_made_on_a_lane(monkeypatch):
    made = []
    real = http.httpx.create_ssl_context

    def spy():
        made.append(threading.current_thread().name)
        return real()

    monkeypatch.setattr(http.httpx, "create_ssl_context", spy)
    monkeypatch.setattr(http, "_contexts", {})
    tracker = Tracker(environ={}, discover=False)
    for number in range(3):
        members = {
            "name": f"secure-{number}",
            "encode": lambda _self, record: Payload(record.data_json),
            "request": lambda _self, _endpoint, _batch: Request("https://127.0.0.1:9/"),
        }
        tracker.register_provider(type("Secure", (HTTPProvider,), members)({}))
    tracker.track("event")
    tracker.flush(0.5)
    tracker.shutdown(0)
    assert len(made) == 1
    assert made[0].startswith("agent_tracking.secure-")


def test_naive_times_are_utc_whatever_the_time_zone_of_the_machine(recorded, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        recorded.track("event", {"at": datetime(2026, 5, 4, 10)}, timestamp=datetime(2026, 5, 4, 10))
        recorded.track("event", {"at": datetime(2026, 5, 4, 10), "odd": {1}}, timestamp="2026-05-04T10:00:00")
        assert recorded.flush(10)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    for event in recorded.recorder.seen:
        assert event.iso == "2026-05-04T10:00:00.000000Z"
        assert event.properties["at"] == "2026-05-04T10:00:00+00:00"


def test_what_hangs_on_an_enum_is_frozen_too(recorded):
    held = [1, 2]
    kind = enum.Enum("kind", {"MANY": held})
    recorded.track("event", {"kind": kind.MANY, "inside": [{"kind": kind.MANY}]})
    held.append(3)
    assert recorded.flush(10)
    assert recorded.recorder.seen[0].properties == {"kind": [1, 2], "inside": [{"kind": [1, 2]}]}


def test_an_event_carries_what_was_passed_an_id_a_time_and_nothing_else(recorded):
    recorded.track("event", {"a": 1})
    assert recorded.flush(10)
    (event,) = recorded.recorder.seen
    set_ones = {name for name in event.__struct_fields__ if getattr(event, name)}
    assert set_ones == {"name", "properties_json", "message_id", "time"}
    assert event.properties == {"a": 1}


def test_strict_mode_holds_from_the_first_call_on():
    tracker = Tracker(environ={"AGENT_TRACKING_STRICT": "1"}, discover=False)
    with pytest.raises(agent_tracking.TrackingError, match="strict mode"):
        tracker.track("")
    lenient = Tracker(environ={"AGENT_TRACKING_STRICT": "0"}, discover=False)
    lenient.track("")
    lenient.shutdown(1)


def test_strict_mode_takes_what_loses_nothing():
    tracker = Tracker(environ={"AGENT_TRACKING_STRICT": "1"}, discover=False)
    tracker.register_provider(Recorder())
    tracker.track("event", {"colour": enum.Enum("colour", {"RED": "red"}).RED, "set": {1}})
    assert tracker.flush(10)
    tracker.shutdown(1)


def test_a_record_over_the_limit_is_told_by_name_size_and_limit_but_not_by_content(caplog):
    class Answering:
        def send(self, request):
            return Response(200)

        def enforce(self, now):
            pass

        def close(self):
            pass

    members = {
        "name": "small",
        "endpoints": (Endpoint("events", record_bytes=100),),
        "encode": lambda _self, record: Payload(record.data_json),
        "request": lambda _self, _endpoint, _batch: Request("http://x/"),
    }
    tracker = Tracker(environ={}, discover=False, sender=Answering)
    tracker.register_provider(type("Small", (HTTPProvider,), members)({}))
    tracker.track("order paid", {"text": "content" * 100})
    tracker.track("fits", {"a": 1})
    assert tracker.flush(10).dropped == {"too-large": 1}
    tracker.shutdown(1)
    (line,) = [record for record in caplog.records if "bytes" in record.message]
    assert line.name == "agent_tracking.small"
    assert "order paid has 711 bytes, at most 100 are taken" in line.message
    assert "content" not in caplog.text


def test_without_any_metadata_the_package_imports_finds_nobody_and_takes_a_class(monkeypatch):
    def nothing(_name):
        raise discovery.PackageNotFoundError

    monkeypatch.setattr(discovery, "version", nothing)
    found = discovery.find(list)
    assert found == discovery.Found(())
    candidate = discovery.Candidate(
        name="x",
        entry_point="x:X",
        distribution="x",
        version="1",
        requires=("agent-tracking>=99",),
        load=list,
    )
    assert discovery.select([candidate], Settings()) == ([candidate], [])
    tracker = Tracker(environ={"X_KEY": "k"}, discover=False)

    class Frozen(agent_tracking.Provider):
        name = "frozen"
        env = (agent_tracking.EnvVar("X_KEY", required=True),)

        def track(self, event):
            pass

    assert tracker.register_provider(Frozen).state == "active"
    tracker.track("event")
    assert tracker.flush(10)
    tracker.shutdown(1)


def test_what_finds_packages_may_raise_and_those_that_were_seen_stay():
    def installed():
        yield from discovery.distributions()
        raise OSError("a finder of somebody's own")

    found = discovery.find(installed)
    assert any("OSError" in problem for problem in found.problems)
    names = [candidate.name for candidate in discovery.find().candidates]
    assert [candidate.name for candidate in found.candidates] == names


@pytest.mark.parametrize(
    ("error", "shown"), [(ValueError("hunter2"), False), (ImportError("no module x"), True)]
)
def test_an_import_that_fails_is_told_by_its_text_only_if_that_is_about_code(error, shown):
    def load():
        raise error

    candidate = discovery.Candidate(name="x", entry_point="x:X", distribution="x", version="1", load=load)
    record = discovery.make(candidate, {}).record
    assert type(error).__name__ in record.reason
    assert (str(error) in record.reason) is shown


def test_a_hook_that_runs_too_long_is_reported_once_a_minute(caplog):
    now = [0.0]
    reporter = Reporter(lambda _on: None, clock=lambda: now[0])
    lane = Lane(
        "slow", Hooks(lambda event: None, None, None), MemorySource(10, 1000), reporter, clock=lambda: now[0]
    )
    lane.busy_since = 0.0
    for second in range(130):
        now[0] = float(second)
        lane.enforce(now[0])
    assert lane.busy() == 129.0
    assert len(caplog.records) == 2
    assert "has been running for 31 s" in caplog.records[0].message


def test_a_wait_between_two_tries_does_not_count_as_busy():
    lane = Lane(
        "x", Hooks(lambda event: None, None, None), MemorySource(10, 1000), Reporter(lambda _on: None)
    )
    seen = []
    lane.busy_since = lane._clock()

    class Watching:
        def wait(self, _timeout):
            seen.append(lane.busy())
            os.sched_yield()

    lane.bell = Watching()
    lane.pause(0.01)
    assert set(seen) == {None}
    assert lane.busy() is not None


def test_flushes_from_many_threads_over_many_lanes_end_as_soon_as_all_is_settled():
    tracker = Tracker(environ={}, discover=False)
    for number in range(12):
        recorder = Recorder()
        recorder.name = f"recorder-{number}"
        tracker.register_provider(recorder)
    slow, interval = [], sys.getswitchinterval()

    def work():
        for _ in range(25):
            tracker.track("event")
            began = time.monotonic()
            assert tracker.flush(20)
            if time.monotonic() - began > 10:
                slow.append(1)

    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert slow == [], "a flush was forgotten until its timeout"
    tracker.shutdown(5)
    assert {provider.delivered for provider in tracker.stats().providers.values()} == {150}
