"""Retries: the same bytes under the same key, in order, only what was not taken, and never too late."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_tracking import Delivered, Payload, Request, Response, Retry, RetryLater, TrackingEvent
from agent_tracking.delivery.backoff import RETRY_AFTER_LIMIT, RetryPolicy, retry_after
from agent_tracking.delivery.http import HTTPSender
from agent_tracking.delivery.outbox import Outbox
from agent_tracking.http_provider import HTTPProvider, json_array
from agent_tracking.testing import Fault

PROVIDERS = ("posthog", "mixpanel", "amplitude", "webhook")


class Plain(HTTPProvider):
    """The smallest provider."""

    name = "plain"
    url = ""

    def encode(self, record):
        return Payload(b'{"id":"%s","n":%d}' % (record.message_id.encode(), record.properties["n"]))

    def request(self, endpoint, batch):
        return Request(self.url, body=json_array(batch))


def exchange(sink, *faults):
    """Send one record over real HTTP, and return the pauses that were asked for instead of waiting."""
    sink.add_backend("plain", _backend())
    sink.fail("plain", *faults)
    provider, pauses, sender = Plain({}), [], HTTPSender(total=5)
    provider.url = f"{sink.url}/plain"
    provider.bind(Outbox(provider, sender, lambda seconds: pauses.append(seconds) or True))
    provider.track(TrackingEvent(name="e", message_id="e", time=0.0, properties_json=b'{"n":1}'))
    provider.flush()
    sender.close()
    assert sink.totals("plain").counted == 1
    return pauses


def _backend():
    from agent_tracking.testing import Backend

    return Backend()


def test_when_the_second_of_three_batches_fails_the_first_is_not_sent_again(rig, sink):
    webhook = rig(("webhook",), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    sink.fail("webhook", Fault.delay(0), Fault.status(503, times=2))
    webhook.track(300)
    assert webhook.tracker.flush(20)
    arrived = [sink.ledger["webhook"][key].arrived for key in sink.ledger["webhook"].counts()]
    assert arrived == [1] * 100 + [3] * 100 + [1] * 100


@pytest.mark.parametrize("provider", PROVIDERS)
def test_after_a_lost_answer_the_retry_carries_the_same_bytes_key_and_time(rig, sink, provider):
    one = rig((provider,), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    one.fail(Fault.lost_answer(times=2))
    one.track(50)
    assert one.tracker.flush(20)
    tries = [request for request in sink.requests(provider) if request.path != "/engage"]
    assert len(tries) == 3
    assert len({request.body for request in tries}) == 1
    assert len({request.headers.get("webhook-id") for request in tries}) == 1
    assert sink.totals(provider).counted == 50
    assert max(count.accepted for count in sink.ledger[provider].counts().values()) == 3


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_longer_retry_after_never_waits_less_than_a_shorter_one(first, second):
    shorter, longer = sorted((first, second))
    assert 0 <= retry_after(str(shorter)) <= retry_after(str(longer)) <= RETRY_AFTER_LIMIT


@pytest.mark.parametrize(
    "header",
    ["1000000000000", "-5", "nan", "inf", "1_0", "1.5", "", "soon", "Tue, 99 Nov 2026 00:00:00 GMT",
     "Thu, 01 Jan 1970 00:00:30", "59", "60", "61", "9" * 400],
)  # fmt: skip
def test_no_retry_after_makes_a_retry_wait_outside_of_its_bounds(sink, header):
    pauses = exchange(sink, Fault.status(503, headers={"Retry-After": header}))
    assert len(pauses) == 1
    assert RetryPolicy().first <= pauses[0] <= RETRY_AFTER_LIMIT


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_retry_after_of_a_day_is_clamped_in_both_forms(sink, form):
    header = "86400" if form == "seconds" else formatdate(time.time() + 86_400, usegmt=True)
    assert exchange(sink, Fault.status(429, headers={"Retry-After": header})) == [RETRY_AFTER_LIMIT]


def test_a_retry_after_is_a_minimum_also_where_the_provider_names_a_time_of_its_own():
    answers = iter([Response(429, {"retry-after": "45"}), Response(200)])

    class Canned:
        def send(self, request):
            return next(answers)

    class Own(Plain):
        def judge(self, response, batch):
            return Delivered() if response.status == 200 else Retry(after=3.0)

    provider, pauses = Own({}), []
    provider.bind(Outbox(provider, Canned(), lambda seconds: pauses.append(seconds) or True))
    provider.track(TrackingEvent(name="e", message_id="e", time=0.0, properties_json=b'{"n":1}'))
    provider.flush()
    assert pauses == [45.0]


def test_lanes_that_fail_together_spread_their_next_tries(rig, kit, sink):
    """Fifty lanes, one backend that refuses each once: their second tries come apart."""
    sink.add_backend("plain", _backend())
    sink.fail("plain", Fault.status(503, times=50))
    one = rig((), retry=RetryPolicy(first=0.1, longest=1.1))
    for number in range(50):
        provider = Plain({})
        provider.url = f"{sink.url}/plain"
        one.tracker.register_provider(provider, name=f"plain-{number}")
    one.tracker.track("order paid", {"n": 1})
    assert one.tracker.flush(20)
    second = [request.at for request in sink.requests("plain")][50:]
    assert len(second) == 50
    assert statistics.pstdev(second) > 0.005


def test_a_wall_clock_that_jumps_by_a_day_changes_no_wait_and_no_deadline(kit, sink):
    source = """
        import time
        real, offset = time.time, [0.0]
        time.time = lambda: real() + offset[0]
        from agent_tracking import Tracker
        from agent_tracking.delivery.backoff import RetryPolicy
        tracker = Tracker(retry=RetryPolicy(first=0.02, longest=0.1))
        began, n = time.monotonic(), 0
        for jump in (86_400.0, -86_400.0, -2 * 86_400.0, 0.0):
            for _ in range(50):
                tracker.track("order paid", {"n": n}, user_id="u")
                n += 1
            offset[0] = jump
            tracker.track("order paid", {"n": n}, user_id="u")
            n += 1
            result = tracker.flush(20)
            assert result, result
        took = time.monotonic() - began
        assert took < 15, took
        began = time.monotonic()
        tracker.shutdown(5)
        assert time.monotonic() - began < 5
    """
    sink.fail("webhook", Fault.status(503, times=2), Fault.throttled(1))
    environ = {**sink.environ("webhook"), "AGENT_TRACKING_PROVIDERS": "webhook"}
    finished = kit.python(source, environ)
    assert finished.returncode == 0, finished.stderr
    events = sink.events("webhook")
    assert sorted(kit.serial(event) for event in events) == list(range(204))
    days = Counter(event["timestamp"][:10] for event in events)
    assert len(days) >= 3, "a time is the one at which it was tracked"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_one_threads_records_keep_their_order_over_retries_and_splits(rig, sink, kit, provider):
    one = rig((provider,), environ={"AGENT_TRACKING_FLUSH_AT": "10"})
    one.fail(Fault.status(503, times=2), Fault.lost_answer(), Fault.too_large(6_000))
    for start in range(5):
        for number in range(100):
            one.tracker.track("order paid", {"n": start * 100 + number}, user_id="u")
        one.tracker.hurry()
    assert one.tracker.flush(20)
    serials = [kit.serial(event) for event in sink.events(provider)]
    assert serials == list(range(500))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_identity_comes_before_the_event_tracked_after_it_also_when_it_is_sent_again(
    rig, sink, kit, provider
):
    one = rig((provider,), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    one.fail(Fault.status(503, times=2))
    one.tracker.identify("u-1", {"n": 0})
    one.tracker.track("order paid", {"n": 1}, user_id="u-1")
    assert one.tracker.flush(20)
    assert [kit.serial(event) for event in sink.events(provider)] == [0, 1]


def test_a_judge_that_raises_costs_the_records_of_that_request_only(rig, sink):
    """What other requests of the same batch delivered stays delivered."""

    class Fragile(Plain):
        name = "fragile"
        seen = 0

        def judge(self, response, batch):
            self.seen += 1
            if self.seen == 2:
                raise ValueError("no such answer is known")
            return super().judge(response, batch)

    sink.add_backend("fragile", _backend())
    one = rig((), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    provider = Fragile({})
    provider.url = f"{sink.url}/fragile"
    provider.endpoints = (type(provider.endpoints[0])(records=10),)
    one.tracker.register_provider(provider)
    for number in range(30):
        one.tracker.track("order paid", {"n": number})
    assert one.tracker.flush(20).dropped == {"provider-error": 10}
    assert one.tracker.stats().providers["fragile"].delivered == 20


def test_a_hook_that_asks_for_later_is_handed_the_same_records_by_the_same_policy(rig):
    class Later:
        name = "later"

        def __init__(self):
            self.seen = []

        def track(self, event):
            self.seen.append(event.message_id)
            raise RetryLater

    one, provider = rig((), retry=RetryPolicy(first=0.01, longest=0.02, tries=3, window=0.0)), Later()
    one.tracker.register_provider(provider)
    one.tracker.track("order paid", {"n": 1})
    assert one.tracker.flush(20).dropped == {"gave-up": 1}
    assert len(provider.seen) == 3
    assert len(set(provider.seen)) == 1


def test_the_policys_longest_wait_bounds_the_time_that_a_provider_names():
    class Own(Plain):
        def judge(self, response, batch):
            return Delivered() if response.status == 200 else Retry(after=3600.0)

    class Canned:
        def __init__(self):
            self.answers = iter([Response(429), Response(200)])

        def send(self, request):
            return next(self.answers)

    provider, pauses = Own({}), []
    provider.bind(
        Outbox(
            provider,
            Canned(),
            lambda seconds: pauses.append(seconds) or True,
            policy=RetryPolicy(longest=7.0),
        )
    )
    provider.track(TrackingEvent(name="e", message_id="e", time=0.0, properties_json=b'{"n":1}'))
    provider.flush()
    assert pauses == [7.0]
