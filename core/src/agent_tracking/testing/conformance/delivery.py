"""Through a real tracker: everything comes once, flush ends, forks are survived."""

from __future__ import annotations

import time
from pathlib import Path

from agent_tracking.testing.conformance import processes, records
from agent_tracking.testing.conformance.base import Kit, needs
from agent_tracking.testing.conformance.bench import FIRST_IDENTITY, Bench
from agent_tracking.testing.faults import Fault

__all__ = ["DeliveryTests"]

#: Seconds by which a busy machine may be late.
_LATE = 3.0
_POINT = "conformance-probe"


class DeliveryTests(Kit):
    """What an application sees of the provider."""

    def test_everything_is_delivered_once(self, bench: Bench) -> None:
        """In fair weather each event, and each identity, comes once; nothing is dropped or tried twice.

        If it fails: the message says what is missing. Events are found again by a property of theirs,
        so properties must arrive; a provider that is not HTTP says by ``delivered`` what has come.
        """
        bench.start()
        bench.track(60)
        expected = list(range(60))
        if self.capabilities.identities:
            bench.identify(3)
            merge = {"anonymous_id": "anon-merge", "message_id": records.message_id(FIRST_IDENTITY + 50)}
            bench.tracker.identify("user-merge", {"plan": "pro"}, **merge)
            if bench.http:
                expected += range(FIRST_IDENTITY, FIRST_IDENTITY + 3)
        bench.settle()
        if bench.http:
            refused = [request for request in bench.requests() if not 200 <= request.status < 300]
            self.hold_nothing(refused, "the backend refused requests in fair weather")
        stats = bench.stats()
        self.hold(stats.retried == 0, f"{stats.retried} records were sent again in fair weather")
        bench.check_account(expected, more=True)
        self.hold(stats.delivered == stats.accepted, f"{stats.delivered} of {stats.accepted} are delivered")

    @needs("http", "dedup")
    def test_the_backend_sees_the_message_ids_as_keys(self, bench: Bench) -> None:
        """What the backend takes for the key of an event is its message id.

        If it fails: send the id in the field that the backend reads; or correct ``make_backend``, whose
        ``key`` says which field that is.
        """
        bench.start()
        bench.track()
        bench.settle()
        keys = {key for request in bench.requests() for key in request.keys}
        missing = [serial for serial in range(12) if records.message_id(serial) not in keys]
        self.hold_nothing(missing, "events whose key is not their message id")

    def test_a_second_flush_sends_nothing_again(self, bench: Bench) -> None:
        """What was delivered is forgotten; later events come alone.

        If it fails: empty the buffer before you deliver it.
        """
        tracker = bench.start()
        for start in (0, 6):
            bench.track(6, start)
            bench.settle()
            self.hold(tracker.flush(5), "a flush without anything to do says that something is left")
        bench.check_account(range(12))

    def test_two_of_it_share_nothing(self, bench: Bench) -> None:
        """A second provider of the class, in a second tracker, gets its own records only.

        If it fails: keep what is buffered in ``self``, set by ``configure``: not on the class, in the
        module or in a default argument.
        """
        bench.start()
        bench.track(6)
        first = bench.tracker
        bench.start()
        bench.track(6, 6)
        bench.settle()
        first.flush(10)
        first.shutdown(1)
        arrived = bench.arrived(range(12))
        self.hold_nothing(
            [serial for serial in range(12) if arrived[serial] != 1], "lost or twice, by number"
        )

    @needs("http")
    def test_flush_is_bounded_while_the_backend_hangs(self, bench: Bench) -> None:
        """``flush(0.5)`` returns in time though no answer comes, and says what waits; later it comes.

        If it fails: do not send, wait or retry in the provider: the core does.
        """
        tracker = bench.start()
        bench.fail(Fault.hang(times=None))
        bench.track()
        began = time.monotonic()
        result = tracker.flush(0.5)
        seconds = time.monotonic() - began
        self.hold(seconds < 0.5 + _LATE, f"flush(0.5) took {seconds:.1f} s")
        self.hold(result.waiting or not self.capabilities.retry, "flush(0.5) says that nothing waits")
        bench.sink.clear()
        bench.settle()
        if self.capabilities.retry:
            bench.check_account(range(12))

    @needs("http")
    def test_shutdown_is_bounded_while_the_backend_hangs(self, bench: Bench) -> None:
        """``shutdown(0.5)`` returns in time though no answer comes, and counts what was given up.

        If it fails: see the test above.
        """
        tracker = bench.start()
        bench.fail(Fault.hang(times=None))
        bench.track()
        began = time.monotonic()
        tracker.shutdown(0.5)
        seconds = time.monotonic() - began
        self.hold(seconds < 0.5 + _LATE, f"shutdown(0.5) took {seconds:.1f} s")
        self.hold(bench.stats().dropped == {"shutdown": 12}, f"counted as {bench.stats().dropped}")

    @needs("plain", "retry")
    def test_what_an_outage_held_up_is_delivered_when_it_is_over(self, bench: Bench) -> None:
        """While ``outage`` lasts nothing is dropped; afterwards everything comes, once.

        If it fails: let ``OSError`` through, or raise ``RetryLater``; then the same records are handed
        over again, so keep none of them. Or declare ``Capabilities(retry=False)``.
        """
        tracker = bench.start()
        with self.outage(bench.place):
            bench.track()
            began = time.monotonic()
            result = tracker.flush(0.05)
            self.hold(time.monotonic() - began < _LATE, "flush(0.05) does not end during the outage")
            self.hold(not result.dropped, f"dropped: {result.dropped} ({bench.stats().last_error})")
        bench.settle()
        bench.check_account(range(12))

    def test_parent_and_child_of_a_fork_deliver_their_own(self, bench: Bench, tmp_path: Path) -> None:
        """Found by its entry point, used, forked with records waiting: all come once, none twice.

        If it fails: open connections and files at the first record, not in ``configure`` and not at the
        module's level; keep no lock or thread that a child would miss.
        """
        site = tmp_path / "site"
        folder = site / "conformance_probe-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_POINT}\nVersion: 1.0\n")
        place = f"{self.provider.__module__}:{self.provider.__qualname__}"
        (folder / "entry_points.txt").write_text(f"[agent_tracking.providers]\n{_POINT} = {place}\n")
        environ = bench.environ
        found = processes.run(
            self, "forks", environ, path=str(site), **environ, AGENT_TRACKING_PROVIDERS=_POINT
        )
        state = found["states"].get(_POINT, "not found")
        self.hold(state.startswith("active"), f"found by its entry point it is {state}")
        self.hold(found["first"] and found["last"], "the parent did not deliver")
        self.hold(found["child"] == 0, "the child did not deliver")
        wanted = [*range(15), *range(100, 105)]
        arrived = bench.arrived(wanted)
        self.hold_nothing([n for n in wanted if not arrived[n]], "lost by a fork, by number")
        self.hold_nothing([n for n in wanted if arrived[n] > 1], "twice by a fork, by number")
        if bench.http and self.capabilities.dedup:
            twice = bench.sink.ledger[bench.name].arrived_twice()
            self.hold_nothing(twice, "sent twice by a fork")

    @needs("plain")
    def test_a_child_does_not_deliver_what_its_parent_has_buffered(self, bench: Bench) -> None:
        """A new provider in a forked child begins empty.

        If it fails: keep what is buffered in ``self``, not on the class or in the module.
        """
        found = processes.run(self, "buffers", bench.environ)
        self.hold(found["child"] == 0, "the child did not deliver")
        arrived = bench.arrived([1, 2])
        self.hold(arrived == {1: 1, 2: 1}, f"came, by number: {dict(arrived)}")
