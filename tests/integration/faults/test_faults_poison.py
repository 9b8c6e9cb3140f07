"""A record that a backend refuses costs itself, and few requests."""

from __future__ import annotations

import math

import pytest

from agent_tracking.testing import Fault

#: Halving asks about both halves on every level; before the first answer nobody knows whether the backend
#: reads compressed bodies, so one refused body goes twice.
HALVINGS = {50: 2 * math.ceil(math.log2(50)) + 2, 500: 2 * math.ceil(math.log2(500)) + 2}


def rejected(account, poison, records):
    """Assert that the poison was dropped, and the rest delivered once."""
    assert account.dropped == {"rejected": len(poison)}
    assert account.delivered == records - len(poison)
    assert account.kept.keys() == set(range(records)) - set(poison)
    assert account.twice == []


@pytest.mark.parametrize("records", [50, 500])
@pytest.mark.parametrize("place", [0.0, 0.37, 1.0])
def test_one_poison_record_in_a_batch_that_names_nobody_costs_a_logarithm_of_requests(rig, records, place):
    poison = [int(place * (records - 1))]
    posthog = rig(("posthog",), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    posthog.fail(Fault.poison())
    posthog.track(records, poison)
    posthog.tracker.flush(20)
    account = posthog.account("posthog")
    rejected(account, poison, records)
    assert account.requests <= HALVINGS[records]


def test_a_webhook_is_searched_the_same_way(rig):
    webhook = rig(("webhook",), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    webhook.fail(Fault.poison())
    webhook.track(100, [41])
    webhook.tracker.flush(20)
    account = webhook.account("webhook")
    rejected(account, [41], 100)
    assert account.requests <= 2 * math.ceil(math.log2(100)) + 1


def test_mixpanel_names_the_bad_ones_and_keeps_the_others_so_nothing_is_sent_again(rig, sink):
    mixpanel = rig(("mixpanel",), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    mixpanel.fail(Fault.poison())
    mixpanel.track(500, [3, 4, 250])
    mixpanel.tracker.flush(20)
    rejected(mixpanel.account("mixpanel"), [3, 4, 250], 500)
    assert len(sink.requests("mixpanel", "/import")) == 1
    assert sink.ledger["mixpanel"].arrived_twice() == []


def test_amplitude_names_one_a_round_and_each_round_drops_one(rig, sink):
    amplitude = rig(("amplitude",), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    amplitude.fail(Fault.poison())
    amplitude.track(150, [3, 4, 60, 99])
    amplitude.tracker.flush(20)
    account = amplitude.account("amplitude")
    rejected(account, [3, 4, 60, 99], 150)
    assert account.requests == 4 + 1


@pytest.mark.parametrize("provider", ["posthog", "webhook"])
def test_many_poison_records_scattered_over_a_batch_still_cost_only_themselves(rig, provider):
    poison = list(range(3, 500, 12))
    one = rig((provider,), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    one.fail(Fault.poison())
    one.track(500, poison)
    one.tracker.flush(20)
    rejected(one.account(provider), poison, 500)


def test_a_backend_that_refuses_everything_gets_each_record_twice_a_level_at_most_and_then_rest(rig, sink):
    posthog = rig(("posthog",), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    posthog.fail(Fault.status(400, times=None))
    posthog.track()
    assert not posthog.tracker.flush(20)
    account = posthog.account("posthog")
    assert account.dropped == {"rejected": 500}
    assert account.requests <= 6 * 10 * 2 + 2
    assert (
        max(count.arrived for count in sink.ledger["posthog"].counts().values())
        <= math.ceil(math.log2(500)) + 2
    )
