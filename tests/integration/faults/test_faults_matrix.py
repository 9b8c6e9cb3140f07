"""The fault matrix: every fault with every provider, over real HTTP, 500 records each.

Where a fault passes within the retry window nothing is lost and nothing counts twice; where it does not,
every record is accounted for by a reason.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent_tracking.testing import Fault, Sink, refused_url, tls_sink, unresolvable_url

PROVIDERS = ("posthog", "mixpanel", "amplitude", "webhook")
POISON = (7, 8, 333)


@dataclass(frozen=True)
class Case:
    """A fault and how it is met."""

    faults: tuple[Fault, ...] = ()
    #: Seconds of one request's deadline; short where it is the deadline that ends the fault.
    total: float = 10.0
    #: Also with one record a request.
    objects: bool = False
    #: Done once the first request of each provider has come.
    meanwhile: Callable[[Any], None] | None = None
    #: By provider, the reasons of what was dropped; "" stands for the others.
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    url: str = ""
    poison: tuple[int, ...] = ()


def _clear(rig: Any) -> None:
    rig.sink.clear()


PASSING = {
    "status 500 three times": Case((Fault.status(500, times=3),), objects=True),
    "status 502 three times": Case((Fault.status(502, times=3),)),
    "status 503 three times": Case((Fault.status(503, times=3),)),
    "status 504 three times": Case((Fault.status(504, times=3),)),
    "status 503 although all was kept": Case((Fault.status(503, times=2, kept=True),)),
    "status 408 twice": Case((Fault.request_timeout(times=2),)),
    "status 429 with seconds": Case((Fault.throttled(1),)),
    "status 429 with a date": Case((Fault.throttled(1, as_date=True),)),
    "status 413 above 1000 bytes": Case((Fault.too_large(1_000),)),
    "an answer after a while": Case((Fault.delay(0.5, times=2),)),
    "no answer until cleared": Case((Fault.hang(times=None),), meanwhile=_clear),
    "no answer until the deadline": Case((Fault.hang(times=1, kept=True),), total=0.5),
    "a body byte by byte": Case((Fault.trickle(0.3),), total=0.5),
    "headers byte by byte": Case((Fault.trickle(0.1, headers=True),), total=0.3),
    "a reset before the answer": Case((Fault.reset("before", times=2),)),
    "a reset in the middle of the answer": Case((Fault.reset("middle", times=2),)),
    "a reset after the answer": Case((Fault.reset("after", times=2),)),
    "kept and the answer lost": Case((Fault.lost_answer(times=3),), objects=True),
    "closed without an answer": Case((Fault.disconnect(times=2),)),
    "closed without notice between requests": Case(
        (Fault.closed_afterwards(times=2), Fault.disconnect()), objects=True
    ),
    "an answer of 50 MB": Case((Fault.huge(50_000_000),)),
    "a gzip bomb for an answer": Case((Fault.huge(50_000_000, gzip=True),)),
}

LASTING = {
    "one of the records is poison": Case(
        (Fault.poison(),), poison=POISON, objects=True, dropped={"": {"rejected": len(POISON)}}
    ),
    "status 503 for ever": Case((Fault.status(503, times=None),), dropped={"": {"gave-up": 500}}),
    "no answer for ever": Case((Fault.hang(times=None),), total=0.2, dropped={"": {"gave-up": 500}}),
    "a key that is not valid": Case(
        (Fault.unauthorized(times=None),), dropped={"": {"stopped": 500}, "webhook": {"rejected": 500}}
    ),
    "redirects": Case((Fault.redirect(times=None),), dropped={"": {"redirect": 500}}),
    "status 404": Case((Fault.status(404, times=None),), dropped={"": {"rejected": 500}}),
    "status 413 whatever the size": Case((Fault.too_large(0),), dropped={"": {"too-large": 500}}),
    "a refused connection": Case(url=refused_url(), dropped={"": {"gave-up": 500}}),
    "a name that does not resolve": Case(url=unresolvable_url(), dropped={"": {"gave-up": 500}}),
}


@pytest.fixture(scope="module")
def ran(kit) -> Callable[[str, Case], dict[str, Any]]:
    """Runs a case once for all providers together, and returns the account of each."""
    runs: dict[str, dict[str, Any]] = {}

    def run(name: str, case: Case) -> dict[str, Any]:
        if name not in runs:
            runs[name] = _run(kit, case)
        return runs[name]

    return run


def _run(kit: Any, case: Case) -> dict[str, Any]:
    names = (*PROVIDERS, "webhook-object") if case.objects else PROVIDERS
    lasting = bool(case.dropped) and not case.poison
    retry = kit.impatient if lasting else kit.patient
    with Sink() as sink, kit.rig(sink, names, url=case.url, retry=retry, total=case.total) as rig:
        rig.fail(*case.faults)
        rig.track_together(poison=case.poison)
        if case.meanwhile is not None:
            rig.tracker.hurry()
            assert sink.wait(lambda: all(sink.totals(name).requests for name in names), 20)
            case.meanwhile(rig)
        rig.tracker.flush(40)
        return {name: rig.account(name) for name in names}


def _cells(cases: dict[str, Case]) -> list[Any]:
    return [
        pytest.param(fault, provider, id=f"{fault}-{provider}")
        for fault, case in cases.items()
        for provider in ((*PROVIDERS, "webhook-object") if case.objects else PROVIDERS)
    ]


@pytest.mark.parametrize(("fault", "provider"), _cells(PASSING))
def test_a_fault_that_passes_loses_nothing_and_counts_nothing_twice(ran, fault, provider):
    account = ran(fault, PASSING[fault])[provider]
    assert account.faults
    assert account.lost == set()
    assert account.twice == []
    assert (account.accepted, account.delivered, account.dropped, account.waiting) == (500, 500, {}, 0)


@pytest.mark.parametrize(("fault", "provider"), _cells(LASTING))
def test_a_fault_that_does_not_pass_accounts_for_every_record_by_its_reason(ran, fault, provider):
    case = LASTING[fault]
    account = ran(fault, case)[provider]
    dropped = case.dropped.get(provider, case.dropped[""])
    assert account.faults or case.url
    assert account.dropped == dropped
    assert account.waiting == 0
    assert account.accepted == 500 == account.delivered + sum(dropped.values())
    assert account.twice == []
    assert account.lost == (set(case.poison) if case.poison else set(range(500)))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_web_page_with_status_200_is_no_delivery_except_to_a_webhook(ran, provider):
    account = ran("html", Case((Fault.html(times=2),)))[provider]
    assert (account.accepted, account.delivered, account.waiting) == (500, 500, 0)
    if provider == "webhook":  # any 2xx is a receiver's yes: what it did with the records is its own affair
        assert account.lost
        assert account.retried == 0
    else:
        assert account.lost == set()
    assert account.twice == []


@pytest.fixture(scope="module")
def came_up(kit) -> dict[str, Any]:
    """Starts the backend on a port that refused connections until then."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with Sink() as elsewhere, kit.rig(elsewhere, url=f"http://127.0.0.1:{port}") as rig:
            rig.track()
            rig.tracker.hurry()
            kit.until(lambda: all(stats.retried for stats in rig.tracker.stats().providers.values()))
            taken.close()
            with Sink(port=port) as sink:
                rig.sink = sink
                rig.tracker.flush(40)
                return {name: rig.account(name) for name in PROVIDERS}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_backend_that_comes_up_late_gets_everything_once(came_up, provider):
    account = came_up[provider]
    assert (account.delivered, account.dropped, account.waiting) == (500, {}, 0)
    assert (account.lost, account.twice) == (set(), [])


@pytest.fixture(scope="module")
def distrusted(kit) -> dict[str, Any]:
    """Runs against a certificate that nobody trusts."""
    with tls_sink() as sink, kit.rig(sink, retry=kit.impatient) as rig:
        rig.track()
        rig.tracker.flush(40)
        return {name: rig.account(name) for name in PROVIDERS}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_certificate_that_is_not_trusted_gets_nothing_and_every_record_is_accounted_for(
    distrusted, provider
):
    account = distrusted[provider]
    assert account.requests == 0
    assert (account.accepted, account.delivered, account.dropped) == (500, 0, {"gave-up": 500})
    assert account.waiting == 0


def test_a_redirect_is_not_followed(kit, sink):
    with kit.rig(sink) as rig:
        rig.fail(Fault.redirect(times=None))
        rig.track()
        rig.tracker.flush(20)
        assert all(sink.totals(name).requests for name in PROVIDERS)
        assert sink.requests("elsewhere") == []
