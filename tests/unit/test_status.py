"""Counters of running processes as files: written rarely, atomically, by nobody else's leave; read with care."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_tracking import Tracker
from agent_tracking.counters import ProviderStats, Stats
from agent_tracking.settings import Settings
from agent_tracking.status import (
    BEAT,
    EVERY,
    SILENT,
    ProcessStatus,
    StatusWriter,
    read_status,
    status_folder,
)
from agent_tracking.testing import Fault, Sink

#: Longer than anything here takes on a busy machine.
PATIENCE = 30.0
DAY = 86_400


def until(condition, timeout=PATIENCE):
    """Wait until the condition holds; return what it gave last."""
    end = time.monotonic() + timeout
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


def counting(delivered):
    return Stats(
        tracked=delivered, providers={"acme": ProviderStats(accepted=delivered, delivered=delivered)}
    )


class Clock:
    def __init__(self):
        self.seconds = 1_000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "status"


@pytest.fixture
def writer(folder, clock):
    writer = StatusWriter(folder, clock=clock)
    yield writer
    writer.remove()


def only(folder):
    (seen,) = read_status(folder)
    return seen.process


def tick(writer, delivered, *, idle=False):
    return writer.tick(lambda: counting(delivered), idle=idle, tracked=delivered)


def test_a_file_says_which_process_it_is_and_what_it_counted(folder, writer):
    tick(writer, 3)
    process = only(folder)
    assert (process.pid, process.host, process.role) == (os.getpid(), socket.gethostname(), "app")
    assert process.program == Path(sys.argv[0]).name or process.program == "pytest"
    assert process.version
    assert process.started <= process.updated <= time.time()
    assert process.stats == counting(3)
    assert [path.name for path in folder.iterdir()] == [f"{os.getpid()}.json"]


def test_a_process_that_only_delivers_says_so(folder, clock):
    relay = StatusWriter(folder, "relay", clock=clock)
    tick(relay, 1)
    assert only(folder).role == "relay"
    relay.remove()


def test_folder_and_file_are_the_owners_alone_whatever_the_umask(folder, clock):
    before = os.umask(0)
    try:
        writer = StatusWriter(folder, clock=clock)
        tick(writer, 1)
    finally:
        os.umask(before)
    (path,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    writer.remove()


def test_the_mode_of_a_folder_that_exists_is_left_alone(folder, writer):
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    tick(writer, 1)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_it_is_written_every_two_seconds_at_most(folder, writer, clock):
    for number in range(100):
        tick(writer, number)
        clock.seconds += EVERY / 10
    inodes = {only(folder).stats.tracked}
    assert inodes == {90}


def test_what_changed_just_before_it_falls_asleep_is_still_written(folder, writer, clock):
    tick(writer, 1, idle=True)
    assert tick(writer, 2, idle=True), "the dispatcher has to look again"
    assert only(folder).stats.tracked == 1
    clock.seconds += EVERY
    assert not tick(writer, 2, idle=True), "the dispatcher may sleep"
    assert only(folder).stats.tracked == 2
    clock.seconds += EVERY
    assert not tick(writer, 2, idle=True)


def test_what_was_settled_while_it_was_busy_is_still_written_and_then_it_may_sleep(folder, writer, clock):
    writer.tick(lambda: counting(0), idle=False, tracked=1)
    clock.seconds += EVERY / 2
    assert writer.tick(lambda: counting(1), idle=True, tracked=1)
    clock.seconds += EVERY
    assert not writer.tick(lambda: counting(1), idle=True, tracked=1)
    assert only(folder).stats.tracked == 1
    clock.seconds += EVERY / 2
    assert not writer.tick(lambda: pytest.fail("asked for nothing"), idle=True, tracked=1)


def test_what_did_not_change_is_written_again_only_to_show_that_the_process_lives(folder, clock):
    now = Clock()
    now.seconds = began = time.time()
    writer = StatusWriter(folder, clock=clock, now=now)
    tick(writer, 1, idle=True)
    for step in (EVERY, BEAT - EVERY - 1):
        clock.seconds += step
        now.seconds += step
        tick(writer, 1, idle=True)
    assert only(folder).updated == began
    clock.seconds += 2
    now.seconds += 2
    tick(writer, 1, idle=True)
    assert only(folder).updated == now.seconds
    writer.remove()


def test_without_a_folder_nothing_happens_and_the_counters_are_not_even_asked(tmp_path):
    writer = StatusWriter(None)
    assert not writer.tick(lambda: pytest.fail("asked"), idle=True, tracked=1)
    assert writer.beat is None
    writer.remove()
    assert list(tmp_path.iterdir()) == []


def test_once_removed_it_does_not_come_back(folder, writer):
    tick(writer, 1)
    writer.remove()
    assert not tick(writer, 2, idle=True)
    assert list(folder.iterdir()) == []
    assert writer.beat is None


def test_two_trackers_of_one_process_have_a_file_each(folder, clock):
    first, second = (StatusWriter(folder, clock=clock) for _ in range(2))
    tick(first, 1)
    tick(second, 2)
    assert sorted(seen.process.stats.tracked for seen in read_status(folder)) == [1, 2]
    first.remove()
    assert [seen.process.stats.tracked for seen in read_status(folder)] == [2]
    second.remove()


def test_no_error_of_the_disk_disturbs_and_it_recovers(tmp_path, clock):
    place = tmp_path / "taken"
    place.write_text("a file where the folder should be")
    writer = StatusWriter(place, clock=clock)
    assert not tick(writer, 1)
    place.unlink()
    clock.seconds += EVERY
    tick(writer, 2)
    assert only(place).stats.tracked == 2
    (place / f"{os.getpid()}.json").unlink()
    place.rmdir()
    clock.seconds += EVERY
    tick(writer, 3)
    assert only(place).stats.tracked == 3
    place.chmod(0o500)
    writer.remove()
    place.chmod(0o700)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({}, None),
        ({"status": "/s"}, Path("/s")),
        ({"spool": "/p"}, Path("/p/status")),
        ({"spool": "/p", "status": "/s"}, Path("/s")),
    ],
)
def test_the_folder_is_the_one_that_is_set_or_one_in_the_spool(given, meant):
    assert status_folder(Settings(**given)) == meant


def write(folder, *, name=None, **changes):
    folder.mkdir(exist_ok=True)
    values = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "program": "app",
        "role": "app",
        "started": time.time() - 10,
        "updated": time.time(),
        "version": "0.1.0",
        "stats": counting(1),
        **changes,
    }
    path = folder / (name or f"{values['pid']}.json")
    path.write_bytes(msgspec.json.encode(ProcessStatus(**values)))
    return path


def dead_pid():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({}, False),
        ({"pid": 1}, False),
        ({"pid": dead_pid}, True),
        ({"pid": dead_pid, "host": "another"}, False),
        ({"updated": lambda: time.time() - SILENT - 1}, True),
        ({"updated": lambda: time.time() - SILENT + 60}, False),
        ({"host": "another", "updated": lambda: time.time() - SILENT - 1}, True),
    ],
)
def test_a_process_is_gone_by_its_number_here_and_by_its_silence_anywhere(folder, changes, stale):
    write(folder, **{name: value() if callable(value) else value for name, value in changes.items()})
    (seen,) = read_status(folder)
    assert seen.stale is stale


def test_processes_with_one_number_on_two_machines_keep_a_file_each(folder, clock, writer):
    theirs = write(folder, host="another")  # in containers the first process has the number 1
    tick(writer, 3)
    assert sorted(seen.process.host for seen in read_status(folder)) == ["another", socket.gethostname()]
    own = theirs.replace(folder / f"{os.getpid()}-2.json")  # both began at once, and that one came last
    clock.seconds += EVERY
    tick(writer, 4)
    assert msgspec.json.decode(own.read_bytes())["host"] == "another"
    writer.remove()
    assert [seen.process.host for seen in read_status(folder)] == ["another"]


def test_a_number_whose_process_elsewhere_has_long_been_silent_is_taken_over(folder, writer):
    write(folder, host="another", updated=time.time() - SILENT - 1)
    tick(writer, 3)
    assert only(folder).host == socket.gethostname()


def test_files_of_processes_gone_for_a_day_are_deleted_and_others_stay(folder):
    long_ago = time.time() - DAY - 60
    old = write(folder, name="1.json", pid=dead_pid(), updated=long_ago)
    new = write(folder, name="2.json", pid=dead_pid(), updated=time.time() - DAY + 60)
    cut_off = folder / ".123-abc.tmp"
    strangers = [folder / "notes.json", folder / ".hidden.tmp", folder / "data.tmp", folder / "9.txt"]
    for path in (cut_off, *strangers):
        path.write_text("{}")
        os.utime(path, (long_ago, long_ago))
    assert [seen.stale for seen in read_status(folder)] == [True]
    assert not old.exists()
    assert not cut_off.exists()
    assert new.exists()
    assert all(path.exists() for path in strangers)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 400))
def test_whatever_stands_in_a_file_reading_raises_nothing(tmp_path, data, start, length):
    folder = tmp_path / "status"
    path = write(folder)
    good = path.read_bytes()
    path.write_bytes(good[:start] + data + good[start + length :])
    for seen in read_status(folder):
        assert isinstance(seen.process, ProcessStatus)


def test_what_is_no_plain_file_is_passed_over(folder):
    write(folder)
    (folder / "1.json").mkdir()
    (folder / "2.json").symlink_to(folder / f"{os.getpid()}.json")
    os.mkfifo(folder / "3.json")
    (folder / "4.json").write_bytes(b" " * 2_000_000)
    assert len(read_status(folder)) == 1
    assert read_status(folder / "nowhere") == []


def test_nothing_secret_is_in_it(folder):
    with Sink() as sink:
        sink.fail("webhook", Fault.status(400, times=None, body="s3cret-answer"))
        environ = {
            **sink.environ("webhook"),
            "TRACKING_WEBHOOK_URL": f"{sink.url}/webhook/s3cret-path",
            "TRACKING_WEBHOOK_AUTH": "Bearer s3cret-auth",
            "AGENT_TRACKING_STATUS": str(folder),
        }
        tracker = Tracker(environ=environ)
        tracker.track("s3cret-name", {"s3cret": "s3cret"}, user_id="s3cret-user")
        tracker.flush(PATIENCE)
        assert until(
            lambda: [seen for seen in read_status(folder) if seen.process.stats.providers["webhook"].dropped]
        )
        text = "".join(path.read_text() for path in folder.iterdir())
        tracker.shutdown(5)
    assert "webhook" in text
    assert "s3cret" not in text


# Real processes.

APP = """
    import os, signal, sys, threading, time
    from agent_tracking import flush, track, shutdown, configure
    track("order paid", user_id="u")
    flush(20)
    END
"""


@pytest.fixture
def app(tmp_path, folder):
    """Start a process that tracks one event and then ends as it is told."""
    started = []
    with Sink() as sink:

        def start(end, *arguments, **environ):
            code = textwrap.dedent(APP).replace("END", textwrap.dedent(end))
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                env={
                    **os.environ,
                    **sink.environ(),
                    "AGENT_TRACKING_STATUS": str(folder),
                    **environ,
                },
                cwd=tmp_path,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            return process

        yield start
        for process in started:
            process.kill()
            process.communicate()


def shown(folder):
    """Return the process once its counters say that the event arrived everywhere."""

    def look():
        return [
            seen
            for seen in read_status(folder)
            if [stats.delivered for stats in seen.process.stats.providers.values()] == [1, 1, 1, 1]
        ]

    assert until(look), [seen.process for seen in read_status(folder)]
    return look()[0]


def test_a_process_shows_its_counters_while_it_runs_and_none_when_it_has_ended(app, folder):
    process = app("sys.stdin.read()", "s3cret-argument")
    seen = shown(folder)
    assert not seen.stale
    assert (seen.process.pid, seen.process.program) == (process.pid, "-c")
    assert set(seen.process.stats.providers) == {"amplitude", "mixpanel", "posthog", "webhook"}
    assert "s3cret" not in (folder / f"{process.pid}.json").read_text()
    process.communicate("", timeout=PATIENCE)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "end",
    ["pass", "sys.exit(3)", "raise SystemExit", "shutdown()", "os.kill(os.getpid(), signal.SIGTERM)"],
    ids=["last line", "exit status", "SystemExit", "shutdown", "SIGTERM"],
)
def test_every_orderly_end_takes_the_file_away(app, folder, end):
    process = app(f"sys.stdin.read()\n{end}")
    shown(folder)
    process.communicate("", timeout=PATIENCE)
    assert list(folder.iterdir()) == []


def test_a_process_that_is_killed_leaves_its_file_and_is_told_as_gone(app, folder):
    process = app("sys.stdin.read()")
    shown(folder)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    (seen,) = read_status(folder)
    assert seen.stale
    assert seen.process.stats.providers["posthog"].delivered == 1


def test_a_forked_child_has_a_file_of_its_own_and_leaves_its_parents_alone(app, folder):
    process = app(
        """
    if os.fork() == 0:
        track("in the child", user_id="u")
        flush(20)
        sys.stdin.readline()
        sys.exit()
    else:
        os.wait()
        print("child ended", flush=True)
        sys.stdin.readline()
    """
    )
    assert until(lambda: len(read_status(folder)) == 2)
    pids = {seen.process.pid for seen in read_status(folder)}
    assert process.pid in pids
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "child ended\n"
    assert [seen.process.pid for seen in read_status(folder)] == [process.pid]
    process.communicate("\n", timeout=PATIENCE)
    assert list(folder.iterdir()) == []


def test_new_settings_move_the_file(app, folder, tmp_path):
    other = tmp_path / "other"
    process = app(
        f"configure(status={str(other)!r})\ntrack('again', user_id='u')\nflush(20)\nsys.stdin.read()",
    )
    assert until(lambda: read_status(other))
    assert list(folder.iterdir()) == []
    process.communicate("", timeout=PATIENCE)
    assert list(other.iterdir()) == []


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_file(app, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    process = app("print(flush(20).__bool__())", AGENT_TRACKING_STATUS=str(blocked / "status"))
    out, _ = process.communicate("", timeout=PATIENCE)
    assert process.returncode == 0
    assert out == "True\n"


def test_a_process_that_sleeps_looks_now_and_then_to_show_that_it_lives(tmp_path):
    tracker = Tracker(environ={"AGENT_TRACKING_STATUS": str(tmp_path / "status")}, discover=False)
    quiet = Tracker(environ={}, discover=False)
    assert tracker.dispatcher().status.beat == BEAT
    assert quiet.dispatcher().status.beat is None
    tracker.shutdown(0)
    quiet.shutdown(0)


# What the commands make of it.


def commands(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "agent_tracking", *arguments],
        env={
            **{name: value for name, value in os.environ.items() if "PROXY" not in name.upper()},
            "AGENT_TRACKING_STATUS": str(folder),
            "AGENT_TRACKING_PROVIDERS": "none",
            "VIRTUAL_ENV": "",
        },
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def one_with(folder, **stats):
    write(folder, stats=Stats(providers={"acme": ProviderStats(**{"accepted": 20, **stats})}))


def test_providers_shows_the_counters_of_running_processes(folder):
    now = time.time()
    one_with(
        folder,
        delivered=7,
        waiting=5,
        dropped={"rejected": 8},
        last_success=now - 125,
        last_error="the backend answered 400",
        last_error_at=now - 5,
        delay=3.5,
    )
    done = commands(folder, "providers")
    assert done.returncode == 0
    (row,) = [line for line in done.stdout.splitlines() if f"app {os.getpid()}" in line]
    for word in ("acme", "7", "5", "rejected: 8", "2 min ago", "the backend answered 400 (", "3 s"):
        assert word in row
    (process,) = json.loads(commands(folder, "providers", "--json").stdout)["processes"]
    assert process["process"]["stats"]["providers"]["acme"]["dropped"] == {"rejected": 8}
    assert process["stale"] is False


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        ({"dropped": {"rejected": 3}, "delivered": 17}, ["3 records were dropped for acme: rejected"]),
        ({"busy": 300.0, "waiting": 20}, ["acme hangs", "5 min"]),
        (
            {
                "last_error": "the backend answered 503",
                "last_error_at": 2.0,
                "last_success": 1.0,
                "waiting": 9,
            },
            ["acme fails", "the backend answered 503", "9 records wait"],
        ),
        (
            {"last_error": "ConnectError while sending", "last_error_at": 2.0},
            ["acme fails", "never delivered"],
        ),
    ],
    ids=["dropping", "hanging", "failing", "failing from the start"],
)
def test_doctor_tells_a_process_that_drops_hangs_or_fails(folder, stats, words):
    one_with(folder, **stats)
    done = commands(folder, "doctor", "--json")
    assert done.returncode == 1
    (finding,) = [each for each in json.loads(done.stdout)["findings"] if each["level"] == "problem"]
    assert finding["check"] == "processes"
    assert finding["where"] == f"app {os.getpid()}"
    assert all(word in finding["what"] for word in words), finding
    assert finding["fix"]


@pytest.mark.parametrize(
    "stats",
    [
        {"delivered": 20},
        {"delivered": 10, "waiting": 10, "busy": 1.0},
        {
            "delivered": 20,
            "last_error": "the backend answered 503",
            "last_error_at": 1.0,
            "last_success": 2.0,
        },
        {"delivered": 10, "dropped": {"sampled": 10}},
    ],
    ids=["all delivered", "at work", "recovered", "dropped on purpose"],
)
def test_doctor_has_nothing_against_a_process_that_does_well(folder, stats):
    one_with(folder, **stats)
    done = commands(folder, "doctor", "--json")
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert [each["level"] for each in report["findings"] if each["check"] == "processes"] == ["ok"]
    assert len(report["processes"]) == 1


def test_doctor_blames_nobody_for_a_process_that_is_gone(folder):
    write(folder, pid=dead_pid(), stats=Stats(dropped={"no-provider": 5}))
    done = commands(folder, "doctor", "--json")
    assert done.returncode == 0
    (finding,) = [each for each in json.loads(done.stdout)["findings"] if each["check"] == "processes"]
    assert finding["level"] == "note"
