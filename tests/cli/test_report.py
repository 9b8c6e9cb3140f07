"""What the demo's report says when a backend does not have everything exactly once."""

from __future__ import annotations

from http.client import HTTPConnection

import msgspec
import pytest

from agent_tracking.cli.demo.report import calls_of, outcomes
from agent_tracking.cli.demo.samples import sample
from agent_tracking.cli.demo.traffic import Traffic
from agent_tracking.counters import ProviderStats, Stats
from agent_tracking.testing import Sink


@pytest.fixture
def traffic():
    return Traffic(20, 0.0)


def _send(sink, *ids):
    connection = HTTPConnection(sink.url.removeprefix("http://"), timeout=10)
    body = msgspec.json.encode([{"id": each, "event": "x", "secret": "k3y"} for each in ids])
    connection.request(
        "POST", "/webhook/hook", body, {"authorization": "k3y", "content-type": "application/json"}
    )
    assert connection.getresponse().status == 200
    connection.close()


def _outcome(traffic, *requests):
    total = len(traffic.message_ids())
    with Sink() as sink:
        for ids in requests:
            _send(sink, *ids)
        stats = Stats(providers={"webhook": ProviderStats(accepted=total, delivered=total)})
        return outcomes(sink, stats, ["webhook"], traffic, {"k3y"})["webhook"]


def test_everything_once_is_well(traffic):
    outcome = _outcome(traffic, sorted(traffic.message_ids()))
    assert outcome.ok
    assert outcome.once == len(traffic.message_ids())


def test_a_record_that_is_missing_is_seen(traffic):
    outcome = _outcome(traffic, sorted(traffic.message_ids())[1:])
    assert not outcome.ok
    assert outcome.missing == 1


def test_a_record_that_came_twice_is_seen(traffic):
    ids = sorted(traffic.message_ids())
    outcome = _outcome(traffic, ids, ids[:3])
    assert not outcome.ok
    assert outcome.twice == 3


def test_a_record_that_nobody_tracked_is_seen(traffic):
    outcome = _outcome(traffic, [*sorted(traffic.message_ids()), "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11"])
    assert not outcome.ok
    assert outcome.foreign == 1


def test_a_sample_shows_the_one_record_and_no_key(traffic):
    ids = sorted(traffic.message_ids())
    with Sink() as sink:
        _send(sink, *ids)
        found = sample(sink.requests("webhook"), ids[3], {"k3y"})
    assert found is not None
    assert found.body == [{"id": ids[3], "event": "x", "secret": "*****"}]
    assert found.headers["authorization"] == "*****"
    assert found.others == len(ids) - 1


def test_traffic_has_the_events_asked_for_and_each_id_once():
    for events in (1, 9, 10, 11, 237):
        traffic = Traffic(events, 0.0)
        calls = [call for calls in traffic.calls for call in calls]
        assert len([call for call in calls if call.name]) == events
        assert len(traffic.message_ids()) == len(calls)


def test_figures_of_no_call_and_of_one_are_figures():
    assert calls_of([]).median_us == 0
    assert calls_of([3_000]).p99_us == 3
