"""Processors before real providers: nothing that they take away reaches a wire or a disk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator

import pytest

from agent_tracking import ConfigurationError, Tracker
from agent_tracking.processors import allow, consent, deny, enrich, hash_ids, redact, required, route, sample
from agent_tracking.testing import Fault, Received, Sink
from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider
from agent_tracking_webhook import WebhookProvider

CLASSES = (PostHogProvider, MixpanelProvider, AmplitudeProvider, WebhookProvider)
NAMES = [provider.name for provider in CLASSES]
SECRETS = ("ann@example.com", "hunter2", "4111111111111111", "4111 1111 1111 1111", "s3cr3t-s3cr3t-s3cr3t")


@pytest.fixture
def make(sink: Sink) -> Iterator[Callable[..., Tracker]]:
    trackers = []

    def make(*processors, environ=None, providers=CLASSES, **options) -> Tracker:
        tracker = Tracker(
            environ={**sink.environ(), "AGENT_TRACKING_FLUSH_AT": "5", **(environ or {})},
            discover=False,
            processors=processors,
            **options,
        )
        for provider in providers:
            tracker.register_provider(provider)
        trackers.append(tracker)
        return tracker

    yield make
    for tracker in trackers:
        tracker.shutdown(5)


def wire(sink: Sink) -> str:
    """Return everything that arrived, of all providers."""
    return "\n".join(
        f"{each.path} {each.query} {each.headers} {each.body.decode()}" for each in received(sink)
    )


def received(sink: Sink, *names: str) -> list[Received]:
    """Return the requests that providers of these names made, or all."""
    return [request for name in names or NAMES for request in sink.requests(name)]


def test_what_is_redacted_reaches_no_provider(make, sink, caplog):
    tracker = make(redact(), hash_ids(key="k" * 16))
    for number in range(20):
        tracker.track(
            f"mail to ann@example.com {number}",
            {
                "note": f"ann@example.com paid with 4111 1111 1111 1111, {number}",
                "card": {"number": 4111111111111111},
                "deep": [{"db_password": "hunter2"}],
                "n": 4111111111111111,
                "header": "Bearer s3cr3t-s3cr3t-s3cr3t",
            },
            user_id="ann@example.com",
        )
        tracker.identify(
            "ann@example.com", {"email": "ann@example.com", "password": "hunter2", "plan": "pro"}
        )
    assert tracker.flush(20)
    seen = wire(sink)
    assert seen.count("[redacted]") > 100
    assert "pro" in seen
    for secret in SECRETS:
        assert secret not in seen
        assert secret not in caplog.text


def test_when_a_redaction_fails_nothing_of_the_record_is_sent(make, sink, caplog):
    @required
    def no_names(record):
        raise ValueError(record.user_id)

    tracker = make(no_names)
    for _ in range(20):
        tracker.track("order paid", {"a": 1}, user_id="ann@example.com")
    result = tracker.flush(20)
    assert not result
    assert result.dropped == {"processor-error": 20}
    assert received(sink) == []
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("the processor no_names raised ValueError: the record was dropped")
    assert "example" not in line


def test_records_go_where_they_are_routed_and_each_is_counted(make, sink):
    tracker = make(
        route("internal *", only=["webhook"]),
        route(lambda record: record.user_id == "u-employee", never=["mixpanel", "amplitude"]),
        route("nowhere", only=["other"]),
    )
    tracker.track("internal check")
    tracker.track("order paid", user_id="u-employee")
    tracker.track("order paid", user_id="u-customer")
    tracker.track("nowhere")
    tracker.identify("u-employee", {"plan": "pro"})
    result = tracker.flush(20)
    stats = tracker.stats()
    assert {name: each.delivered for name, each in stats.providers.items()} == {
        "posthog": 3,
        "mixpanel": 1,
        "amplitude": 1,
        "webhook": 4,
    }
    assert stats.dropped == {"no-provider": 1}
    assert not result, "one was routed to a provider that is not there: that is no intention"
    assert "internal check" not in "".join(r.body.decode() for r in received(sink, *NAMES[:3]))


def test_what_is_dropped_on_purpose_is_counted_and_is_no_loss(make, sink):
    tracker = make(
        consent(lambda record: record.user_id != "u-no"),
        allow("order *", "debug *"),
        deny("debug *"),
        sample(0, names="order seen"),
        lambda record: None if record.user_id == "u-robot" else record,
        enrich({"service": "shop"}),
    )
    tracker.track("order paid", user_id="u-no")
    tracker.identify("u-no", {"a": 1})
    tracker.track("page viewed", user_id="u-1")
    tracker.track("debug x", user_id="u-1")
    tracker.track("order seen", user_id="u-1")
    tracker.track("order paid", user_id="u-robot")
    tracker.track("order paid", user_id="u-1")
    result = tracker.flush(20)
    assert result
    assert result.dropped == {"no-consent": 2, "denied": 2, "sampled": 1, "processor": 1}
    stats = tracker.stats()
    assert stats.tracked == 7
    assert {each.delivered for each in stats.providers.values()} == {1}
    (request,) = received(sink, "webhook")
    assert json.loads(request.body)[0]["properties"] == {"service": "shop"}
    assert "u-no" not in wire(sink)


def test_without_consent_nothing_reaches_the_disk(make, sink, tmp_path):
    folder = tmp_path / "spool"
    tracker = make(
        consent(lambda record: record.user_id == "u-yes"),
        redact(),
        environ={"AGENT_TRACKING_SPOOL": str(folder)},
        providers=(WebhookProvider,),
    )
    sink.fail("webhook", Fault.status(503, times=1_000))
    for number in range(50):
        tracker.track("order paid", {"number": number, "note": "hunter2-refused"}, user_id="u-no")
        tracker.track("order paid", {"number": number, "password": "hunter2-redacted"}, user_id="u-yes")
    assert tracker.flush(1).waiting, "so they are on the disk"
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert written.count(b"[redacted]") == 50
    assert b"hunter2" not in written
    assert b"u-no" not in written
    assert tracker.stats().dropped == {"no-consent": 50}
    assert "hunter2" not in wire(sink)


def test_processors_by_configure_hold_from_then_on_and_bad_ones_change_nothing(sink):
    tracker = Tracker(environ=sink.environ("webhook"), discover=False)
    tracker.register_provider(WebhookProvider)
    tracker.configure(processors=[deny("secret *")])
    with pytest.raises(ConfigurationError, match=r"redact makes a processor: list redact\(\.\.\.\)"):
        tracker.configure(processors=[redact])
    tracker.track("secret plan")
    tracker.track("order paid")
    assert tracker.flush(20)
    assert tracker.stats().dropped == {"denied": 1}
    tracker.shutdown(5)
    assert "secret plan" not in wire(sink)


def test_in_a_forked_child_processors_go_on(apps, sink):
    """With what they keep between records, such as answers on consent."""
    done = apps.run(
        """
        import os
        import agent_tracking
        from agent_tracking.processors import consent, redact, sample

        agent_tracking.configure(
            processors=[consent(lambda record: record.user_id == "u-yes"), sample(1), redact()]
        )
        agent_tracking.track("before", {"password": "hunter2"}, user_id="u-yes")
        agent_tracking.flush(10)
        child = os.fork()
        agent_tracking.track("child" if child == 0 else "parent", {"password": "hunter2"}, user_id="u-yes")
        agent_tracking.track("refused", user_id="u-no")
        assert agent_tracking.flush(10)
        if child:
            os.waitpid(child, 0)
        """
    )
    assert done.status == 0, done.err
    assert sorted(event["event"] for event in sink.events("webhook")) == ["before", "child", "parent"]
    assert "hunter2" not in wire(sink)


def test_a_typed_event_arrives_like_any_other(make, sink):
    @dataclasses.dataclass
    class OrderPaid:
        total: float
        email: str

    tracker = make(redact())
    tracker.track(OrderPaid(9.5, "ann@example.com"), {"plan": "pro"}, user_id="u-1")
    assert tracker.flush(20)
    (request,) = received(sink, "webhook")
    (record,) = json.loads(request.body)
    assert record["event"] == "order paid"
    assert record["properties"] == {"total": 9.5, "email": "[redacted]", "plan": "pro"}
    assert {each.delivered for each in tracker.stats().providers.values()} == {1}


def test_a_route_that_names_no_provider_there_is_is_told_once_with_the_name_that_may_be_meant(make, caplog):
    tracker = make(route("order *", never=["posthgo"]), route("page *", only=["webhook", "else"]))
    for _ in range(3):
        tracker.track("page viewed", user_id="u-1")
        assert tracker.flush(20)
    told = [record.getMessage() for record in caplog.records if "route()" in record.getMessage()]
    assert told == [
        "route() names else, which is no provider here: there are: amplitude, mixpanel, posthog, webhook",
        "route() names posthgo, which is no provider here: did you mean posthog?",
    ]
