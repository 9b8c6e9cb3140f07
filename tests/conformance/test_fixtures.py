"""The fixtures that authors load by name."""

from __future__ import annotations

from agent_tracking_sample_http import SampleHTTPProvider

from agent_tracking.testing import Backend, Fault


def test_sink_and_tracker_are_enough_for_a_test_of_an_authors_own(sink, make_tracker):
    sink.add_backend("acme", Backend())
    sink.fail("acme", Fault.status(503))
    environ = {"SAMPLE_HTTP_KEY": "t0ps3cret", "SAMPLE_HTTP_URL": f"{sink.url}/acme/in"}
    tracker = make_tracker(SampleHTTPProvider(environ))
    tracker.track("order paid", {"total": 9.5}, user_id="u-1")
    assert tracker.flush(20)
    assert [request.status for request in sink.requests("acme")] == [503, 200]
    assert [record["data"] for record in sink.events("acme")] == [{"total": 9.5}]


def test_a_tracker_takes_the_options_of_every_tracker(make_tracker):
    seen = []
    tracker = make_tracker(Remember(), processors=[lambda record: seen.append(record.name) or record])
    tracker.track("order paid")
    assert tracker.flush(20)
    assert seen == ["order paid"]


class Remember:
    name = "remember"

    def track(self, event):
        pass
