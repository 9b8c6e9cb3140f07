"""What ``agent-tracking doctor`` says of a spool: who delivers, how late, what is damaged or was set aside."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agent_tracking.cli.doctor.findings import Case
from agent_tracking.cli.doctor.spool import check_spool
from agent_tracking.events import TrackingEvent
from agent_tracking.settings import read_settings
from agent_tracking.sources.spool.lines import Header, encode, frames
from agent_tracking.testing import Fault, Sink

#: A segment of an hour ago.
OLD = "1700000000000-1-0.seg"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(0o700)
    return folder


def _event(number):
    return TrackingEvent(
        message_id=f"00000000-0000-4000-8000-{number:012d}",
        time=1.7e9,
        user_id="u",
        anonymous_id=None,
        session_id=None,
        name="order paid",
        properties_json=b'{"n":1}',
    )


def segment(folder, count=3, *, name=OLD, bad=0):
    """Write records as an application would have, two years ago; some of their lines are damaged."""
    lines = frames(encode(_event(n), 1.7e9) for n in range(count))
    for n in range(bad):
        lines[n] = lines[n].replace(b"order", b"ordre")
    header = Header(ids="00000000-0000-4000-8000-", created=1.7e9).line()
    (folder / name).write_bytes(header + b"".join(lines))


def findings(folder, **environ):
    environ = {"AGENT_TRACKING_SPOOL": str(folder), **environ}
    settings, problems = read_settings(environ)
    assert problems == []
    return [
        (str(each.level), each.where, f"{each.what}; {each.fix}")
        for each in check_spool(Case(environ, settings, [], []))
    ]


def found(all_of_them, level, words):
    return [each for each in all_of_them if each[0] == level and words in each[2]]


def relay_once(folder, sink):
    environ = {
        **sink.environ("webhook"),
        "AGENT_TRACKING_PROVIDERS": "webhook",
        "AGENT_TRACKING_SPOOL": str(folder),
    }
    command = [sys.executable, "-m", "agent_tracking", "relay", "--once", "--timeout", "2"]
    return subprocess.run(command, env={**os.environ, **environ}, check=False, capture_output=True, text=True)


def test_a_healthy_folder_is_no_problem(folder):
    assert [each[0] for each in findings(folder)] == ["ok"]


def test_that_no_relay_runs_is_a_problem_where_one_is_to_deliver(folder):
    assert found(findings(folder, AGENT_TRACKING_DELIVERY="relay"), "problem", "no relay runs")


def test_the_relay_that_runs_is_named(folder):
    with Sink() as sink:
        environ = {**sink.environ("webhook"), "AGENT_TRACKING_PROVIDERS": "webhook"}
        command = [sys.executable, "-m", "agent_tracking", "relay", "--spool", str(folder)]
        relay = subprocess.Popen(command, env={**os.environ, **environ}, stdout=subprocess.PIPE)
        try:
            relay.stdout.readline()
            said = findings(folder, AGENT_TRACKING_DELIVERY="relay")
        finally:
            relay.kill()
            relay.communicate()
    assert found(said, "ok", f"process {relay.pid} delivers")
    assert not found(said, "problem", "")


def test_what_waits_for_long_while_nobody_delivers_is_a_problem_for_that_provider(folder):
    segment(folder)
    with Sink() as sink:
        sink.fail("webhook", Fault.status(503, times=None))
        relay_once(folder, sink)
    ((_, where, text),) = found(findings(folder), "problem", "no process delivers")
    assert where == "webhook"
    assert "about 3 records wait for webhook" in text
    assert "drop --waiting --provider webhook" in text


def test_what_was_set_aside_is_a_problem_with_the_commands_for_it(folder):
    segment(folder)
    with Sink() as sink:
        sink.fail("webhook", Fault.status(400, times=None))
        assert relay_once(folder, sink).returncode == 1
    assert found(
        findings(folder), "problem", "3 records for webhook were set aside; agent-tracking spool list --dead"
    )


def test_damaged_lines_are_counted(folder):
    segment(folder, 5, bad=2)
    assert found(findings(folder), "problem", "2 lines are damaged")


def test_files_of_a_newer_version_are_a_problem(folder):
    (folder / OLD).write_bytes(Header(ids="", version=9).line())
    assert found(findings(folder), "problem", "a newer version of agent-tracking wrote 1 of its files")


def test_a_folder_that_is_nearly_full_is_a_problem(folder):
    segment(folder, 100)
    size = (folder / OLD).stat().st_size
    assert found(findings(folder, AGENT_TRACKING_SPOOL_BYTES=str(size)), "problem", "% full")
    assert not found(findings(folder, AGENT_TRACKING_SPOOL_BYTES=str(10 * size)), "problem", "% full")


def test_a_folder_that_others_may_read_is_told_and_refused_only_with_files_of_others_in_it(folder):
    folder.chmod(0o755)
    assert found(findings(folder), "note", "others may read it")
    (folder / "notes.txt").write_text("")
    assert found(findings(folder), "problem", "no process uses it")
