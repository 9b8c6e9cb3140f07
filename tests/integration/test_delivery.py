"""The whole way of an event: track() to four providers over real HTTP, as a user runs it."""

import base64
import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from agent_tracking import ProviderState, Tracker
from agent_tracking.testing import Fault, Sink

DATA = Path(__file__).parents[1] / "data"
PROVIDERS = ("posthog", "mixpanel", "amplitude", "webhook")


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


@pytest.fixture
def tracker(sink):
    tracker = Tracker(environ=sink.environ())
    yield tracker
    tracker.shutdown(5)


def schema(name):
    return Draft202012Validator(json.loads((DATA / f"{name}.request.schema.json").read_text()))


def track_some(tracker, count=100):
    for number in range(count):
        tracker.track(
            "order paid",
            {"serial": number, "total": 9.5, "note": "é😀", "tags": ["a", "b"]},
            user_id=f"user-{number}",
        )
        tracker.track("page seen", {"serial": number, "anonymous": True}, anonymous_id=f"visitor-{number}")
    tracker.identify("user-1", {"plan": "pro", "email": "a@example.com"}, anonymous_id="visitor-1")


def test_every_installed_provider_is_found_and_active_by_its_variables(tracker):
    states = {record.name: record.state for record in tracker.providers()}
    assert {name: states[name] for name in PROVIDERS} == dict.fromkeys(PROVIDERS, ProviderState.ACTIVE)


def test_all_four_providers_receive_every_record_exactly_once(sink, tracker):
    track_some(tracker)
    result = tracker.flush(20)
    assert result
    for name in PROVIDERS:
        stats = tracker.stats().providers[name]
        assert (stats.accepted, stats.delivered, stats.waiting) == (201, 201, 0), name
        assert sink.ledger[name].accepted_twice() == []
        serials = sorted(
            properties["serial"]
            for event in sink.events(name)
            for properties in [event.get("properties") or event.get("event_properties") or {}]
            if "serial" in properties
        )
        assert serials == sorted([*range(100), *range(100)]), name


def test_the_bodies_on_the_wire_validate_against_the_schemas(sink, tracker):
    track_some(tracker, 30)
    assert tracker.flush(20)
    seen = {
        "posthog-batch-v0": sink.requests("posthog"),
        "mixpanel-import": [r for r in sink.requests("mixpanel") if "/import" in r.path],
        "mixpanel-engage": [r for r in sink.requests("mixpanel") if "/engage" in r.path],
        "amplitude-events": sink.requests("amplitude"),
    }
    for name, requests in seen.items():
        assert requests, name
        for request in requests:
            schema(name).validate(json.loads(request.body))


def test_each_provider_gets_the_messages_own_id_and_time(sink, tracker):
    message_id = "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11"
    tracker.track("x", message_id=message_id, timestamp="2026-05-04T10:00:00.123Z", user_id="u-1")
    assert tracker.flush(20)
    (posthog,), (mixpanel,) = sink.events("posthog"), sink.events("mixpanel")
    (amplitude,), (webhook,) = sink.events("amplitude"), sink.events("webhook")
    assert (posthog["uuid"], posthog["timestamp"]) == (message_id, "2026-05-04T10:00:00.123000Z")
    assert (mixpanel["properties"]["$insert_id"], mixpanel["properties"]["time"]) == (
        message_id,
        1777888800123,
    )
    assert (amplitude["insert_id"], amplitude["time"]) == (message_id, 1777888800123)
    assert (webhook["id"], webhook["timestamp"]) == (message_id, "2026-05-04T10:00:00.123000Z")


def test_the_authorization_of_the_webhook_is_sent_verbatim_and_mixpanels_is_basic(sink):
    environ = {**sink.environ("webhook", "mixpanel"), "TRACKING_WEBHOOK_AUTH": "Bearer schlüssel"}
    tracker = Tracker(environ=environ)
    tracker.track("x")
    assert tracker.flush(20)
    assert sink.requests("webhook")[0].headers["authorization"] == "Bearer schlüssel"
    token = base64.b64encode(f"{environ['MIXPANEL_TOKEN']}:".encode()).decode()
    assert sink.requests("mixpanel")[0].headers["authorization"] == f"Basic {token}"
    tracker.shutdown(5)


def test_fifty_records_go_without_a_flush_and_fewer_after_the_interval(sink):
    tracker = Tracker(environ={**sink.environ("webhook"), "AGENT_TRACKING_FLUSH_INTERVAL": "3600"})
    for number in range(49):
        tracker.track(str(number))
    tracker.track("fiftieth")
    assert sink.wait(lambda: sink.ledger["webhook"].counted == 50, timeout=20)
    tracker.shutdown(5)
    tracker = Tracker(environ={**sink.environ("webhook"), "AGENT_TRACKING_FLUSH_INTERVAL": "0.1"})
    tracker.track("alone")
    assert sink.wait(lambda: sink.ledger["webhook"].counted == 51, timeout=20)
    tracker.shutdown(5)


def test_a_retried_request_carries_the_same_bytes(sink, tracker):
    for name in PROVIDERS:
        sink.fail(name, Fault.status(503, times=1))
    track_some(tracker, 5)
    assert tracker.flush(30)
    for name in PROVIDERS:
        by_path = {}
        for request in sink.requests(name):
            by_path.setdefault(request.path, []).append(request)
        first = sink.requests(name)[0]
        again = by_path[first.path][1]
        assert (first.status, again.status) == (503, 200), name
        assert first.body == again.body, name
        assert tracker.stats().providers[name].retried > 0


def test_while_one_provider_fails_the_others_are_not_held_up(sink, tracker):
    sink.fail("posthog", Fault.status(503, times=None))
    track_some(tracker, 50)
    others = [name for name in PROVIDERS if name != "posthog"]
    assert not tracker.flush(3)
    for name in others:
        assert tracker.stats().providers[name].waiting == 0, name
    assert tracker.stats().providers["posthog"].waiting == 101
    sink.clear("posthog")
    assert tracker.flush(60).waiting == {}


def test_each_flush_is_one_request_per_endpoint_that_has_something(sink, tracker):
    for _ in range(5):
        tracker.track("x")
        assert tracker.flush(20)
    assert len(sink.requests("posthog")) == 5


@pytest.mark.parametrize(
    "ending", ["", "sys.exit(3)", "raise ValueError('the script\\'s own')", "del agent_tracking"]
)
def test_a_script_whose_last_line_is_track_is_delivered_however_it_ends(sink, tmp_path, ending):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            import agent_tracking
            for number in range(20):
                agent_tracking.track("x", {{"serial": number}}, user_id="u")
            {ending}
            """
        )
    )
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        env={"PATH": "/usr/bin:/bin", **sink.environ()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == (3 if "exit" in ending else 1 if "raise" in ending else 0)
    assert ("ValueError" in result.stderr) if "raise" in ending else (result.stderr == "")
    for name in PROVIDERS:
        assert sink.ledger[name].counted == 20, name
        assert sink.ledger[name].accepted_twice() == []


def test_eight_threads_track_and_every_record_arrives_once(sink, tracker):
    def work(worker):
        for number in range(500):
            tracker.track("x", {"serial": worker * 500 + number}, user_id=f"u{worker}")

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.flush(30)
    for name in PROVIDERS:
        assert sink.ledger[name].counted == 4000, name


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POSTHOG_HOST", "not a url"),
        ("MIXPANEL_HOST", "api.mixpanel.com"),
        ("AMPLITUDE_HOST", "ftp://amplitude.example"),
        ("TRACKING_WEBHOOK_URL", "localhost:80/secret-path"),
        ("TRACKING_WEBHOOK_AUTH", "Bearer canary\r\nX-Evil: 1"),
        ("TRACKING_WEBHOOK_FORMAT", "xml"),
    ],
)
def test_a_bad_value_is_a_failed_row_with_its_variable_and_a_fix_and_hurts_no_other(
    sink, caplog, variable, value
):
    environ = {**sink.environ(), variable: value}
    tracker = Tracker(environ=environ)
    tracker.track("x")
    assert tracker.flush(20)
    records = {record.name: record for record in tracker.providers()}
    failed = [record for record in records.values() if record.state is ProviderState.FAILED]
    assert len(failed) == 1
    assert variable in failed[0].reason + failed[0].fix
    assert failed[0].fix
    for secret in ("canary", "secret-path"):
        assert secret not in caplog.text + repr(records)
    assert sum(sink.ledger[name].counted for name in PROVIDERS if name != failed[0].name) == 3
    tracker.shutdown(5)


def test_a_wrong_key_stops_its_provider_says_so_once_and_registering_anew_starts_it(sink, caplog):
    sink.fail("posthog", Fault.unauthorized(times=1))
    tracker = Tracker(environ=sink.environ("posthog", "webhook"))
    for _ in range(3):
        tracker.track("x")
        tracker.flush(20)
    record = {record.name: record for record in tracker.providers()}["posthog"]
    assert record.state is ProviderState.FAILED
    assert "stopped" in record.reason
    assert len([r for r in caplog.records if "stopped until" in r.message]) == 1
    assert tracker.stats().providers["posthog"].dropped == {"stopped": 1}
    assert sink.ledger["webhook"].counted == 3
    from agent_tracking_posthog import PostHogProvider

    tracker.register_provider(PostHogProvider(sink.environ("posthog")))
    tracker.track("x")
    assert tracker.flush(20)
    assert sink.ledger["posthog"].counted == 1
    tracker.shutdown(5)
