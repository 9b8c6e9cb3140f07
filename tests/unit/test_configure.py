"""configure(): settings by code."""

import asyncio
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import agent_tracking
from agent_tracking import ConfigurationError, Tracker, TrackingError
from agent_tracking.dispatcher import Dispatcher
from agent_tracking.settings import Given, Settings, SpoolSync, read_settings

CORE = Path(agent_tracking.__file__).parents[1]


class Recorder:
    name = "recorder"

    def __init__(self):
        self.names = []
        self.batches = []

    def track(self, event):
        self.names.append(event.name)

    def flush(self):
        self.batches.append(len(self.names))


@pytest.fixture
def make():
    trackers = []

    def make(environ=None, provider=None, **options):
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


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.005)


def settings_of(tracker):
    settings, problems = read_settings(tracker.environ, tracker.given)
    assert problems == []
    return settings


EACH = {
    "disabled": [(True, True), ("on", True), (0, False)],
    "providers": [(["posthog", "webhook"], ("posthog", "webhook")), ("posthog, webhook", ("posthog", "webhook")), ([], ()), ("none", ()), (None, None)],
    "disabled_providers": [(("posthog",), ("posthog",)), ("*", ("*",)), ([], ())],
    "flush_at": [(100, 100), ("100", 100)],
    "flush_interval": [(2.5, 2.5), (0, 0.0), ("2.5", 2.5)],
    "shutdown_timeout": [(1, 1.0)],
    "queue_records": [(7, 7)],
    "queue_bytes": [(1024, 1024)],
    "strict": [(True, True), (False, False)],
    "debug": [(True, True)],
    "serverless": [(True, True), (None, None)],
    "spool": [("/var/spool/x", "/var/spool/x"), (Path("/var/spool/x"), "/var/spool/x"), (None, None)],
    "spool_sync": [(0.5, SpoolSync(0.5)), ("0.5,fsync", SpoolSync(0.5, fsync=True)), (SpoolSync(2, fsync=True), SpoolSync(2, fsync=True))],
    "spool_bytes": [(4096, 4096)],
    "spool_age": [(3600, 3600.0)],
    "delivery": [("process", "process")],
    "status": [(Path("/run/x"), "/run/x"), (None, None)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "becomes"), [(name, *pair) for name, pairs in EACH.items() for pair in pairs]
)
def test_every_setting_can_be_given_as_a_value_or_as_its_text(name, value, becomes):
    tracker = Tracker(environ={}, discover=False)
    tracker.configure(**{name: value})
    assert getattr(settings_of(tracker), name) == becomes


def test_there_is_no_setting_that_configure_does_not_take():
    assert set(EACH) == set(Settings.__struct_fields__) == set(Given.__annotations__)


def test_relay_goes_with_a_spool_that_is_given_before_or_at_once():
    tracker = Tracker(environ={}, discover=False)
    with pytest.raises(ConfigurationError, match="no spool is set"):
        tracker.configure(delivery="relay")
    tracker.configure(delivery="relay", spool="/var/spool/x")
    with pytest.raises(ConfigurationError, match="no spool is set"):
        tracker.configure(spool=None)
    assert settings_of(tracker).delivery == "relay"


def test_code_goes_before_variables_and_what_it_does_not_name_stays_theirs():
    tracker = Tracker(
        environ={"AGENT_TRACKING_FLUSH_AT": "7", "AGENT_TRACKING_QUEUE_RECORDS": "9"}, discover=False
    )
    tracker.configure(flush_at=100)
    assert (settings_of(tracker).flush_at, settings_of(tracker).queue_records) == (100, 9)
    tracker.configure(debug=True)
    assert (settings_of(tracker).flush_at, settings_of(tracker).debug) == (100, True)


def test_all_problems_are_told_at_once_in_one_line_and_nothing_is_changed(make):
    def processor(record):
        return record

    tracker = make(processors=[processor])
    tracker.configure(flush_at=5)
    dispatcher = tracker.dispatcher()
    with pytest.raises(ConfigurationError) as raised:
        tracker.configure(
            flush_att=1, debug=True, flush_interval=-1, spool=5, queue_records="many", delivery="pigeon", strict="maybe",
            disabled_providers=[1], processors=[5],
        )  # fmt: skip
    message = str(raised.value)
    assert "\n" not in message
    for part in (
        "there is no setting 'flush_att': 'flush_at' is meant?",
        "flush_interval must be a number of seconds between 0 and 86400",
        "spool must be a path",
        "queue_records must be a whole number, at least 1",
        "delivery must be process or relay",
        "strict must be one of 1, true, yes, on, 0, false, no, off",
        "disabled_providers cannot be of type list",
        "every processor must be callable, record -> record or None, not int",
    ):
        assert part in message
    assert tracker.given == {"flush_at": 5}
    assert tracker.processors == (processor,)
    assert tracker.dispatcher() is dispatcher, "not even restarted"


@pytest.mark.parametrize("processors", [5, "redact", print, iter([print]), {print}])
def test_processors_that_are_no_list_are_told_like_any_other_problem(processors):
    with pytest.raises(ConfigurationError, match="processors must be a list of functions"):
        Tracker(environ={}, discover=False).configure(processors=processors)


def test_what_was_tracked_before_is_delivered_first_and_with_the_settings_of_then(make):
    tracker = make({"AGENT_TRACKING_FLUSH_AT": "1000", "AGENT_TRACKING_FLUSH_INTERVAL": "600"})
    for _ in range(3):
        tracker.track("before")
    tracker.configure(processors=[lambda record: None])
    assert tracker.recorder.names == ["before"] * 3
    tracker.track("after")
    assert tracker.flush(20)
    assert tracker.recorder.names == ["before"] * 3


def test_what_was_tracked_before_is_delivered_first_even_if_its_thread_has_just_begun():
    for _ in range(10):
        tracker, recorder = Tracker(environ={}, discover=False), Recorder()
        tracker.registered["recorder"] = recorder
        tracker.track("before")
        tracker.configure(processors=[lambda record: None])
        assert recorder.names == ["before"]
        tracker.shutdown(5)


def test_new_settings_hold_from_the_next_record_on_without_anything_else_being_called(make):
    tracker = make({"AGENT_TRACKING_FLUSH_AT": "1000", "AGENT_TRACKING_FLUSH_INTERVAL": "600"})
    tracker.track("before")
    tracker.configure(flush_at=1)
    tracker.track("after")
    until(lambda: tracker.recorder.names == ["before", "after"])


def test_counters_begin_anew_and_registered_providers_stay(make):
    tracker = make()
    tracker.track("before")
    assert tracker.flush(20)
    tracker.configure(flush_at=10)
    assert [record.name for record in tracker.providers()] == ["recorder"]
    assert tracker.stats().tracked == 0
    tracker.track("after")
    assert tracker.flush(20)
    assert tracker.stats().providers["recorder"].delivered == 1


def test_after_shutdown_it_starts_anew(make):
    tracker = make()
    tracker.track("before")
    tracker.shutdown(20)
    tracker.track("lost")
    tracker.configure(flush_at=1)
    tracker.track("after")
    assert tracker.flush(20)
    assert tracker.recorder.names == ["before", "after"]


def test_once_everything_is_off_not_one_more_record_reaches_a_provider_that_was_there_before(make):
    tracker = make({})
    tracker.track("before")
    assert tracker.flush(20)
    tracker.configure(disabled=True)
    tracker.track("after")
    tracker.flush(20)
    assert tracker.recorder.names == ["before"]
    assert tracker.stats().dropped == {"disabled": 1}


def test_what_is_disabled_by_code_is_enabled_by_code(make):
    tracker = make()
    tracker.configure(disabled=True)
    tracker.providers()
    tracker.track("not this")
    tracker.configure(disabled=False)
    tracker.track("this")
    assert tracker.flush(20)
    assert tracker.recorder.names == ["this"]


def test_strict_mode_holds_from_the_next_call_on_and_ends_so(make):
    tracker = make()
    tracker.track("")
    tracker.configure(strict=True)
    with pytest.raises(TrackingError):
        tracker.track("")
    tracker.configure(strict=False)
    tracker.track("")


def test_in_strict_mode_what_went_wrong_before_raises_and_the_settings_hold_all_the_same(make):
    class Raising(Recorder):
        def track(self, event):
            raise ValueError

    tracker = make({"AGENT_TRACKING_STRICT": "1"}, provider=Raising())
    tracker.track("x")
    with pytest.raises(TrackingError, match="the provider raised ValueError"):
        tracker.configure(flush_at=5)
    assert tracker.given == {"flush_at": 5}
    tracker.configure(flush_at=6)


def test_a_provider_that_hangs_holds_it_up_no_longer_than_a_shutdown_and_what_is_lost_is_told(make, caplog):
    gate = threading.Event()

    class Hanging(Recorder):
        def track(self, event):
            gate.wait(60)

    tracker = make({"AGENT_TRACKING_SHUTDOWN_TIMEOUT": "0.2"}, provider=Hanging())
    tracker.track("x")
    flushing = threading.Thread(target=tracker.flush, args=(60,))
    flushing.start()
    until(lambda: tracker._dispatcher is not None and tracker._dispatcher._requests)
    began = time.monotonic()
    tracker.configure(flush_at=5)
    assert time.monotonic() - began < 20
    assert "the time for shutting down was over; not delivered: recorder: 1" in caplog.text
    flushing.join(20)
    assert not flushing.is_alive(), "there is nothing left that it could wait for"
    gate.set()


def test_from_a_hook_or_a_processor_it_is_refused_at_once(make):
    said = []

    class Configuring(Recorder):
        def track(self, event):
            try:
                tracker.configure(flush_at=5)
            except ConfigurationError as error:
                said.append(str(error))

    def configuring(record):
        tracker.recorder.track(record)
        return record

    tracker = make(provider=Configuring(), processors=[configuring])
    tracker.track("x")
    assert tracker.flush(20)
    assert said == ["configure() cannot be called from a provider's hook or a processor"] * 2
    assert tracker.given == {}


@pytest.mark.parametrize("turn", range(3))
def test_what_other_threads_track_meanwhile_arrives_once_and_nothing_is_said(make, caplog, turn):
    tracker = make({"AGENT_TRACKING_FLUSH_AT": "20", "AGENT_TRACKING_FLUSH_INTERVAL": "600"})
    stop, sent = threading.Event(), [0] * 4

    def work(number):
        while not stop.is_set():
            tracker.track(f"{number}-{sent[number]}")
            sent[number] += 1
            if sent[number] % 50 == 0:
                time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for flush_at in range(20, 35):
        tracker.configure(flush_at=flush_at, queue_records=1_000_000)
    stop.set()
    for thread in threads:
        thread.join(60)
    assert tracker.flush(60)
    assert sorted(tracker.recorder.names) == sorted(f"{n}-{i}" for n in range(4) for i in range(sent[n]))
    assert caplog.text == ""


@pytest.mark.parametrize("flush_at", [1, 1000])
@pytest.mark.parametrize("handed_out", [False, True])
def test_what_is_tracked_last_of_all_while_it_is_at_work_is_delivered_without_another_call(
    make, flush_at, handed_out
):
    class Slow(Recorder):
        def track(self, event):
            if event.name == "before":
                began.set()
                gate.wait(30)
            super().track(event)

    began, gate = threading.Event(), threading.Event()
    tracker = make({"AGENT_TRACKING_FLUSH_AT": f"{flush_at}"}, provider=Slow())
    tracker.track("before")
    thread = threading.Thread(target=tracker.configure, kwargs={"flush_at": 1})
    thread.start()
    assert began.wait(30)
    until(lambda: tracker.requests or tracker._dispatcher._requests)
    tracker.track("meanwhile")
    if handed_out:
        until(lambda: not tracker.entries)
    gate.set()
    thread.join(60)
    until(lambda: tracker.recorder.names == ["before", "meanwhile"])


def test_no_thread_begins_for_the_settings_of_before_while_its_lanes_come_to_their_end(make):
    class Slow(Recorder):
        def track(self, event):
            gates[event.name].wait(30)
            super().track(event)

    gates = {"a": threading.Event(), "b": threading.Event()}
    tracker = make({"AGENT_TRACKING_FLUSH_AT": "1"}, provider=Slow())
    tracker.track("a")
    thread = threading.Thread(target=tracker.configure, kwargs={"flush_at": 1})
    thread.start()
    until(lambda: tracker._dispatcher and tracker._dispatcher._requests)
    tracker.track("b")
    until(lambda: not tracker.entries)
    serving = tracker._serving
    gates["a"].set()
    until(lambda: not serving.alive)
    tracker.flush(0)
    assert tracker._serving is serving
    gates["b"].set()
    thread.join(60)
    until(lambda: tracker.recorder.names == ["a", "b"])


def test_who_flushes_meanwhile_is_not_forgotten(make):
    tracker = make()
    stop, slow, interval = threading.Event(), [], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(number):
        while not stop.is_set():
            tracker.track(f"{number}")
            began = time.monotonic()
            if number % 2:
                tracker.flush(30)
            else:
                asyncio.run(tracker.aflush(30))
            if time.monotonic() - began > 15:
                slow.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for flush_at in range(1, 30):
        tracker.configure(flush_at=flush_at)
    stop.set()
    for thread in threads:
        thread.join(60)
    sys.setswitchinterval(interval)
    assert slow == []
    runs = [frame for frame in _frames() if frame.f_code is Dispatcher.run.__code__]
    assert sum(frame.f_locals["self"] is tracker._dispatcher for frame in runs) <= 1, (
        "two take from one intake"
    )


def _frames():
    for top in sys._current_frames().values():
        frame = top
        while frame is not None:
            yield frame
            frame = frame.f_back


def test_threads_that_configure_at_the_same_time_each_have_their_way(make):
    tracker = make()
    values = {
        "flush_at": 3,
        "flush_interval": 4.0,
        "queue_records": 500,
        "debug": True,
        "shutdown_timeout": 6.0,
    }
    start = threading.Barrier(len(values))

    def work(name):
        start.wait(30)
        for _ in range(5):
            tracker.track(name)
            tracker.configure(**{name: values[name]})

    threads = [threading.Thread(target=work, args=(name,)) for name in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert tracker.given == values
    assert tracker.flush(20)
    assert sorted(tracker.recorder.names) == sorted([*values] * 5)
    until(lambda: [each.name for each in threading.enumerate()].count("agent_tracking.recorder") <= 1)


def test_no_thread_of_before_stays(make):
    tracker = make()
    for flush_at in range(1, 6):
        tracker.track("x")
        tracker.configure(flush_at=flush_at)
    until(lambda: "agent_tracking.recorder" not in [thread.name for thread in threading.enumerate()])


def test_a_type_checker_knows_the_settings(tmp_path):
    right = """
from pathlib import Path
from agent_tracking import Tracker, configure
configure(flush_at=100, providers=["posthog"], spool=Path("x"), spool_sync=0.5, delivery="relay", processors=[])
configure(providers="posthog,webhook", serverless=None, strict=True)
Tracker().configure(flush_interval=2)
"""
    wrong = """
from agent_tracking import configure
configure(flush_att=1)
configure(flush_at="many", delivery="pigeon")
configure(processors=[lambda record: 5])
"""
    (tmp_path / "right.py").write_text(right)
    (tmp_path / "wrong.py").write_text(wrong)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary", "--config-file=",
         "--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"],
        cwd=tmp_path, env={"MYPYPATH": str(CORE)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.stderr == ""
    assert {line.partition(":")[0] for line in lines} == {"wrong.py"}, done.stdout
    text = "\n".join(line for line in lines if ": error: " in line)
    assert 'Unexpected keyword argument "flush_att"' in text
    assert '"flush_at"' in text
    assert '"delivery"' in text
    assert {line.split(":")[1] for line in lines} == {"3", "4", "5"}, done.stdout
