"""Async applications, threads and contexts: whose loop is used, what blocks, which ids an event carries."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agent_tracking import Tracker


class Recorder:
    name = "recorder"

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def track(self, event: Any) -> None:
        self.seen.append(event)


class AsyncRecorder:
    """Uses its loop as a real one does: a client that is bound to the loop of its first use."""

    name = "async-recorder"

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.loops: set[int] = set()
        self.lock: asyncio.Lock | None = None

    async def track(self, event: Any) -> None:
        self.lock = self.lock or asyncio.Lock()
        self.loops.add(id(asyncio.get_running_loop()))
        async with self.lock:
            await asyncio.sleep(0)
            self.seen.append(event.properties["n"])


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    tracker = Tracker(environ={}, discover=False)
    yield tracker
    tracker.shutdown(5)


def test_ten_loops_one_after_another_track_and_flush_and_the_lanes_own_loop_is_another(
    tracker: Tracker,
) -> None:
    provider = AsyncRecorder()
    tracker.register_provider(provider)
    app_loops = set()

    async def main(number: int) -> None:
        app_loops.add(id(asyncio.get_running_loop()))
        tracker.track("event", {"n": number})
        assert await tracker.aflush(10)

    keep = []  # so that no two loops share an id
    for number in range(10):
        loop = asyncio.new_event_loop()
        keep.append(loop)
        loop.run_until_complete(main(number))
        loop.close()
    assert provider.seen == list(range(10))
    assert len(provider.loops) == 1
    assert not provider.loops & app_loops


def test_an_async_provider_and_a_loop_that_ends_first_leave_nothing_on_stderr(apps: Any, sink: Any) -> None:
    finished = apps.run(
        """
        import asyncio
        from agent_tracking import aflush, register_provider, track

        class Slow:
            name = "slow"
            async def track(self, event):
                await asyncio.sleep(0.001)

        async def main():
            for n in range(20):
                track("event", {"n": n})
            await aflush(0.001)
            track("event", {"n": 20})

        register_provider(Slow())
        for _ in range(2):
            asyncio.run(main(), debug=True)
        """,
        options=["-X", "dev"],
    )
    assert (finished.status, finished.err) == (0, "")
    assert apps.arrived() == sorted([*range(21), *range(21)])


def longest_gap(work: Any) -> float:
    """Return the longest time for which the loop stood still while ``work`` ran in it."""

    async def main() -> float:
        ends = asyncio.Event()
        gaps: list[float] = []

        async def tick() -> None:
            last = time.perf_counter()
            while not ends.is_set():
                await asyncio.sleep(0)
                now = time.perf_counter()
                gaps.append(now - last)
                last = now

        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0.01)
        await work()
        ends.set()
        await ticking
        return max(gaps)

    return asyncio.run(main())


def test_aflush_blocks_the_loop_no_longer_than_a_loop_blocks_itself(tracker: Tracker) -> None:
    class Slow:
        name = "slow"

        def track(self, event: Any) -> None:
            time.sleep(0.002)

    tracker.register_provider(Slow())
    tracker.track("warm")
    tracker.flush(5)

    async def flushing() -> None:
        for number in range(20):
            tracker.track("event", {"n": number})
        assert await tracker.aflush(10)

    async def idle() -> None:
        await asyncio.sleep(0.05)

    fair = min(longest_gap(idle) for _ in range(3))
    assert min(longest_gap(flushing) for _ in range(3)) < 0.005 + 5 * fair


def test_a_cancelled_aflush_harms_no_later_one(tracker: Tracker) -> None:
    tracker.register_provider(Recorder())

    async def main() -> None:
        tracker.track("one")
        flush = asyncio.ensure_future(tracker.aflush(10))
        await asyncio.sleep(0)
        flush.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flush
        tracker.track("two")
        assert await tracker.aflush(10)

    asyncio.run(main())
    assert tracker.stats().providers["recorder"].delivered == 2


def test_flush_inside_a_running_loop_works_and_says_once_what_is_better(
    tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.register_provider(Recorder())

    async def main() -> None:
        for _ in range(3):
            tracker.track("event")
            assert tracker.flush(10)

    asyncio.run(main())
    asyncio.run(main())
    lines = [record.getMessage() for record in caplog.records if "aflush" in record.getMessage()]
    assert len(lines) == 1
    assert tracker.stats().providers["recorder"].delivered == 6


def test_ids_and_values_are_those_of_the_moment_of_the_call_on_any_thread(tracker: Tracker) -> None:
    user = contextvars.ContextVar("user", default="nobody")
    recorder = Recorder()
    tracker.register_provider(recorder)

    def work(expected: str) -> None:
        tracker.track("event", {"expected": expected}, user_id=user.get())

    with ThreadPoolExecutor(4) as pool:
        for number in range(50):
            user.set(f"u-{number}")
            pool.submit(contextvars.copy_context().run, work, f"u-{number}").result()
        pool.submit(work, "plain").result()
    assert tracker.flush(10)
    assert all(event.user_id == event.properties["expected"] for event in recorder.seen[:50])
    assert recorder.seen[50].user_id == "nobody", (
        "a plain pool thread has no context: copy_context().run gives it one"
    )


def test_an_import_cycle_between_plugin_and_app_with_a_flush_at_module_level_returns_in_time(
    apps: Any, sink: Any, tmp_path: Any
) -> None:
    (tmp_path / "cyclic_plugin.py").write_text(
        "import the_app\nclass P:\n    name = 'cyclic'\n    def track(self, event): pass\nprovider = P()\n"
    )
    info = tmp_path / "cyclic_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cyclic-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[agent_tracking.providers]\ncyclic = cyclic_plugin:provider\n")
    (tmp_path / "the_app.py").write_text(
        "import time\nimport agent_tracking\nagent_tracking.track('at import', {'n': 1})\n"
        "began = time.monotonic()\nresult = agent_tracking.flush(1)\nseconds = time.monotonic() - began\n"
    )
    finished = apps.run(
        f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import the_app, agent_tracking
        agent_tracking.track("later", {{"n": 2}})
        later = agent_tracking.flush(20)
        print(the_app.seconds < 2, bool(later))
        """,
        environ={"AGENT_TRACKING_PROVIDERS": "webhook,cyclic"},
    )
    assert (finished.status, finished.out) == (0, "True True\n"), finished.err
    assert apps.arrived() == [1, 2]
