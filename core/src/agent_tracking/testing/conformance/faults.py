"""Faults of the backend, over real HTTP: each is survived as claimed, or accounted for by its reason."""

from __future__ import annotations

import pytest

from agent_tracking.testing.conformance import records
from agent_tracking.testing.conformance.base import Kit, needs
from agent_tracking.testing.conformance.bench import IMPATIENT, Bench
from agent_tracking.testing.elsewhere import refused_url
from agent_tracking.testing.faults import Fault

__all__ = ["FaultTests"]

#: After these nothing was kept.
_REFUSING = {
    "500": Fault.status(500, times=2),
    "502": Fault.status(502, times=2),
    "503": Fault.status(503, times=2),
    "504": Fault.status(504, times=2),
    "408": Fault.request_timeout(times=2),
    "429": Fault.throttled(0, times=2),
    "a web page with 503": Fault.html(503),
    "reset": Fault.reset("before", times=2),
    "closed": Fault.disconnect(times=2),
}
#: After these the records were kept, which the sender cannot know: only a key lets them count once.
_KEEPING = {
    "503 though all was kept": Fault.status(503, kept=True),
    "the answer is lost": Fault.lost_answer(times=2),
    "reset in the middle of the answer": Fault.reset("middle"),
    "closed though all was kept": Fault.disconnect(kept=True),
}
#: These pass with the deadline of one request.
_SLOW = {
    "no answer": Fault.hang(),
    "no answer though all was kept": Fault.hang(kept=True),
}
_HUGE = {"huge": Fault.huge(5_000_000), "gzip": Fault.huge(5_000_000, gzip=True)}


class FaultTests(Kit):
    """Twelve events and two identities meet a fault."""

    def _run(self, bench: Bench, *faults: Fault, total: float = 10.0) -> None:
        bench.start(total=total)
        bench.fail(*faults)
        bench.track()
        bench.settle()
        met = any(request.fault for request in bench.requests())
        self.hold(met, "no request met the fault: is make_environ's place where it sends?")

    @needs("http", "retry")
    @pytest.mark.parametrize("fault", _REFUSING.values(), ids=_REFUSING)
    def test_a_fault_that_passes_loses_nothing(self, bench: Bench, fault: Fault) -> None:
        """A backend that fails twice and then works gets everything once.

        If it fails: leave 408, 429 and 5xx to ``super().judge()``.
        """
        self._run(bench, fault)
        bench.check_account(range(12))

    @needs("http", "retry", "identities")
    def test_a_fault_that_passes_loses_no_identity(self, bench: Bench) -> None:
        """The same holds for identities, which may go to an address of their own.

        If it fails: see the test above; judge the answers of every endpoint.
        """
        bench.start()
        bench.fail(Fault.status(503, times=2), Fault.disconnect())
        bench.identify(3)
        bench.settle()
        bench.check_account(range(900, 903))

    @needs("http", "retry", "dedup")
    @pytest.mark.parametrize("fault", _KEEPING.values(), ids=_KEEPING)
    def test_what_was_kept_before_a_retry_counts_once(self, bench: Bench, fault: Fault) -> None:
        """Where only the answer was lost the records come twice, and the backend counts them once.

        If it fails: the deduplication key must be the record's message id, on every try.
        """
        self._run(bench, fault)
        bench.check_account(range(12))
        self.hold(bench.stats().retried, "nothing was sent again")

    @needs("http", "retry", "dedup")
    @pytest.mark.parametrize("fault", _SLOW.values(), ids=_SLOW)
    def test_a_request_without_an_answer_is_sent_again(self, bench: Bench, fault: Fault) -> None:
        """An answer that does not come in time is none.

        If it fails: see the tests above; the deadline is the core's.
        """
        self._run(bench, fault, total=0.3)
        bench.check_account(range(12))

    @needs("http")
    @pytest.mark.parametrize("fault", _HUGE.values(), ids=_HUGE)
    def test_an_endless_answer_does_no_harm(self, bench: Bench, fault: Fault) -> None:
        """At most 64 KiB of an answer are read, and ``judge`` copes with what is left.

        If it fails: expect a body that is cut off, or not text.
        """
        self._run(bench, fault)
        stats = bench.stats()
        self.hold("provider-error" not in stats.dropped, f"judge() raised: {stats.last_error}")
        self.hold_nothing(
            sorted(set(range(12)) - bench.arrived(range(12)).keys()), "records were lost, by number"
        )

    @needs("http", "own_answers")
    def test_a_captive_portal_is_no_delivery(self, bench: Bench) -> None:
        """A web page with status 200 is not the backend: everything is sent again.

        If it fails: see ``test_a_success_in_other_words_is_no_delivery``.
        """
        self._run(bench, Fault.html(200, times=2))
        bench.check_account(range(12))

    @needs("http", "split")
    def test_a_batch_that_is_too_large_is_sent_in_parts(self, bench: Bench) -> None:
        """After 413 all events come, in smaller requests; only one that is too large by itself is dropped.

        If it fails: leave 413 to ``super().judge()``.
        """
        provider = bench.provider()
        name = records.payloads(provider, records.ordinary()[0])[0].endpoint or provider.endpoints[0].name
        single = len(provider.request(name, records.payloads(provider, records.ordinary()[0])).body)
        bench.start()
        bench.fail(Fault.too_large(single + 1_000))
        bench.track(12, extra={5: {f"text{number}": "x" * 200 for number in range(20)}})
        bench.settle()
        bench.check_account([serial for serial in range(12) if serial != 5], {"too-large": 1}, more=True)

    @needs("http", "partial_failure")
    @pytest.mark.parametrize("bad", [[0], [3, 4, 11]], ids=["the first", "three of them"])
    def test_a_record_that_is_refused_costs_no_other(self, bench: Bench, bad: list[int]) -> None:
        """Of a batch with bad events all others come, once; only what was not taken is sent again.

        If it fails: read which records the answer names (``Drop(indexes, rest=...)``, where ``rest`` is
        what becomes of the others), or return ``Split()`` where it names none.
        """
        bench.start()
        bench.fail(Fault.poison())
        bench.track(12, extra={serial: {"poison": True} for serial in bad})
        bench.settle()
        good = [serial for serial in range(12) if serial not in bad]
        bench.check_account(good, {"rejected": len(bad)}, more=True)
        twice = bench.sink.ledger[bench.name].accepted_twice()
        self.hold_nothing(twice, "records that had been taken were sent again")

    @needs("http", "stops")
    def test_a_wrong_key_stops_it(self, bench: Bench) -> None:
        """One request, then no more: the provider is listed as failed with the reason and the fix.

        If it fails: return ``Stop(reason, fix)`` for the backend's answer to a wrong key. If such an
        answer says nothing about later requests, declare ``Capabilities(stops=False)``.
        """
        bench.start()
        bench.fail(Fault.unauthorized(times=None))
        bench.track()
        bench.settle()
        bench.check_account([], {"stopped": 12}, more=True)
        self.hold(len(bench.requests()) == 1, f"{len(bench.requests())} requests with a wrong key")
        record = bench.record()
        self.hold(str(record.state) == "failed" and "stopped" in record.reason, f"it is {record.state}")
        self.hold(record.fix, "the listing says nothing of what to do")

    @needs("http")
    @pytest.mark.parametrize(
        ("fault", "reason"),
        [(Fault.redirect(times=None), "redirect"), (Fault.status(404, times=None), "rejected")],
        ids=["redirect", "404"],
    )
    def test_what_no_retry_changes_is_dropped_and_counted(
        self, bench: Bench, fault: Fault, reason: str
    ) -> None:
        """A redirect is not followed, a wrong address not tried again: each record is counted, by reason.

        If it fails: leave 3xx and 404 to ``super().judge()``.
        """
        bench.start()
        bench.fail(fault)
        bench.track()
        bench.settle()
        bench.check_account([], {reason: 12}, more=True)
        keys = [key for request in bench.requests() for key in request.keys]
        self.hold(len(keys) == len(set(keys)), "records were sent again")
        self.hold(not bench.sink.requests("elsewhere"), "a redirect was followed")

    @needs("http", "retry")
    def test_a_lasting_failure_is_given_up_and_counted(self, bench: Bench) -> None:
        """When the retry window is over each record is dropped and counted as ``gave-up``.

        If it fails: do not count tries in the provider.
        """
        bench.start(IMPATIENT)
        bench.fail(Fault.status(503, times=None))
        bench.track()
        bench.settle()
        bench.check_account([], {"gave-up": 12}, more=True)

    @needs("http", "retry")
    def test_a_backend_that_is_down_is_given_up_and_counted(self, bench: Bench) -> None:
        """A refused connection is retried, then given up; the provider raises nothing.

        If it fails: do not connect in the provider.
        """
        environ = {
            name: value.replace(bench.sink.url, refused_url()) for name, value in bench.environ.items()
        }
        bench.start(IMPATIENT, environ=environ)
        bench.track()
        bench.settle()
        bench.check_account([], {"gave-up": 12}, more=True)
