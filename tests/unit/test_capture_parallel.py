"""capture() where tests run at the same time, and where the code under test has threads, tasks and children."""

import asyncio
import contextvars
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from agent_tracking import Tracker
from agent_tracking.testing import capture

FORK = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


class Recorder:
    name = "recorder"

    def __init__(self):
        self.names = []

    def track(self, event):
        self.names.append(event.name)


@pytest.fixture
def tracker():
    tracker = Tracker(environ={}, discover=False)
    tracker.recorder = Recorder()
    tracker.register_provider(tracker.recorder)
    yield tracker
    tracker.shutdown(5)


@pytest.fixture
def switching():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_tests_in_many_threads_see_their_own_records_and_nothing_leaves(tracker, switching):
    start = threading.Barrier(8)
    wrong = []

    def one_test(number):
        start.wait(60)
        for turn in range(50):
            with capture(tracker=tracker) as events:
                tracker.track(f"{number}-{turn}-a")
                tracker.flush(60)
                tracker.track(f"{number}-{turn}-b")
            if events.names() != [f"{number}-{turn}-a", f"{number}-{turn}-b"] or events.unclaimed:
                wrong.append((number, turn, events))

    threads = [threading.Thread(target=one_test, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    tracker.track("after")
    assert tracker.flush(20)
    assert tracker.recorder.names == ["after"]


def test_tasks_of_one_loop_see_their_own_records_and_those_of_tasks_and_threads_that_they_start(tracker):
    async def part(name):
        await asyncio.sleep(0)
        tracker.track(name)

    async def one_test(number):
        with capture(tracker=tracker) as events:
            for turn in range(20):
                tracker.track(f"{number}-own")
                await asyncio.gather(
                    part(f"{number}-task"), asyncio.to_thread(tracker.track, f"{number}-thread")
                )
                assert await tracker.aflush(60), turn
        return events

    async def main():
        return await asyncio.gather(*(one_test(number) for number in range(10)))

    for number, events in enumerate(asyncio.run(main())):
        assert sorted(events.names()) == sorted([f"{number}-own", f"{number}-task", f"{number}-thread"] * 20)
        assert events.unclaimed == []
    assert tracker.recorder.names == []


def test_a_thread_without_a_capture_of_its_own_belongs_to_the_only_one(tracker):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result(60)  # the thread is older than the capture
        with capture(tracker=tracker) as events:
            pool.submit(tracker.track, "pool").result(60)
            in_thread(tracker.track, "thread")
        with capture(tracker=tracker) as again:
            pool.submit(tracker.track, "pool").result(60)
    assert events.names() == ["pool", "thread"]
    assert again.names() == ["pool"]
    assert tracker.recorder.names == []


def test_of_several_captures_none_gets_the_records_of_a_thread_without_one_and_each_says_so(tracker):
    with capture(tracker=tracker) as outer:
        with capture(tracker=tracker) as inner:
            in_thread(tracker.track, "stray")
            in_thread(tracker.track, "")
            tracker.track("own")
        in_thread(tracker.track, "late")
    assert outer.names() == ["late"]
    assert inner.names() == ["own"]
    for events in (outer, inner):
        assert [record.name for record in events.unclaimed] == ["stray"]
        with pytest.raises(
            AssertionError, match=r"; 1 of threads .* \(start them with contextvars.copy_context"
        ):
            events.one("stray")
    assert tracker.flush(20)
    assert tracker.recorder.names == []


def test_a_thread_that_is_given_the_context_belongs_to_its_capture(tracker):
    with capture(tracker=tracker) as outer, capture(tracker=tracker) as inner:
        in_thread(contextvars.copy_context().run, tracker.track, "mine")
    assert inner.names() == ["mine"]
    assert (outer.names(), outer.unclaimed) == ([], [])


def test_captures_of_other_trackers_do_not_count(tracker):
    other = Tracker(environ={}, discover=False)
    with capture(tracker=tracker) as events, capture(tracker=other) as others:
        in_thread(tracker.track, "x")
        tracker.track("y")
    assert events.names() == ["x", "y"]
    assert others.names() == []


def test_a_task_that_outlives_its_capture_counts_as_without_one(tracker):
    async def main():
        gate, done = asyncio.Event(), asyncio.Event()

        async def lives_on():
            await gate.wait()
            tracker.track("late")
            done.set()

        with capture(tracker=tracker) as outer:
            with capture(tracker=tracker) as inner:
                task = asyncio.create_task(lives_on())
                await asyncio.sleep(0)
            gate.set()
            await done.wait()
            await task
        return outer, inner

    outer, inner = asyncio.run(main())
    assert (outer.names(), inner.names()) == (["late"], [])


def test_a_fixture_that_ends_in_another_context_leaves_nothing_behind(tracker):
    block = capture(tracker=tracker)
    events = contextvars.copy_context().run(block.__enter__)
    tracker.track("inside")
    contextvars.copy_context().run(block.__exit__, None, None, None)
    tracker.track("after")
    assert tracker.flush(20)
    assert events.names() == ["inside"]
    assert tracker.recorder.names == ["after"]


def test_what_another_thread_tracks_while_blocks_begin_and_end_is_captured_or_delivered_never_both(
    tracker, switching
):
    stop, sent, blocks = threading.Event(), [], []

    def work():
        while not stop.is_set():
            tracker.track(f"n-{len(sent)}")
            sent.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(200):
        with capture(tracker=tracker) as events:
            os.sched_yield()
        blocks.append(events)
    stop.set()
    thread.join(60)
    assert tracker.flush(30)
    found = [name for events in blocks for name in events.names()] + tracker.recorder.names
    assert len(set(found)) == len(found)
    # A call that is under way when a block ends may be inside or after it: then nobody gets it.
    assert len(sent) - len(blocks) <= len(found) <= len(sent)


def test_what_is_tracked_while_a_block_ends_is_captured(tracker, monkeypatch):
    divert = tracker.divert

    def slowly(put):
        if put is None:
            tracker.track("meanwhile")
        divert(put)

    monkeypatch.setattr(tracker, "divert", slowly)
    with capture(tracker=tracker) as events:
        pass
    assert events.names() == ["meanwhile"]


@FORK
def test_a_forked_child_sends_nothing_inside_the_block_nor_what_it_tracked_there_after_it(tracker, tmp_path):
    said = tmp_path / "said"
    tracker.track("before")
    assert tracker.flush(20)
    with capture(tracker=tracker) as events:
        pid = os.fork()
        tracker.track("both")
        if pid == 0:
            status = 1
            try:
                inside = (
                    events.names(),
                    tracker.flush(20).waiting,
                    tracker.stats().tracked,
                    len(tracker.entries),
                )
                said.write_text(repr(inside))
                status = 0
            finally:
                os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert said.read_text() == "(['both'], {}, 0, 0)"
    assert events.names() == ["both"]
    assert tracker.recorder.names == ["before"]


@FORK
def test_a_forked_child_of_a_tracker_that_was_shut_down_captures_still(tracker):
    tracker.shutdown(20)
    with capture(tracker=tracker) as events:
        pid = os.fork()
        if pid == 0:
            tracker.track("child")
            os._exit(0 if events.names() == ["child"] else 1)
    assert os.waitpid(pid, 0)[1] == 0


@FORK
def test_a_child_that_leaves_the_block_delivers_what_it_tracks_from_then_on(tracker, tmp_path):
    said = tmp_path / "said"
    with capture(tracker=tracker):
        pid = os.fork()
        tracker.track("inside")
    if pid == 0:
        status = 1
        try:
            tracker.track("after")
            tracker.flush(20)
            said.write_text(repr(tracker.recorder.names))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert said.read_text() == "['after']"


@FORK
def test_a_fork_while_other_threads_begin_and_end_captures_does_not_hang(tracker, switching):
    stop = threading.Event()

    def work():
        while not stop.is_set():
            with capture(tracker=tracker):
                tracker.track("x")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            process = multiprocessing.get_context("fork").Process(target=_child, args=(tracker,))
            process.start()
            process.join(60)
            assert process.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def _child(tracker):
    with capture(tracker=tracker) as events:
        tracker.track("child")
    assert events.names() == ["child"]
