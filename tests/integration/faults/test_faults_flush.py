"""flush() and shutdown() while backends fail: in time, and they name who is behind."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent_tracking import Response
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.delivery.http import HTTPSender
from agent_tracking.testing import Fault

#: On a busy machine a thread may get its turn so much later.
SLACK = 1.0
FAULTS = {
    "never answers": Fault.hang(times=None),
    "refuses": Fault.status(503, times=None),
    "asks for five minutes": Fault.throttled(300, times=None),
    "resets": Fault.reset(times=None),
    "answers byte by byte": Fault.trickle(1, headers=True, times=None),
}


def timed(call):
    began = time.monotonic()
    result = call()
    return result, time.monotonic() - began


class Stuck:
    """Sends nothing: as if the resolver did not come back, which no deadline and no signal ends."""

    def __init__(self):
        self.lookups = 0
        self.let_go = threading.Event()

    def send(self, request):
        self.lookups += 1
        self.let_go.wait(60)
        return Response(200, {}, b'{"status":"Ok"}')

    def enforce(self, now):
        pass

    def close(self):
        pass


@pytest.mark.parametrize("fault", FAULTS)
def test_flush_ends_at_its_timeout_and_names_the_providers_that_are_behind(rig, kit, fault):
    one = rig(total=30.0, retry=RetryPolicy())
    one.fail(FAULTS[fault], names=["posthog", "amplitude"])
    one.track(60)
    one.tracker.hurry()
    kit.until(
        lambda: all(one.tracker.stats().providers[name].delivered == 60 for name in ("mixpanel", "webhook"))
    )
    result, seconds = timed(lambda: one.tracker.flush(0.5))
    assert seconds < 0.5 + SLACK
    assert not result
    assert result.waiting.keys() == {"posthog", "amplitude"}
    assert set(result.waiting.values()) <= set(range(1, 61))


def test_flush_is_true_only_after_a_slow_backend_has_answered(rig):
    one = rig()
    one.fail(Fault.delay(1.0))
    one.track(40)
    result, seconds = timed(lambda: one.tracker.flush(20))
    assert result
    assert seconds >= 1.0
    assert all(one.account(name).delivered == 40 for name in one.names)


def test_flush_from_many_threads_ends_at_its_timeout_in_each(rig):
    one = rig(total=30.0)
    one.fail(Fault.hang(times=None))
    one.track(60)
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: timed(lambda: one.tracker.flush(0.5)), range(8)))
    assert all(not result and seconds < 0.5 + SLACK for result, seconds in runs)


def test_flush_from_async_code_ends_at_its_timeout_and_does_not_block_the_loop(rig):
    one = rig(("posthog",), total=30.0)
    one.fail(Fault.hang(times=None))
    one.track(60)

    async def both():
        ticks = 0
        flush = asyncio.ensure_future(one.tracker.aflush(0.5))
        while not flush.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return await flush, ticks

    (result, ticks), seconds = timed(lambda: asyncio.run(both()))
    assert not result
    assert seconds < 0.5 + SLACK
    assert ticks > 5


def test_flush_without_a_timeout_has_a_finite_one(rig):
    from agent_tracking.tracker import FLUSH_SECONDS

    one = rig(("posthog",), retry=RetryPolicy(first=0.01, longest=0.02, tries=3, window=1.0))
    one.fail(Fault.status(503, times=None))
    one.track(10)
    result, seconds = timed(one.tracker.flush)
    assert seconds < FLUSH_SECONDS + SLACK
    assert result.dropped == {"gave-up": 10}


@pytest.mark.parametrize("fault", FAULTS)
def test_shutdown_interrupts_every_wait_and_accounts_for_what_is_left(rig, fault, kit):
    one = rig(("posthog", "webhook"), total=30.0, retry=RetryPolicy())
    one.sink.fail("posthog", FAULTS[fault])
    one.track(60)
    one.tracker.hurry()
    assert one.sink.wait(
        lambda: one.sink.totals("posthog").requests and one.sink.totals("webhook").counted == 60
    )
    kit.until(lambda: one.tracker.stats().providers["webhook"].delivered == 60)
    result, seconds = timed(lambda: one.tracker.shutdown(1))
    assert seconds < 1 + SLACK
    assert result.dropped == {"shutdown": 60}
    stats = one.tracker.stats().providers
    assert (stats["posthog"].accepted, stats["posthog"].waiting) == (60, 0)
    assert stats["webhook"].delivered == 60


def test_503_with_a_retry_after_of_five_minutes_does_not_hold_up_a_shutdown(rig):
    one = rig(retry=RetryPolicy())
    one.fail(Fault.status(503, times=None, headers={"Retry-After": "300"}))
    one.track(60)
    one.tracker.hurry()
    assert one.sink.wait(lambda: all(one.sink.totals(name).requests for name in one.names))
    result, seconds = timed(lambda: one.tracker.shutdown(1))
    assert seconds < 1 + SLACK
    assert result.dropped == {"shutdown": 240}


def test_a_resolver_that_hangs_delays_neither_flush_nor_shutdown_and_costs_one_thread(rig, kit):
    resolver = Stuck()
    one = rig(("posthog",), sender=lambda: resolver, retry=kit.patient)
    one.track(60)
    result, seconds = timed(lambda: one.tracker.flush(0.5))
    assert (bool(result), result.waiting) == (False, {"posthog": 60})
    assert seconds < 0.5 + SLACK
    threads = threading.active_count()
    for _ in range(5):
        one.track(60)
        assert timed(lambda: one.tracker.flush(0.1))[1] < 0.1 + SLACK
    assert threading.active_count() <= threads
    assert resolver.lookups == 1
    result, seconds = timed(lambda: one.tracker.shutdown(0.5))
    assert seconds < 0.5 + SLACK
    assert result.dropped == {"shutdown": 360}
    resolver.let_go.set()


def test_a_resolver_that_hangs_for_one_provider_holds_up_no_other(rig):
    resolver = Stuck()
    senders = iter([resolver])
    one = rig(("posthog",), sender=lambda: next(senders, None) or HTTPSender())
    one.track(10)
    assert not one.tracker.flush(0.2)
    one.register("webhook")
    one.track(60)
    assert one.tracker.flush(0.5).waiting == {"posthog": 70}
    assert one.account("webhook").delivered == 60
    resolver.let_go.set()


def test_the_process_ends_in_time_while_the_resolver_hangs(kit):
    """With the real transport: the name is looked up on the lane's thread, which nothing can interrupt."""
    source = """
        import socket, time
        lookups = []
        def getaddrinfo(host, *args, **kwargs):
            lookups.append(host)
            time.sleep(120)
        socket.getaddrinfo = getaddrinfo
        from agent_tracking import track, flush
        track("order paid", {"n": 1})
        deadline = time.monotonic() + 20
        while not lookups and time.monotonic() < deadline:
            assert not flush(0.2)
        assert not flush(0.5)
        assert lookups == ["hooks.example"], lookups
    """
    environ = {
        "TRACKING_WEBHOOK_URL": "http://hooks.example/",
        "AGENT_TRACKING_PROVIDERS": "webhook",
        "AGENT_TRACKING_SHUTDOWN_TIMEOUT": "1",
    }
    finished, seconds = timed(lambda: kit.python(source, environ))
    assert finished.returncode == 0, finished.stderr
    assert "not delivered: webhook: 1" in finished.stderr
    assert seconds < 30


def test_a_long_wait_is_cut_short_for_a_last_try_when_the_process_ends(rig):
    one = rig(("posthog",), retry=RetryPolicy())
    one.fail(Fault.throttled(300))
    one.track(60)
    one.tracker.hurry()
    assert one.sink.wait(lambda: one.sink.totals("posthog").requests)
    result, seconds = timed(lambda: one.tracker.shutdown(4))
    assert result
    assert seconds < 4
    assert one.account("posthog").delivered == 60
