"""A tracker with a spool, as an application uses it: in the process that delivers, and in one that only writes."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agent_tracking import ProviderState, Reject, RetryLater, Tracker
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.spool import Spool
from agent_tracking.status import read_status

QUICK = RetryPolicy(first=0.01, longest=0.02, tries=2, window=0.02)


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)


class Provider:
    """Keeps the names of what it got, while it is up."""

    def __init__(self, name="p"):
        self.name = name
        self.seen, self.handed = [], []
        self.error = None

    def track(self, event):
        self.handed.append(event.name)

    def identify(self, identity):
        self.handed.append(identity.user_id)

    def flush(self):
        handed, self.handed = self.handed, []
        if self.error is not None:
            raise self.error
        self.seen += handed


@pytest.fixture
def make(tmp_path):
    trackers = []

    def make(*providers, processors=(), **variables):
        variables = {"spool": str(tmp_path / "spool"), **variables}
        environ = {f"AGENT_TRACKING_{name.upper()}": value for name, value in variables.items()}
        tracker = Tracker(environ=environ, discover=False, retry=QUICK, processors=processors)
        trackers.append(tracker)
        for provider in providers:
            tracker.register_provider(provider)
        return tracker

    yield make
    for tracker in trackers:
        tracker.shutdown(1)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


def put_in_its_place(folder, text):
    """Remove a folder that is in use, and put a file there."""
    deadline = time.monotonic() + 10
    while True:
        try:
            if folder.is_dir():
                gone = folder.rename(folder.with_name(f"gone{time.monotonic_ns()}"))
                shutil.rmtree(gone, ignore_errors=True)
            folder.write_text(text)
        except OSError:  # made anew meanwhile
            assert time.monotonic() < deadline
        else:
            return


def test_what_is_tracked_goes_over_the_disk_to_every_provider_in_order(make, folder):
    providers = Provider("p"), Provider("q")
    tracker = make(*providers)
    for n in range(300):
        tracker.track(f"e{n}")
    tracker.identify("u-1")
    assert tracker.flush(20)
    for provider in providers:
        assert provider.seen == [*(f"e{n}" for n in range(300)), "u-1"]
        stats = tracker.stats().providers[provider.name]
        assert (stats.accepted, stats.delivered, stats.waiting, stats.dropped) == (301, 301, 0, {})
    assert tracker.stats().spool.providers["p"].records == 0
    assert list(folder.glob("*.seg"))


def test_fewer_than_a_batch_are_sent_when_the_interval_is_over(make):
    provider = Provider()
    tracker = make(provider, flush_interval="0.05")
    tracker.track("one")
    until(lambda: provider.seen == ["one"])


def test_what_a_backend_did_not_take_is_delivered_by_a_later_process_and_not_given_up(make, folder):
    down = Provider()
    down.error = RetryLater()
    tracker = make(down)
    for n in range(5):
        tracker.track(f"e{n}")
    until(lambda: tracker.stats().providers["p"].retried > 50)  # far more than memory would try
    result = tracker.shutdown(1)
    assert not result
    assert result.waiting == {"p": 5}
    assert result.dropped == {}
    assert tracker.stats().providers["p"].dropped == {}
    assert [each.record.name for each in Browser(str(folder)).waiting("p")] == [f"e{n}" for n in range(5)]
    up = Provider()
    later = make(up)
    later.track("more")
    assert later.flush(20)
    assert sorted(up.seen) == sorted([*(f"e{n}" for n in range(5)), "more"])
    assert later.stats().providers["p"].delivered == 6


def test_starting_again_five_times_delivers_nothing_twice(make):
    seen = []
    for round_ in range(5):
        provider = Provider()
        tracker = make(provider)
        tracker.track(f"round {round_}")
        assert tracker.flush(20)
        tracker.shutdown(5)
        seen += provider.seen
    assert seen == [f"round {round_}" for round_ in range(5)]


def test_a_clean_end_leaves_no_segment_behind(make, folder):
    tracker = make(Provider())
    tracker.track("x")
    assert tracker.shutdown(10)
    until(lambda: list(folder.glob("*.seg")) == [])


def test_a_hanging_provider_delays_neither_the_caller_nor_the_others(make):
    gate = threading.Event()
    hanging, good = Provider("hanging"), Provider("good")
    hanging.flush = lambda: gate.wait(60)
    tracker = make(hanging, good, flush_interval="0.01")
    for n in range(500):
        tracker.track(f"e{n}")
    until(lambda: len(good.seen) == 500)
    result = tracker.flush(0.3)
    assert set(result.waiting) == {"hanging"}
    gate.set()


def test_flush_in_a_process_that_does_not_deliver_waits_until_the_other_one_has(make):
    provider = Provider()
    first = make(provider, flush_interval="3600")
    first.track("first")
    assert first.flush(20)
    second = make(Provider(), flush_interval="3600")
    second.track("second")
    assert second.flush(20)
    assert provider.seen == ["first", "second"]
    assert second.stats().providers["p"].accepted == 0


def test_a_process_that_does_not_deliver_ends_without_waiting_for_the_other_one(make, folder):
    down = Provider()
    first = make(down, flush_interval="0.1")
    first.track("first")
    assert first.flush(20)
    down.error = RetryLater()
    second = make(Provider())
    second.track("second")
    began = time.monotonic()
    second.drain_at_exit()
    assert time.monotonic() - began < 4
    assert [each.record.name for each in Browser(str(folder)).waiting("p")] == ["second"]
    down.error = None
    until(lambda: down.seen == ["first", "second"])


def test_processors_run_once_before_anything_is_written(make, folder):
    def processor(record):
        if record.name == "secret":
            return None
        return record.replace(name=record.name.upper())

    provider = Provider()
    tracker = make(provider, processors=[processor])
    tracker.track("paid", {"a": 1})
    tracker.track("secret", {"card": "4111111111111111"})
    tracker.flush(20)
    assert provider.seen == ["PAID"]
    written = b"".join(path.read_bytes() for path in folder.glob("*.seg"))
    assert b"PAID" in written
    assert b"4111111111111111" not in written
    assert tracker.stats().dropped == {"processor": 1}


def test_bad_records_are_counted_once_and_never_written(make):
    tracker = make(Provider("p"), Provider("q"))
    tracker.track("")
    tracker.identify(None)
    tracker.track("good")
    tracker.flush(20)
    assert tracker.stats().dropped == {"bad-name": 1, "bad-id": 1}
    assert tracker.stats().providers["p"].accepted == 1


def test_without_any_provider_records_are_dropped_as_without_a_spool(make, folder):
    tracker = make()
    tracker.track("x")
    assert not tracker.flush(10)
    assert tracker.stats().dropped == {"no-provider": 1}
    assert list(folder.glob("*.seg")) == []


def test_what_is_refused_is_set_aside_with_its_reason(make, folder):
    class Picky(Provider):
        def track(self, event):
            if event.name != "good":
                raise (Reject("not-wanted") if event.name == "bad" else ValueError)
            super().track(event)

    tracker = make(picky := Picky())
    for name in ("good", "bad", "worse"):
        tracker.track(name)
    assert tracker.flush(20).dropped == {"not-wanted": 1, "provider-error": 1}
    letters = Browser(str(folder)).dead.read("p")
    assert {letter.record().name: letter.reason for letter in letters} == {
        "bad": "not-wanted",
        "worse": "provider-error",
    }
    assert picky.seen == ["good"]


def test_a_process_that_dies_while_it_sends_leaves_no_suspicion(make, folder):
    notes = []

    class Watching(Provider):
        def track(self, event):
            notes.append((folder / "p.try").read_bytes().strip())

        def flush(self):
            notes.append((folder / "p.try").read_bytes().strip())

    tracker = make(Watching())
    tracker.track("x")
    assert tracker.flush(20)
    assert [bool(note) for note in notes] == [True, False]


def test_a_stopped_provider_keeps_its_records_for_one_with_the_right_key(make, folder):
    from agent_tracking.delivery.outbox import Stopped

    wrong = Provider()
    wrong.error = Stopped("the key is not valid")
    tracker = make(wrong)
    tracker.track("x")
    until(lambda: "p" not in {name for name, lane in tracker.dispatcher()._registry.lanes.items()})
    assert tracker.stats().providers["p"].dropped == {}
    assert {record.state for record in tracker.providers()} == {ProviderState.FAILED}
    right = Provider()
    tracker.register_provider(right)
    tracker.track("y")
    assert tracker.flush(20)
    assert right.seen == ["x", "y"]


def test_an_unregistered_provider_keeps_its_records_for_when_it_comes_back(make):
    down = Provider()
    down.error = RetryLater()
    tracker = make(down)
    tracker.track("x")
    until(lambda: tracker.stats().providers["p"].retried > 2)
    assert tracker.unregister_provider("p")
    assert tracker.stats().providers["p"].dropped == {}
    back = Provider()
    tracker.register_provider(back)
    tracker.track("y")
    assert tracker.flush(20)
    assert back.seen == ["x", "y"]


@pytest.mark.parametrize("trouble", ["a file", "no permission", "vanished"])
def test_while_the_disk_takes_nothing_records_go_through_memory_and_it_says_so_once(
    make, folder, caplog, trouble, monkeypatch
):
    provider = Provider()
    tracker = make(provider, spool_sync="0.02")
    if trouble == "a file":
        folder.write_text("in the way")
    elif trouble == "no permission":
        monkeypatch.setattr(os, "access", lambda *_: False)
    else:
        tracker.track("before")
        assert tracker.flush(20)
        put_in_its_place(folder, "in the way")
    caplog.clear()
    for n in range(20):
        tracker.track(f"e{n}")
        assert tracker.flush(20)
    assert provider.seen[-20:] == [f"e{n}" for n in range(20)]
    lines = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len([line for line in lines if "go through memory" in line]) == 1
    monkeypatch.undo()
    if folder.is_file():
        folder.unlink()
    until(lambda: tracker.track("again") or list(folder.glob("*.seg")))
    tracker.track("after")
    assert tracker.flush(20)
    assert provider.seen[-1] == "after"
    stats = tracker.stats().providers["p"]
    assert stats.dropped == {}
    assert stats.accepted == stats.delivered == len(provider.seen)


def test_memory_while_the_disk_takes_nothing_is_bounded_and_what_goes_is_counted(make, folder):
    folder.write_text("in the way")
    down = Provider()
    down.error = RetryLater()
    tracker = make(down, queue_records="100")
    for n in range(1000):
        tracker.track(f"e{n}")
        if n % 50 == 0:
            tracker.flush(0.001)
    tracker.flush(0.5)
    stats = tracker.stats()
    assert stats.tracked == 1000
    lost = stats.dropped.get("queue-full", 0) + stats.providers["p"].dropped.get("queue-full", 0)
    assert stats.providers["p"].waiting == 1000 - lost <= 200


def test_accepted_is_delivered_and_dropped_and_waiting_at_every_moment(make):
    class Slow(Provider):
        def track(self, event):
            if event.name == "bad":
                raise ValueError
            time.sleep(0.0003)

    tracker = make(Slow(), flush_interval="0.01")
    for n in range(2000):
        tracker.track("bad" if n % 7 == 0 else "good")
        if n % 100 == 0 and (slow := tracker.stats().providers.get("p")):
            assert slow.accepted == slow.delivered + sum(slow.dropped.values()) + slow.waiting
    tracker.flush(30)
    slow = tracker.stats().providers["p"]
    assert (slow.accepted, slow.waiting) == (2000, 0)


# Where another process delivers.


def test_a_process_that_only_writes_has_committed_when_flush_returns(make, folder):
    tracker = make(delivery="relay")
    for n in range(100):
        tracker.track(f"e{n}")
    assert tracker.flush(20)
    written = b"".join(path.read_bytes() for path in folder.glob("*.seg"))
    assert written.count(b"\n") == 101
    assert tracker.stats().tracked == 100
    assert tracker.stats().providers == {}
    assert 90 <= tracker.stats().spool.records <= 110
    provider = Provider()
    relay = make(provider)
    relay.start()
    until(lambda: len(provider.seen) == 100)
    until(lambda: tracker.stats().spool.providers["p"].records == 0)
    assert provider.seen == [f"e{n}" for n in range(100)]


def test_neither_a_flush_nor_the_status_file_reads_what_waits_for_another_process(make, folder, monkeypatch):
    """With a long backlog that is a thousand files, from each process that writes."""
    tracker = make(delivery="relay")
    readers = []
    look = Spool.stats
    monkeypatch.setattr(Spool, "stats", lambda spool: readers.append(threading.get_ident()) or look(spool))
    tracker.track("e")
    assert tracker.flush(20)
    until(lambda: [seen.process.stats.tracked for seen in read_status(folder / "status")] == [1])
    [seen] = read_status(folder / "status")
    assert seen.process.stats.spool is None
    assert readers == []
    assert tracker.stats().spool.records == 1
    assert readers == [threading.get_ident()]


def test_a_provider_that_is_registered_gets_what_is_tracked_right_after_it(make):
    """Also the first time: its place in the folder is where it was registered, not where it is first looked at."""
    tracker = make(Provider("first"), spool_sync="0.05")
    for number in range(10):
        later = Provider(f"later-{number}")
        tracker.track("before")
        until(lambda: tracker.stats().intake == 0)
        tracker.register_provider(later)
        tracker.track(f"after-{number}")
        until(lambda: tracker.stats().intake == 0)
        assert tracker.flush(20)
        assert later.seen == [f"after-{number}"]


def test_what_is_left_from_before_is_sent_at_once_however_little_it_is(make):
    app = make(delivery="relay")
    app.track("one")
    assert app.flush(20)
    provider = Provider()
    relay = make(provider, flush_interval="3600")
    relay.start()
    until(lambda: provider.seen == ["one"])


def test_a_process_that_only_writes_says_so_of_a_provider_that_is_registered(make):
    tracker = make(delivery="relay")
    record = tracker.register_provider(Provider())
    assert record.state is ProviderState.DISABLED
    assert "relay" in record.reason
    assert tracker.providers() == (record,)
    assert tracker.unregister_provider("p") is False


def test_a_process_that_only_writes_runs_its_processors(make, folder):
    tracker = make(delivery="relay", processors=[lambda record: record.replace(name="changed")])
    tracker.track("x", {"secret": 1})
    assert tracker.flush(20)
    assert b"changed" in b"".join(path.read_bytes() for path in folder.glob("*.seg"))


def test_what_cannot_be_written_waits_in_the_bounded_intake_until_it_can(make, folder, caplog):
    folder.write_text("in the way")
    tracker = make(delivery="relay", queue_records="100", spool_sync="0.02")
    for n in range(50):
        tracker.track(f"e{n}")
    result = tracker.flush(0.3)
    assert result.waiting == {"intake": 50}
    for n in range(50, 400):
        tracker.track(f"e{n}")
    stats = tracker.stats()
    assert stats.dropped["queue-full"] >= 200
    assert stats.intake + stats.dropped["queue-full"] == 400
    folder.unlink()
    assert tracker.flush(20).waiting == {}
    names = [
        line.split(b'"')[1] for path in folder.glob("*.seg") for line in path.read_bytes().split(b"\n")[1:-1]
    ]
    assert len(names) == 400 - tracker.stats().dropped["queue-full"]
    assert names[-1] == b"e399"
    assert len([record for record in caplog.records if "spool" in record.message]) == 1


def test_what_cannot_be_written_for_long_stays_bounded(make, folder):
    folder.write_text("in the way")
    tracker = make(delivery="relay", queue_records="100", spool_sync="0.02")
    for _ in range(12):
        for n in range(50):
            tracker.track(f"e{n}")
        tracker.flush(0.05)
        assert tracker.stats().intake <= 200


def test_a_process_that_only_writes_goes_on_in_a_folder_that_was_removed(make, folder, tmp_path):
    tracker = make(delivery="relay", spool_sync="0.02", status=str(tmp_path / "status"))
    tracker.track("before")
    assert tracker.flush(20)
    shutil.rmtree(folder)
    tracker.track("after")
    assert tracker.flush(20)
    assert b"after" in b"".join(path.read_bytes() for path in folder.glob("*.seg"))


@pytest.mark.parametrize("delivery", ["relay", "process"])
def test_calls_that_follow_each_other_wake_nobody(make, delivery):
    tracker = make(*([] if delivery == "relay" else [Provider()]), delivery=delivery)
    tracker.track("x")
    assert tracker.flush(20)
    rings = []
    attend = tracker.attend
    tracker.attend = lambda now: rings.append(now) or attend(now)
    for _ in range(100):
        tracker.track("x")
        time.sleep(0.002)
    assert len(rings) < 60  # of 100, if each had to; a busy machine may stop in between


def test_a_process_that_only_writes_imports_no_http_and_no_plugins(tmp_path):
    script = (
        "import sys\nfrom agent_tracking import flush, identify, stats, track\n"
        "for n in range(100): track('x', {'n': n})\nidentify('u')\nassert flush(20)\n"
        "bad = {'httpx', 'httpcore', 'pluggy', 'ssl', 'agent_tracking.registry', 'agent_tracking.delivery.lane'}\n"
        "print(sorted(bad & set(sys.modules)))\n"
    )
    environ = {
        "PATH": os.environ["PATH"],
        "AGENT_TRACKING_SPOOL": str(tmp_path / "spool"),
        "AGENT_TRACKING_DELIVERY": "relay",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


def test_a_relay_that_ends_finishes_the_batch_that_is_under_way(make, folder):
    app = make(delivery="relay")
    for n in range(10):
        app.track(f"e{n}")
    assert app.flush(20)
    entered, gate = threading.Event(), threading.Event()

    class Slow(Provider):
        def flush(self):
            entered.set()
            gate.wait(20)
            super().flush()

    relay = make(slow := Slow())
    relay.start()
    assert entered.wait(20)
    threading.Timer(0.2, gate.set).start()
    relay.shutdown(20)
    assert len(slow.seen) == 10
    assert list(Browser(str(folder)).waiting("p")) == []


@pytest.mark.parametrize("delivery", ["relay", "process"])
def test_with_everything_off_nothing_is_written(make, folder, delivery):
    tracker = make(delivery=delivery, disabled="1")
    tracker.track("x")
    tracker.flush(5)
    assert not Path(folder).exists()
