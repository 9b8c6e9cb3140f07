"""A key that is not valid stops its provider, once and for all, and nobody else."""

from __future__ import annotations

import pytest

from agent_tracking import Tracker
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.testing import Fault

STOPPING = ("posthog", "mixpanel", "amplitude")


def failed(one, name):
    return one.account(name).state == "failed"


@pytest.mark.parametrize("provider", STOPPING)
def test_401_stops_the_provider_says_why_and_how_and_drops_what_waits(rig, kit, provider, caplog):
    one = rig((provider, "webhook"))
    one.sink.fail(provider, Fault.unauthorized(times=None))
    one.track_together(120)
    one.tracker.flush(20)
    account = one.account(provider)
    assert failed(one, provider)
    assert "stopped" in account.fix
    assert "register_provider" in account.fix
    assert {"posthog": "POSTHOG_API_KEY", "mixpanel": "MIXPANEL_TOKEN", "amplitude": "AMPLITUDE_API_KEY"}[
        provider
    ] in account.fix
    assert (account.accepted, account.dropped, account.waiting) == (120, {"stopped": 120}, 0)
    assert one.account("webhook").delivered == 120

    requests = account.requests
    one.track(120)
    one.tracker.flush(20)
    assert one.account("webhook").delivered == 240
    assert one.account(provider).requests == requests
    lines = [record for record in caplog.records if record.name == f"agent_tracking.{provider}"]
    assert len(lines) == 1
    assert "register" in lines[0].getMessage()


def test_a_stopped_provider_works_again_once_it_is_registered_anew(rig):
    one = rig(("posthog",))
    one.sink.fail("posthog", Fault.unauthorized(times=1))
    one.track_together(60)
    one.tracker.flush(20)
    assert failed(one, "posthog")
    one.register("posthog")
    assert [str(record.state) for record in one.tracker.providers()] == ["active"]
    one.track(60)
    assert one.tracker.flush(20)
    account = one.account("posthog")
    assert (account.accepted, account.delivered, account.dropped) == (120, 60, {"stopped": 60})


def test_a_stopped_installed_provider_works_again_after_a_restart_or_once_it_is_registered(sink, kit):
    from agent_tracking_posthog import PostHogProvider

    def run(tracker, name="posthog"):
        tracker.track("order paid", {"n": 1}, user_id="u")
        tracker.flush(20)
        return {record.name: str(record.state) for record in tracker.providers()}[name]

    environ = {**sink.environ("posthog"), "AGENT_TRACKING_PROVIDERS": "posthog"}
    first, second = Tracker(environ=environ), Tracker(environ=environ)
    try:
        sink.fail("posthog", Fault.unauthorized(times=1))
        assert run(first) == "failed"
        assert run(second) == "active"
        first.register_provider(PostHogProvider(environ))
        assert run(first) == "active"
    finally:
        first.shutdown(1)
        second.shutdown(1)
    assert sink.totals("posthog").counted == 2


def test_a_flush_after_a_renewal_tells_of_every_drop(rig):
    one = rig(("posthog",))
    one.sink.fail("posthog", Fault.unauthorized(times=1))
    one.track_together(60)
    assert one.tracker.flush(20).dropped == {"stopped": 60}
    one.register("posthog")
    one.sink.fail("posthog", Fault.unauthorized(times=1))
    one.track_together(40)
    assert one.tracker.flush(20).dropped == {"stopped": 40}


def test_401_from_a_webhook_drops_the_batch_and_stops_nothing(rig):
    one = rig(("webhook",))
    one.fail(Fault.status(401))
    one.track_together(100)
    assert one.tracker.flush(20).dropped == {"rejected": 100}
    one.track(100)
    assert one.tracker.flush(20)
    assert one.account("webhook").state == "active"


def test_what_a_provider_that_stops_had_delivered_stays_delivered(rig):
    """Of one batch, Mixpanel's profiles were taken before the token turned out to be wrong for events."""
    one = rig(
        ("mixpanel",),
        retry=RetryPolicy(first=0.01, longest=0.02),
        environ={"AGENT_TRACKING_FLUSH_AT": "1000"},
    )
    one.sink.fail("mixpanel", Fault.unauthorized(times=None, match="/import"))
    one.track_together()
    one.tracker.flush(20)
    account = one.account("mixpanel")
    assert account.delivered == len(account.kept) == 20
    assert account.dropped == {"stopped": 480}
