"""``context()`` across tasks, generators and threads: who sees what is bound, and that nobody does later."""

import asyncio
import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread
import pytest
from asgiref.sync import async_to_sync, sync_to_async

from agent_tracking import Tracker, context
from agent_tracking.contexts import CURRENT, Steps


class Recorder:
    name = "recorder"

    def __init__(self):
        self.events = []
        self.identities = []

    def track(self, event):
        self.events.append(event)

    def identify(self, identity):
        self.identities.append(identity)


class Recording(Tracker):
    """A tracker that shows what arrived."""

    def __init__(self):
        super().__init__(environ={}, discover=False)
        self.recorder = Recorder()
        self.register_provider(self.recorder)

    def seen(self):
        assert not self.flush(20).waiting
        return self.recorder.events

    def last(self):
        return self.seen()[-1]

    def users(self):
        """Return the user id of each event by its name."""
        return {event.name: event.user_id for event in self.seen()}


@pytest.fixture
def tracker():
    tracker = Recording()
    assert CURRENT.get() is None
    yield tracker
    tracker.shutdown(5)
    assert context.current() == {}


def ids(event):
    return event.user_id, event.anonymous_id, event.session_id


# Tasks


def test_each_task_has_its_own_and_sees_its_parents(tracker):
    async def work(number):
        with context(user_id=f"u-{number}"):
            await asyncio.sleep(0)
            tracker.track(f"{number}")
            await asyncio.gather(nested(number), asyncio.to_thread(tracker.track, f"thread {number}"))

    async def nested(number):
        await asyncio.sleep(0)
        tracker.track(f"nested {number}")

    async def main():
        with context(session_id="s-1"):
            await asyncio.gather(*map(work, range(30)))
            tracker.track("parent")

    asyncio.run(main())
    assert tracker.users().pop("parent") is None
    for event in tracker.seen():
        assert event.session_id == "s-1"
        assert event.name == "parent" or event.user_id == f"u-{event.name.split()[-1]}"
    assert len(tracker.seen()) == 91


def test_a_task_that_outlives_the_block_is_bound_until_its_end_and_carried_ones_for_ever(tracker):
    async def main():
        over = asyncio.Event()

        async def lives_on(name):
            tracker.track(f"{name} early")
            await over.wait()
            tracker.track(f"{name} late")
            with context(properties={"own": 1}):
                tracker.track(f"{name} later")

        with context(user_id="u-1"):
            tasks = [
                asyncio.create_task(lives_on("plain")),
                asyncio.create_task(context.carry(lives_on)("carried")),
            ]
            await asyncio.sleep(0)
        over.set()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert tracker.users() == {
        "plain early": "u-1",
        "carried early": "u-1",
        "plain late": None,
        "carried late": "u-1",
        "plain later": None,
        "carried later": "u-1",
    }


def test_an_inner_block_that_outlives_the_outer_one_keeps_only_its_own(tracker):
    async def main():
        over = asyncio.Event()

        async def inner():
            with context(session_id="s-1"):
                await over.wait()
                tracker.track("x")

        with context(user_id="u-1", properties={"a": 1}):
            task = asyncio.create_task(inner())
            await asyncio.sleep(0)
        over.set()
        await task

    asyncio.run(main())
    assert (ids(tracker.last()), tracker.last().properties) == ((None, None, "s-1"), {})


def test_blocks_that_end_in_another_order_than_they_began(tracker):
    outer, inner = context(user_id="u-1"), context(session_id="s-1")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    tracker.track("x")
    inner.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    assert ids(tracker.last()) == (None, None, "s-1")
    assert CURRENT.get() is None


@pytest.mark.parametrize("how", ["another task", "the loop", "collector"])
def test_an_async_generator_that_another_task_closes_neither_raises_nor_leaks(tracker, how):
    problems = []

    async def rows():
        with context(user_id="u-1"):
            tracker.track("in the generator")
            yield 1
            yield 2

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _loop, told: problems.append(told))
        generator = rows()
        await asyncio.create_task(generator.__anext__())
        await generator.__anext__()
        if how == "another task":
            await asyncio.create_task(generator.aclose())
        elif how == "the loop":
            await asyncio.get_running_loop().shutdown_asyncgens()
        else:
            del generator
            gc.collect()
            for _ in range(5):
                await asyncio.sleep(0)
        tracker.track("after")

    asyncio.run(main())
    assert problems == []
    assert tracker.users() == {"in the generator": "u-1", "after": None}


def test_exceptions_and_cancellation_end_it_and_pass(tracker):
    async def work():
        with context(user_id="u-1"):
            await asyncio.sleep(60)

    async def main():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError if sys.version_info >= (3, 11) else asyncio.TimeoutError):
            await asyncio.wait_for(work(), 0.01)
        tracker.track("after both")

    asyncio.run(main())
    with pytest.raises(ZeroDivisionError), context(user_id="u-1"):
        1 / 0  # noqa: B018
    tracker.track("after an exception")
    assert tracker.users() == {"after both": None, "after an exception": None}


# Threads


def test_threads_that_take_the_context_over_need_nothing(tracker):
    def work(name):
        tracker.track(name)
        context.bind(properties={name: 1})

    async def main():
        with context(user_id="u-1"):
            await asyncio.to_thread(work, "to_thread")
            await anyio.to_thread.run_sync(work, "anyio")
            await sync_to_async(work)("asgiref")
            await asyncio.to_thread(async_to_sync(asynchronous))
            assert set(context.current()["properties"]) == {"to_thread", "anyio", "asgiref"}

    async def asynchronous():
        tracker.track("async_to_sync")

    asyncio.run(main())
    assert tracker.users() == dict.fromkeys(["to_thread", "anyio", "asgiref", "async_to_sync"], "u-1")


def test_carry_brings_it_to_every_executor_and_leaves_nothing_in_the_pools_threads(tracker):
    with ThreadPoolExecutor(1) as pool:

        async def main():
            with context(user_id="loop"):
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(pool, context.carry(tracker.track), "run_in_executor")
                await loop.run_in_executor(pool, tracker.track, "not carried")

        with context(user_id="u-1", session_id="s-1"):
            carried = context.carry(tracker.track)
            pool.submit(carried, "submit").result()
            list(pool.map(carried, ["map 1", "map 2"]))
            thread = threading.Thread(target=context.carry(tracker.track), args=("thread",))
        thread.start()
        thread.join()
        pool.submit(carried, "much later").result()
        asyncio.run(main())
        with pytest.raises(ZeroDivisionError):
            pool.submit(context.carry(lambda: 1 / 0)).result()
        pool.submit(tracker.track, "the pool's thread").result()
        with context(anonymous_id="v-9"):
            carried("inside another one")
    expected = dict.fromkeys(
        ["submit", "map 1", "map 2", "thread", "much later", "inside another one"], "u-1"
    )
    assert tracker.users() == {
        **expected, "run_in_executor": "loop", "not carried": None, "the pool's thread": None
    }  # fmt: skip
    assert ids(tracker.last()) == ("u-1", None, "s-1")


def test_steps_bind_what_the_last_one_left_and_nothing_in_between(tracker):
    def rows():
        with context(user_id="u-1"):
            for number in range(3):
                with context(properties={"n": number}):
                    tracker.track("row")
                    yield number

    steps = Steps()
    iterator = iter(rows())
    for number in range(3):
        assert steps.run(next, iterator) == number
        tracker.track("between")
    with pytest.raises(StopIteration):
        steps.run(next, iterator)
    assert [(e.name, e.user_id, e.properties.get("n")) for e in tracker.seen()] == [
        step for number in range(3) for step in (("row", "u-1", number), ("between", None, None))
    ]
