"""While one provider suffers, the others' records arrive as ever and the caller notices nothing."""

from __future__ import annotations

import statistics
import time

import pytest

from agent_tracking.testing import Fault

VICTIM, OTHERS = "posthog", ("mixpanel", "amplitude", "webhook")
FAULTS = {
    "refuses for ever": Fault.status(503, times=None),
    "throttles": Fault.throttled(30, times=None),
    "never answers": Fault.hang(times=None),
    "answers byte by byte": Fault.trickle(0.2, headers=True, times=None),
    "answers late": Fault.delay(3, times=None),
    "resets": Fault.reset("middle", times=None),
    "loses its answers": Fault.lost_answer(times=None),
    "refuses batches": Fault.status(400, times=None),
    "answers with a bomb": Fault.huge(50_000_000, gzip=True, times=None),
}
PROBES = 40


def probe(one, first):
    """Track probes at a steady pace; return how long each call took and when it was made."""
    calls, at = [], {}
    for number in range(first, first + PROBES):
        at[number] = time.monotonic()
        began = time.perf_counter()
        one.tracker.track("probe", {"n": number}, user_id="u")
        calls.append(time.perf_counter() - began)
        time.sleep(0.01)
    return calls, at


def arrivals(one, kit, at):
    """Return by provider the seconds between each call and its arrival."""
    found = {}
    for name in OTHERS:
        assert one.sink.wait(lambda name=name: one.sink.totals(name).counted >= max(at) + 1, 30)
        serials = {key: kit.serial(event) for key, event in keyed(one.sink, name).items()}
        when = {
            serials[key]: request.at
            for request in one.sink.requests(name)
            for key in request.kept
            if serials[key] in at
        }
        found[name] = [when[number] - moment for number, moment in at.items()]
    return found


def keyed(sink, name):
    return dict(zip(sink.ledger[name].accepted_keys(), sink.events(name), strict=True))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_others_arrival_times_do_not_change_while_one_suffers(rig, kit, fault):
    one = rig(retry=kit.patient, environ={"AGENT_TRACKING_FLUSH_INTERVAL": "0.05"})
    _, before = probe(one, 0)
    control = arrivals(one, kit, before)
    one.sink.fail(VICTIM, FAULTS[fault])
    _, during = probe(one, PROBES)
    suffered = arrivals(one, kit, during)
    assert one.sink.wait(lambda: any(request.fault for request in one.sink.requests(VICTIM)), 20)
    for name in OTHERS:
        assert statistics.median(suffered[name]) <= 4 * statistics.median(control[name])
        assert max(suffered[name]) <= 8 * max(control[name])


@pytest.mark.parametrize("fault", ["never answers", "refuses for ever", "answers with a bomb"])
def test_the_callers_calls_stay_as_short_while_a_backend_suffers(rig, kit, fault):
    one = rig((VICTIM,), retry=kit.patient, environ={"AGENT_TRACKING_FLUSH_INTERVAL": "0.01"})
    probe(one, 0)
    control = timed(one)
    one.sink.fail(VICTIM, FAULTS[fault])
    one.tracker.hurry()
    one.tracker.track("order paid", {"n": 0}, user_id="u")
    assert one.sink.wait(lambda: any(request.fault for request in one.sink.requests(VICTIM)), 20)
    suffering = timed(one)
    assert percentile(suffering) <= 10 * percentile(control)
    assert max(suffering) <= max(20 * max(control), 0.25)


def timed(one, calls=2000):
    """Return the seconds of each call at a thousand a second."""
    found = []
    for number in range(calls):
        began = time.perf_counter()
        one.tracker.track("order paid", {"n": number}, user_id="u")
        found.append(time.perf_counter() - began)
        if number % 10 == 9:
            time.sleep(0.005)
    return found


def percentile(seconds):
    return statistics.quantiles(seconds, n=1000)[-10]
