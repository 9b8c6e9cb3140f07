"""The bridge to OpenTelemetry, against its real SDK."""

import os
import subprocess
import sys
import threading
from textwrap import dedent

import pytest
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableGauge,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, Sum

from agent_tracking import Reject, RetryLater, Tracker
from agent_tracking.integrations import otel
from agent_tracking.integrations.otel import observe

FORK = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Recorder:
    name = "recorder"

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.later = 1

    def track(self, event):
        self.gate.wait(60)
        if event.name == "bad":
            raise Reject("rejected")
        if event.name == "later" and self.later:
            self.later -= 1
            raise RetryLater(after=0)


class Readers:
    """A meter provider and its reader."""

    def __init__(self, temporality=AggregationTemporality.CUMULATIVE):
        kinds = (
            Counter,
            Histogram,
            ObservableCounter,
            ObservableGauge,
            ObservableUpDownCounter,
            UpDownCounter,
        )
        self.reader = InMemoryMetricReader(preferred_temporality=dict.fromkeys(kinds, temporality))
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def metrics(self):
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def read(self):
        """Return each point's value by its name and its attributes' values."""
        return {
            (name, *point.attributes.values()): point.value
            for name, metric in self.metrics().items()
            for point in metric.data.data_points
        }


@pytest.fixture
def readers():
    return Readers()


@pytest.fixture
def tracker():
    tracker = Tracker(environ={"AGENT_TRACKING_FLUSH_AT": "1"}, discover=False)
    tracker.recorder = Recorder()
    yield tracker
    tracker.recorder.gate.set()
    tracker.shutdown(5)


def test_each_counter_of_stats_is_a_metric(readers, tracker):
    tracker.register_provider(tracker.recorder)
    observe(meter_provider=readers.provider, tracker=tracker)
    for name in ("good", "bad", "bad", "later", ""):
        tracker.track(name)
    assert not tracker.flush(20)
    assert readers.read() == {
        ("agent_tracking.intake.tracked",): 5,
        ("agent_tracking.intake.dropped", "bad-name"): 1,
        ("agent_tracking.intake.waiting",): 0,
        ("agent_tracking.records.accepted", "recorder"): 4,
        ("agent_tracking.records.delivered", "recorder"): 2,
        ("agent_tracking.records.retried", "recorder"): 1,
        ("agent_tracking.records.dropped", "recorder", "rejected"): 2,
        ("agent_tracking.records.waiting", "recorder"): 0,
        ("agent_tracking.records.delay", "recorder"): 0,
    }


def test_what_waits_and_for_how_long_is_seen_while_a_provider_blocks(readers, tracker):
    tracker.register_provider(tracker.recorder)
    tracker.recorder.gate.clear()
    observe(meter_provider=readers.provider, tracker=tracker)
    tracker.track("x")
    assert not tracker.flush(0.2)
    seen = readers.read()
    assert seen["agent_tracking.records.waiting", "recorder"] == 1
    assert seen["agent_tracking.records.delivered", "recorder"] == 0
    first = seen["agent_tracking.records.delay", "recorder"]
    assert first > 0
    assert readers.read()["agent_tracking.records.delay", "recorder"] > first
    tracker.recorder.gate.set()
    assert tracker.flush(20)
    seen = readers.read()
    assert (
        seen["agent_tracking.records.waiting", "recorder"]
        == seen["agent_tracking.records.delay", "recorder"]
        == 0
    )
    assert seen["agent_tracking.records.delivered", "recorder"] == 1


def test_names_units_and_attributes_follow_the_conventions(readers, tracker):
    tracker.register_provider(tracker.recorder)
    observe(meter_provider=readers.provider, tracker=tracker)
    tracker.track("bad")
    tracker.track("")
    tracker.flush(20)
    metrics = readers.metrics()
    assert len(metrics) == 9
    for name, metric in metrics.items():
        assert name.startswith("agent_tracking.")
        assert name == name.lower()
        assert metric.unit == ("s" if name.endswith("delay") else "{record}")
        assert metric.description.endswith(".")
        counts = name.endswith(("tracked", "dropped", "accepted", "delivered", "retried"))
        assert getattr(metric.data, "is_monotonic", None) == (None if name.endswith("delay") else counts)
        assert isinstance(metric.data, Sum) is not name.endswith("delay")
        for point in metric.data.data_points:
            named = {"agent_tracking.provider"} if ".records." in name else set()
            named |= {"agent_tracking.reason"} if name.endswith("dropped") else set()
            assert set(point.attributes) == named


def test_all_numbers_of_one_collection_are_of_one_moment(readers, tracker):
    tracker.register_provider(tracker.recorder)
    observe(meter_provider=readers.provider, tracker=tracker)
    stop, interval = threading.Event(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work():
        while not stop.is_set():
            for name in ("good", "bad"):
                tracker.track(name)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(50):
            seen = readers.read()
            accepted = seen.get(("agent_tracking.records.accepted", "recorder"), 0)
            parts = ("delivered", "waiting")
            settled = sum(seen.get((f"agent_tracking.records.{part}", "recorder"), 0) for part in parts)
            settled += seen.get(("agent_tracking.records.dropped", "recorder", "rejected"), 0)
            assert accepted == settled
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join(60)


def test_a_tracker_that_was_never_used_reports_nothing_and_is_not_started(readers):
    tracker = Tracker(environ={"POSTHOG_API_KEY": "phc_x"})
    before = set(threading.enumerate())
    observe(meter_provider=readers.provider, tracker=tracker)
    assert readers.read() == {}
    assert not tracker.started()
    assert set(threading.enumerate()) <= before


def test_collecting_starts_no_discovery_and_no_thread(readers):
    tracker = Tracker(environ={"POSTHOG_API_KEY": "phc_x"})
    tracker.stats()
    before = set(threading.enumerate())
    observe(meter_provider=readers.provider, tracker=tracker)
    assert readers.read() == {("agent_tracking.intake.tracked",): 0, ("agent_tracking.intake.waiting",): 0}
    assert set(threading.enumerate()) <= before


def test_a_tracker_that_was_shut_down_reports_its_last_numbers(readers, tracker):
    tracker.register_provider(tracker.recorder)
    observe(meter_provider=readers.provider, tracker=tracker)
    tracker.track("x")
    tracker.shutdown(20)
    tracker.track("late")
    seen = readers.read()
    assert seen["agent_tracking.records.delivered", "recorder"] == 1
    assert seen["agent_tracking.intake.dropped", "after-shutdown"] == 1


def test_observing_twice_reports_once_and_warns_of_nothing(readers, tracker, caplog):
    tracker.register_provider(tracker.recorder)
    observe(meter_provider=readers.provider, tracker=tracker)
    observe(meter_provider=readers.provider, tracker=tracker)
    tracker.track("x")
    assert tracker.flush(20)
    (point,) = readers.metrics()["agent_tracking.records.delivered"].data.data_points
    assert point.value == 1
    assert caplog.records == []


def test_another_tracker_needs_the_first_to_be_stopped(readers, tracker):
    other = Tracker(environ={}, discover=False)
    first = observe(meter_provider=readers.provider, tracker=tracker)
    with pytest.raises(ValueError, match="reports another tracker: stop"):
        observe(meter_provider=readers.provider, tracker=other)
    first.stop()
    observe(meter_provider=readers.provider, tracker=other)
    first.stop()
    other.stats()
    assert readers.read() != {}, "a second stop() of the first one does not stop the other"


def test_it_can_be_stopped_and_begun_anew(readers, tracker, caplog):
    tracker.register_provider(tracker.recorder)
    observing = observe(meter_provider=readers.provider, tracker=tracker)
    tracker.track("x")
    assert tracker.flush(20)
    assert readers.read() != {}
    observing.stop()
    observing.stop()
    tracker.track("x")
    assert tracker.flush(20)
    assert readers.read() == {}
    observe(meter_provider=readers.provider, tracker=tracker)
    assert readers.read()["agent_tracking.records.delivered", "recorder"] == 2
    assert caplog.records == []


def test_several_meter_providers_may_report_one_tracker(readers, tracker):
    tracker.register_provider(tracker.recorder)
    others = Readers()
    observe(meter_provider=readers.provider, tracker=tracker)
    observe(meter_provider=others.provider, tracker=tracker).stop()
    tracker.track("x")
    assert tracker.flush(20)
    assert readers.read()["agent_tracking.records.delivered", "recorder"] == 1
    assert others.read() == {}


@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
def test_counters_go_on_where_configure_makes_the_tracker_count_anew(tracker, temporality):
    readers = Readers(temporality)
    tracker.register_provider(tracker.recorder)
    observe(meter_provider=readers.provider, tracker=tracker)
    values = []
    for count in (3, 1, 2):
        for _ in range(count):
            tracker.track("x")
        assert tracker.flush(20)
        values.append(readers.read()["agent_tracking.records.delivered", "recorder"])
        tracker.configure(flush_at=1)
        assert min(readers.read().values(), default=0) >= 0
    assert values == ([3, 4, 6] if temporality is AggregationTemporality.CUMULATIVE else [3, 1, 2])


@FORK
@pytest.mark.parametrize("temporality", ["CUMULATIVE", "DELTA"])
def test_a_forked_child_reports_what_it_does_itself(tracker, temporality):
    readers = Readers(AggregationTemporality[temporality])
    tracker.register_provider(tracker.recorder)
    observe(meter_provider=readers.provider, tracker=tracker)
    tracker.track("x")
    assert tracker.flush(20)
    key = ("agent_tracking.records.delivered", "recorder")
    assert readers.read()[key] == 1
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for _ in range(2):
                tracker.track("x")
            assert tracker.flush(20)
            assert readers.read()[key] == (3 if temporality == "CUMULATIVE" else 2)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert readers.read().get(key, 0) == (1 if temporality == "CUMULATIVE" else 0)


def run(code):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(code)],
        capture_output=True, text=True, timeout=100, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "AGENT_TRACKING_PROVIDERS": "none"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("when", ["before", "after", "both"])
def test_the_global_meter_provider_may_be_set_before_or_after(when):
    code = f"""
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        import agent_tracking
        from agent_tracking.integrations.otel import observe

        when, reader = {when!r}, InMemoryMetricReader()
        if when != "before":
            observe()
        metrics.set_meter_provider(MeterProvider([reader]))
        if when != "after":
            observe()
            observing = observe(meter_provider=metrics.get_meter_provider())

        class Printer:
            name = "printer"
            def track(self, event):
                pass

        agent_tracking.register_provider(Printer())
        agent_tracking.track("x")
        assert agent_tracking.flush(20)
        if when != "after":
            observing.stop()
            assert reader.get_metrics_data() is None
            observe()
        (resource,) = reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        for metric in scope.metrics:
            if metric.name == "agent_tracking.records.delivered":
                print([(point.value, dict(point.attributes)) for point in metric.data.data_points])
    """
    assert run(code) == "[(1, {'agent_tracking.provider': 'printer'})]\n"


def test_without_opentelemetry_the_import_says_what_to_install():
    code = """
        import sys
        sys.modules["opentelemetry"] = None
        try:
            import agent_tracking.integrations.otel
        except ImportError as error:
            print(error)
    """
    assert run(code) == (
        "agent_tracking.integrations.otel needs opentelemetry-api: pip install 'agent-tracking[otel]'\n"
    )


def test_nothing_of_it_is_imported_by_an_application_that_does_not_ask():
    assert (
        run("import sys, agent_tracking; agent_tracking.stats(); print('opentelemetry' in sys.modules)")
        == "False\n"
    )


def test_the_reasons_and_names_are_all_that_is_reported(readers, tracker):
    """No payload, no id, nothing a caller passed."""
    tracker.register_provider(tracker.recorder)
    observe(meter_provider=readers.provider, tracker=tracker)
    tracker.track("bad", {"secret": "t0ps3cret"}, user_id="t0ps3cret")
    tracker.flush(20)
    assert "t0ps3cret" not in str(readers.reader.get_metrics_data() or readers.metrics())
    assert {otel.PROVIDER, otel.REASON} == {"agent_tracking.provider", "agent_tracking.reason"}
