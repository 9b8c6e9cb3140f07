"""Real processes on one spool: many at once, forked, dying in a provider's hook, ending in every way."""

from __future__ import annotations

import stat
import time

import pytest

from agent_tracking.sources.spool.browse import Browser
from agent_tracking.testing import Fault


@pytest.fixture
def folder(apps, tmp_path):
    folder = tmp_path / "spool"
    apps.variables |= {"AGENT_TRACKING_SPOOL": str(folder), "AGENT_TRACKING_FLUSH_INTERVAL": "0.2"}
    return folder


def clean(finished, status=0):
    assert (finished.err, finished.status) == ("", status)
    return finished


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def waiting(folder):
    return [each.record.properties["n"] for each in Browser(str(folder)).waiting("webhook")]


def test_eight_processes_on_one_folder_deliver_everything_and_nothing_twice(apps, folder):
    processes = [
        apps.script(
            """
            import sys
            from agent_tracking import flush, track
            first = int(sys.argv[1])
            for n in range(first, first + 1000):
                track("x", {"n": n})
            assert flush(60)
            """,
            str(1000 * number),
        )
        for number in range(8)
    ]
    for process in processes:
        assert process.communicate(timeout=100) == ("", "")
        assert process.returncode == 0
    assert apps.arrived() == list(range(8000))


def test_a_script_that_ends_at_once_delivers_and_leaves_an_orderly_folder(apps, folder):
    clean(apps.run("from agent_tracking import track\nfor n in range(10): track('x', {'n': n})"))
    assert apps.arrived() == list(range(10))
    assert waiting(folder) == []


def test_a_script_whose_backend_is_down_leaves_its_records_to_the_next_one(apps, folder):
    apps.sink.fail("webhook", Fault.status(503, times=None))
    finished = apps.run(
        "from agent_tracking import track\nfor n in range(10): track('x', {'n': n})",
        environ={"AGENT_TRACKING_SHUTDOWN_TIMEOUT": "1"},
    )
    assert finished.status == 0
    assert "not delivered" not in finished.err
    assert waiting(folder) == list(range(10))
    apps.sink.clear()
    clean(apps.run("from agent_tracking import track\ntrack('x', {'n': 10})"))
    assert sorted(event["properties"]["n"] for event in apps.sink.events("webhook")) == list(range(11))


@pytest.mark.parametrize(
    "ending", ["sys.exit(3)", "raise SystemExit(3)", "os.kill(os.getpid(), signal.SIGTERM)"]
)
def test_whatever_way_it_ends_all_is_delivered_or_on_the_disk(apps, folder, ending):
    apps.run(f"""
        import os, signal, sys
        from agent_tracking import track
        for n in range(10):
            track("x", {{"n": n}})
        {ending}
    """)
    assert sorted({*apps.arrived(), *waiting(folder)}) == list(range(10))


def test_a_process_that_writes_only_commits_when_it_ends(apps, folder):
    clean(
        apps.run(
            "from agent_tracking import track\nfor n in range(10): track('x', {'n': n})",
            environ={"AGENT_TRACKING_DELIVERY": "relay"},
        )
    )
    assert apps.sink.ledger["webhook"].arrived == 0
    clean(apps.run("from agent_tracking import track\ntrack('x', {'n': 10})"))
    assert apps.arrived() == list(range(11))


def test_a_forked_child_writes_a_segment_of_its_own_and_its_parent_goes_on(apps, folder):
    finished = apps.run("""
        import os, sys, time
        from pathlib import Path
        from agent_tracking import flush, track
        folder = Path(os.environ["AGENT_TRACKING_SPOOL"])
        track("x", {"n": 0})
        assert flush(20)
        before = {path.name for path in folder.glob("*.seg")}
        if not (pid := os.fork()):
            open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")]
            assert not [path for path in open_files if path.startswith(str(folder))], open_files
            track("x", {"n": 1})
            assert flush(20)
            own = {path.name for path in folder.glob("*.seg")} - before
            assert any(f"-{os.getpid()}-" in name for name in own), own
            os._exit(0)
        track("x", {"n": 2})
        assert flush(20)
        assert os.waitpid(pid, 0)[1] == 0
        track("x", {"n": 3})
        assert flush(20)
    """)
    clean(finished)
    assert apps.arrived() == [0, 1, 2, 3]


def test_a_child_that_outlives_its_parent_keeps_no_lock_of_it(apps, folder):
    process = apps.script("""
        import os, sys, time
        from agent_tracking import flush, track
        track("x", {"n": 0})
        assert flush(20)
        if os.fork():
            os._exit(0)
        print("child", flush=True)
        os.close(1); os.close(2)
        time.sleep(60)
    """)
    assert process.stdout.readline() == "child\n"
    assert process.communicate(timeout=20) == ("", "")
    clean(apps.run("from agent_tracking import track\ntrack('x', {'n': 1})"))
    assert apps.arrived() == [0, 1]
    assert waiting(folder) == []


def test_forks_while_eight_threads_track_lose_nothing_and_nothing_counts_twice(apps, folder):
    finished = apps.run("""
        import os, threading, time
        from agent_tracking import flush, track
        ended = threading.Event()
        counts = [0] * 8

        def work(number):
            while not ended.is_set():
                track("x", {"n": number * 100_000 + counts[number]})
                counts[number] += 1
                time.sleep(0.002)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for child in range(10):
            if not (pid := os.fork()):
                track("x", {"n": 1_000_000 + child})
                os._exit(0 if flush(30) else 1)
            assert os.waitpid(pid, 0)[1] == 0
        ended.set()
        for thread in threads:
            thread.join()
        assert flush(30)
        print(*counts)
    """)
    clean(finished)
    counts = list(map(int, finished.out.split()))
    parents = [number * 100_000 + n for number, count in enumerate(counts) for n in range(count)]
    # A child may deliver for all, and leaves by os._exit() in the middle: what it had sent comes again, by key.
    counted = sorted(event["properties"]["n"] for event in apps.sink.events("webhook"))
    assert counted == sorted([*parents, *(1_000_000 + child for child in range(10))])


POISON = """
    import ctypes, os, sys
    from agent_tracking import Tracker
    deadly = sys.argv[1]

    class Fragile:
        name = "fragile"

        def track(self, event):
            if event.properties["n"] == 7:
                {"exit": lambda: os._exit(9), "segfault": lambda: ctypes.string_at(1)}[deadly]()
            lines.append(event.properties["n"])

    class Buffered(Fragile):
        def flush(self):
            delivered = list(lines)
            lines.clear()
            with open(sys.argv[3], "a") as file:
                file.writelines(f"{n}\\n" for n in delivered)

    class Plain(Fragile):
        def track(self, event):
            super().track(event)
            with open(sys.argv[3], "a") as file:
                file.write(f"{lines.pop()}\\n")

    lines = []
    tracker = Tracker(discover=False)
    tracker.register_provider({"buffered": Buffered, "plain": Plain}[sys.argv[2]]())
    if len(sys.argv) > 4:
        for n in range(20):
            tracker.track("x", {"n": n})
    else:
        tracker.start()
        tracker.track("x", {"n": 100})
    tracker.flush(20)
    print(tracker.stats().providers["fragile"].dropped)
"""


@pytest.mark.parametrize(
    ("deadly", "kind", "most"), [("exit", "buffered", 3), ("segfault", "buffered", 3), ("exit", "plain", 6)]
)
def test_a_record_that_kills_the_process_in_the_hook_is_set_aside_after_a_few_deaths(
    apps, folder, tmp_path, deadly, kind, most
):
    out = tmp_path / "delivered"
    deaths = 0
    finished = apps.run(POISON, deadly, kind, str(out), "first")
    while finished.status != 0:
        deaths += 1
        assert deaths <= most
        finished = apps.run(POISON, deadly, kind, str(out))
    assert "'crashed': 1" in finished.out
    delivered = set(map(int, out.read_text().split()))
    assert set(range(20)) - delivered == {7}
    assert 100 in delivered
    (letter,) = Browser(str(folder)).dead.read("fragile")
    assert (letter.record().properties, letter.reason) == ({"n": 7}, "crashed")


@pytest.mark.parametrize("kind", ["buffered", "plain"])
def test_a_kill_while_a_hook_waits_blames_no_record_however_often(apps, folder, tmp_path, kind):
    script = """
        import sys, time
        from agent_tracking import Tracker

        class Slow:
            name = "slow"

            def track(self, event):
                if sys.argv[1] == "plain":
                    self.flush()

        class Buffered(Slow):
            def flush(self):
                if len(sys.argv) > 2:
                    print("waits", flush=True)
                    time.sleep(60)

        if sys.argv[1] == "plain":
            Slow.flush = None
            Slow.track = lambda self, event: Buffered.flush(self)
            del Slow.flush
            provider = Slow()
        else:
            provider = Buffered()
        tracker = Tracker(discover=False)
        tracker.register_provider(provider)
        tracker.track("x", {"n": 1})
        tracker.flush(20)
        print(tracker.stats().providers["slow"].dropped)
    """
    for _ in range(8):
        process = apps.script(script, kind, "wait")
        assert process.stdout.readline() == "waits\n"
        time.sleep(0.6)  # longer than a call takes that does not wait
        process.kill()
        process.communicate()
    assert clean(apps.run(script, kind)).out == "{}\n"
    assert list(Browser(str(folder)).dead.read()) == []


def test_files_of_a_real_process_are_its_owners_only_whatever_the_umask(apps, folder):
    clean(
        apps.run("""
            import os
            os.umask(0)
            from agent_tracking import flush, track
            track("x", {"n": 1})
            assert flush(20)
            os._exit(0)
        """)
    )
    found = list(folder.rglob("*"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [folder, *found] if path.is_dir()} == {0o700}
    assert {".seg", ".pos", ".lock", ".try"} <= {path.suffix for path in found}
