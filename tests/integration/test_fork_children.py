"""Forks: the parent goes on undisturbed, the child begins empty, works, and delivers what it tracked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent_tracking.testing import Sink


@pytest.mark.parametrize("ending", ["sys.exit(0)", "os._exit(0)"])
def test_queue_of_the_parent_is_not_sent_by_the_child(apps, ending):
    finished = apps.run(f"""
        import os, sys
        from agent_tracking import track
        for n in range(10):
            track("x", {{"n": n}})
        if not (pid := os.fork()):
            {ending}
        os.waitpid(pid, 0)
    """)
    finished.check()
    assert apps.arrived() == list(range(10))


def test_child_begins_with_empty_counters(apps):
    finished = apps.run("""
        import os, sys
        from agent_tracking import flush, stats, track
        for n in range(10):
            track("x", {"n": n})
        assert flush(10)
        for n in range(10, 15):
            track("x", {"n": n})
        if not (pid := os.fork()):
            numbers = stats()
            assert numbers.tracked == 0 and numbers.intake == 0 and not numbers.dropped, numbers
            assert all(p.accepted == p.delivered == 0 for p in numbers.providers.values()), numbers
            track("x", {"n": 100})
            assert flush(10)
            assert stats().tracked == 1
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert stats().tracked == 15
    """)
    finished.check()
    assert apps.arrived() == [*range(15), 100]


def test_child_that_ends_normally_delivers(apps):
    finished = apps.run("""
        import os, sys
        from agent_tracking import track
        track("parent", {"n": 0})
        pids = []
        for child in range(1, 5):
            if not (pid := os.fork()):
                for n in range(5):
                    track("child", {"n": 100 * child + n})
                sys.exit(child)
            pids.append(pid)
        print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
        track("parent", {"n": 1})
    """)
    finished.check()
    assert finished.out == "[1, 2, 3, 4]\n"
    assert apps.arrived() == [0, 1, *(100 * child + n for child in range(1, 5) for n in range(5))]


def test_child_that_forks_again(apps):
    finished = apps.run("""
        import os, sys
        from agent_tracking import track
        for depth in range(4):
            track("x", {"n": depth})
            if pid := os.fork():
                os.waitpid(pid, 0)
                sys.exit(0)
        track("x", {"n": 4})
    """)
    finished.check()
    assert apps.arrived() == list(range(5))


def test_child_that_skips_every_exit_hook_delivers_by_flush(apps):
    finished = apps.run("""
        import os
        from agent_tracking import flush, track
        track("x", {"n": 0})
        if not (pid := os.fork()):
            track("x", {"n": 1})
            os._exit(0 if flush(10) else 1)
        assert os.waitpid(pid, 0)[1] == 0
    """)
    finished.check()
    assert apps.arrived() == [0, 1]


def test_fork_in_a_loop_while_eight_threads_track(apps):
    finished = apps.run("""
        import os, sys, threading, time
        from agent_tracking import flush, track
        ended = threading.Event()
        counts = [0] * 8

        def work(number):
            while not ended.is_set():
                track("parent", {"n": number * 100_000 + counts[number]})
                counts[number] += 1
                time.sleep(0.002)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for child in range(20):
            if not (pid := os.fork()):
                track("child", {"n": 1_000_000 + child})
                os._exit(0 if flush(20) else 1)
            assert os.waitpid(pid, 0)[1] == 0
        ended.set()
        for thread in threads:
            thread.join()
        print(*counts)
    """)
    finished.check()
    counts = list(map(int, finished.out.split()))
    parents = [number * 100_000 + n for number, count in enumerate(counts) for n in range(count)]
    assert apps.arrived() == sorted([*parents, *(1_000_000 + child for child in range(20))])


def test_fork_on_a_thread(apps):
    finished = apps.run("""
        import os, sys, threading
        from agent_tracking import flush, track
        track("x", {"n": 0})

        def work():
            if not (pid := os.fork()):
                track("x", {"n": 1})
                os._exit(0 if flush(10) else 1)
            assert os.waitpid(pid, 0)[1] == 0

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """)
    finished.check()
    assert apps.arrived() == [0, 1]


PLUGIN = """
import time
import {imports}
time.sleep({seconds})
from agent_tracking_webhook import WebhookProvider

class Slow(WebhookProvider):
    name = "slow"
"""


@pytest.mark.parametrize("seconds", [0.0, 0.7])
def test_fork_while_a_plugin_is_imported(apps, tmp_path, seconds):
    """The child would find modules that are half made: the fork waits for them."""
    site = tmp_path / "site"
    (site / "slow-1.0.dist-info").mkdir(parents=True)
    (site / "slow-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (site / "slow-1.0.dist-info" / "entry_points.txt").write_text(
        "[agent_tracking.providers]\nslow = slow_plugin:Slow\n"
    )
    (site / "slow_plugin.py").write_text(PLUGIN.format(seconds=seconds, imports="httpx"))
    finished = apps.run(
        """
        import os, sys, time
        from agent_tracking import track
        track("x", {"n": 0})
        pids = []
        for child in range(1, 4):
            time.sleep(0.05)
            if not (pid := os.fork()):
                track("x", {"n": child})
                sys.exit(0)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0, 0]
        """,
        environ={"PYTHONPATH": str(site), "AGENT_TRACKING_PROVIDERS": "slow"},
    )
    finished.check()
    assert apps.arrived() == [0, 1, 2, 3]


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.05, 0.08, 0.12, 0.2])
def test_fork_at_any_moment_of_the_start(apps, moment):
    finished = apps.run(
        """
        import os, sys, time
        from agent_tracking import track
        track("x", {"n": 0})
        time.sleep(float(sys.argv[1]))
        if not (pid := os.fork()):
            track("x", {"n": 1})
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        str(moment),
    )
    finished.check()
    assert apps.arrived() == [0, 1]


@pytest.mark.parametrize("kind", ["http", "async"])
def test_background_threads_import_only_while_a_fork_waits(apps, kind):
    """A child of a fork in the middle of any other import would wait for it for ever."""
    finished = apps.run(
        """
        import sys, threading
        import agent_tracking
        from agent_tracking import flush, forks, register_provider, track

        class Finder:
            def find_spec(self, name, path=None, target=None):
                thread = threading.current_thread()
                if thread.name.startswith("agent_tracking.") and not thread.name.startswith("agent_tracking.load"):
                    if not forks.BOOT._is_owned():
                        print(name, flush=True)

        class Looks:
            name = "looks"
            async def track(self, event):
                import asyncio
                await asyncio.get_running_loop().getaddrinfo("localhost", 80)

        sys.meta_path.insert(0, Finder())
        if sys.argv[1] == "async":
            register_provider(Looks())
        for n in range(60):
            track("x", {"n": n})
        assert flush(10)
        """,
        kind,
    )
    finished.check()
    assert finished.out == ""
    assert apps.arrived() == list(range(60))


def test_every_lock_may_be_held_by_another_thread_at_the_fork(apps):
    """Locks found by walking from the tracker: none is waited for in the child."""
    finished = apps.run("""
        import gc, os, sys, threading, _thread
        from agent_tracking import api, flush, track
        track("x", {"n": 0})
        assert flush(10)
        tracker = api.default_tracker()
        LOCKS = (type(_thread.allocate_lock()), type(threading.RLock()))

        def walk(root):
            seen, todo, locks = set(), [root], []
            while todo:
                item = todo.pop()
                if id(item) in seen or isinstance(item, (type, type(sys), str, bytes, int, float)):
                    continue
                seen.add(id(item))
                if isinstance(item, LOCKS):
                    locks.append(item)
                    continue
                todo += [v for v in gc.get_referents(item)
                         if type(v).__module__.startswith(("agent_tracking", "builtins", "_thread", "threading"))
                         or isinstance(v, LOCKS)]
            return locks

        lanes = tracker.dispatcher()._registry.lanes
        locks = [lock for lock in walk(vars(tracker)) + walk(lanes) if hasattr(lock, "locked")]
        assert len(locks) >= 4, locks
        held, go = threading.Event(), threading.Event()

        def hold():
            taken = [lock for lock in locks if lock.acquire(blocking=False)]
            print(len(taken), flush=True)
            held.set()
            go.wait()
            for lock in taken:
                lock.release()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        if not (pid := os.fork()):
            track("x", {"n": 1})
            os._exit(0 if flush(10) else 1)
        status = os.waitpid(pid, 0)[1]
        go.set()
        thread.join()
        assert status == 0
    """)
    finished.check()
    assert int(finished.out) >= 2
    assert apps.arrived() == [0, 1]


def test_connection_of_the_parent_is_neither_used_nor_closed_by_the_child(apps):
    finished = apps.run("""
        import os, sys
        from agent_tracking import flush, track
        track("x", {"n": 0})
        assert flush(10)
        for child in range(1, 4):
            if not (pid := os.fork()):
                if child > 1:
                    track("x", {"n": child})
                sys.exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        track("x", {"n": 10})
    """)
    finished.check()
    assert apps.arrived() == [0, 2, 3, 10]


def test_tls_connection_of_the_parent_survives_its_children(apps, tmp_path):
    """Closing one properly writes to it, which would break the parent's stream."""
    with Sink(tls=True) as sink:
        bundle = tmp_path / "ca.pem"
        bundle.write_text(sink.certificate)
        over_tls = replace(apps, sink=sink)
        finished = over_tls.run(
            """
            import gc, os, sys
            from agent_tracking import flush, track
            track("x", {"n": 0})
            assert flush(10)
            for child in range(1, 4):
                if not (pid := os.fork()):
                    track("x", {"n": child})
                    gc.collect()
                    sys.exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            track("x", {"n": 10})
            """,
            environ={"SSL_CERT_FILE": str(bundle)},
        )
        finished.check()
        assert over_tls.arrived() == [0, 1, 2, 3, 10]


def test_async_provider_in_a_child_gets_a_loop_of_its_own(apps):
    finished = apps.run(
        """
        import asyncio, os, sys
        import agent_tracking

        class Prints:
            name = "prints"
            async def track(self, event):
                await asyncio.sleep(0.01)
                os.write(1, f"{event.name} {os.getpid()}\\n".encode())

        agent_tracking.register_provider(Prints())
        agent_tracking.track("parent")
        assert agent_tracking.flush(10)
        if not (pid := os.fork()):
            agent_tracking.track("child")
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        agent_tracking.track("parent")
        """,
        environ={"AGENT_TRACKING_PROVIDERS": "none"},
    )
    finished.check()
    lines = [line.split() for line in finished.out.splitlines()]
    assert [name for name, _ in lines] == ["parent", "child", "parent"]
    assert lines[0][1] == lines[2][1] != lines[1][1]


def test_import_and_looking_start_no_thread_so_that_a_later_fork_warns_of_nothing(apps):
    """From 3.12 on a fork of a process with threads warns; nothing here filters that away."""
    finished = apps.run(
        """
        import os, sys, time
        import agent_tracking
        agent_tracking.providers()
        agent_tracking.stats()
        end = time.monotonic() + 5
        while len(os.listdir("/proc/self/task")) > 1:  # a thread that was joined may take a moment to go
            assert time.monotonic() < end
        if not (pid := os.fork()):
            agent_tracking.track("x", {"n": 1})
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        options=["-W", "error"],
    )
    finished.check()
    assert apps.arrived() == [1]


def test_subprocesses_under_load(apps):
    finished = apps.run("""
        import os, subprocess, sys, threading, time
        from agent_tracking import track
        ended = threading.Event()
        count = 0

        def work():
            global count
            while not ended.is_set():
                track("x", {"n": count})
                count += 1
                time.sleep(0.0005)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(40):
            subprocess.run(["/bin/true"], preexec_fn=lambda: None, check=True)
        for _ in range(40):
            if not (pid := os.fork()):
                os._exit(0)
            os.waitpid(pid, 0)
        ended.set()
        thread.join()
        print(count)
    """)
    finished.check()
    assert apps.arrived() == list(range(int(finished.out)))
