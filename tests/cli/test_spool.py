"""``agent-tracking spool``: what is shown of a folder, what goes back, what is destroyed and what is asked before."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from agent_tracking.cli.app import app
from agent_tracking.sources.spool.lines import Header
from agent_tracking.testing import Fault, Sink

PYTHON = (sys.executable, "-m", "agent_tracking")
WRITER = """
import sys
from agent_tracking import flush, identify, track
for n in range(int(sys.argv[1])):
    track("order paid", {"n": n, "text": "a\\x1b[31mb"}, user_id=f"u-{n}")
identify("u-1", {"plan": "pro"})
assert flush()
"""
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


class Done(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments, **environ):
    """Run a command in this process, without a terminal."""
    result = CliRunner().invoke(app, ["spool", *arguments], env={"AGENT_TRACKING_SPOOL": None, **environ})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return Done(result.exit_code, result.stdout, result.stderr)


class Spool:
    """A folder, the commands about it, and a relay that looks once."""

    def __init__(self, cli, sink, folder):
        self.cli, self.sink, self.folder = cli, sink, folder
        self.environ = {
            **sink.environ("webhook", "posthog"),
            "AGENT_TRACKING_PROVIDERS": "webhook,posthog",
            "AGENT_TRACKING_SPOOL": str(folder),
        }

    def write(self, count):
        subprocess.run(
            [sys.executable, "-c", WRITER, str(count)],
            env={**os.environ, **self.environ, "AGENT_TRACKING_DELIVERY": "relay"},
            check=True,
        )

    def relay(self, *options):
        return self.cli.run("relay", "--once", *options, **self.environ)

    def run(self, *arguments):
        return command(*arguments, **self.environ)

    def json(self, *arguments, status=0):
        done = self.run(*arguments, "--json")
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    def refuse(self, *names):
        """Have the backends refuse everything, so that it is set aside."""
        for name in names:
            self.sink.fail(name, Fault.status(400, times=None))
        assert self.relay().returncode == 1
        self.sink.clear()


@pytest.fixture
def spool(cli, sink, tmp_path):
    return Spool(cli, sink, tmp_path / "spool")


def test_status_tells_what_waits_for_whom_and_that_nobody_delivers(spool):
    spool.write(59)
    before = spool.json("status")
    assert (before["records"], before["providers"], before["segments"]) == (60, {}, 1)
    assert "no process has delivered from here yet; about 60 records wait" in spool.run("status").stdout
    spool.sink.fail("webhook", Fault.status(503, times=None))
    assert spool.relay("--timeout", "2").returncode == 1
    found = spool.json("status")
    assert found["providers"]["posthog"] == {
        "records": 0, "bytes": 0, "seconds": 0.0, "leader": None, "role": None, "dead": 0
    }  # fmt: skip
    webhook = found["providers"]["webhook"]
    assert (webhook["records"], webhook["bytes"] > 0, webhook["seconds"] > 0) == (60, True, True)
    head, first, second, *_ = spool.run("status").stdout.splitlines()
    assert head.split() == ["provider", "records", "bytes", "oldest", "delivered", "by", "set", "aside"]
    assert first.split()[:2] == ["posthog", "0"]
    assert second.split()[:2] == ["webhook", "60"]
    assert "nobody delivers to webhook" in spool.run("status").stdout


def test_status_tells_which_relay_delivers(spool, cli):
    spool.write(9)
    relay = subprocess.Popen(
        [*PYTHON, "relay"], env={**os.environ, **spool.environ}, stdout=subprocess.PIPE, text=True
    )
    try:
        relay.stdout.readline()
        deadline = time.monotonic() + 20
        while True:
            webhook = spool.json("status")["providers"]["webhook"]
            if (webhook["leader"], webhook["role"]) == (relay.pid, "relay"):
                break
            assert time.monotonic() < deadline, webhook
        assert f"relay {relay.pid}" in spool.run("status").stdout
        done = spool.run("drop", "--waiting", "--provider", "webhook", "--yes")
        assert done.returncode == 0
        spool.sink.fail("webhook", Fault.status(503, times=None))
        spool.write(9)
        done = spool.run("drop", "--waiting", "--provider", "webhook", "--yes")
        assert (done.returncode, f"process {relay.pid} delivers to webhook now" in done.stderr) == (1, True)
    finally:
        relay.kill()
        relay.communicate()


def test_watch_ends_when_nothing_waits_and_moves_a_bar_on_a_terminal(spool, cli):
    spool.write(59)
    relay = subprocess.Popen(
        [*PYTHON, "relay", "--once"], env={**os.environ, **spool.environ}, stdout=subprocess.DEVNULL
    )
    try:
        done = spool.run("status", "--watch")
        assert (done.returncode, done.stdout.splitlines()[-1].count("nothing waits")) == (0, 2)
    finally:
        assert relay.wait(30) == 0
    status, written = cli.on_terminal("spool", "status", "--watch", columns=120, **spool.environ)
    plain = _ESCAPE.sub("", written)
    assert status == 0
    assert "webhook" in plain
    assert "100%" in plain
    assert spool.run("status", "--watch", "--json").returncode == 2


def test_list_shows_what_waits_the_oldest_first_and_not_what_is_in_it(spool):
    spool.write(59)
    found = spool.json("list", "--limit", "2")
    assert [each["name"] for each in found["records"]] == ["order paid", "order paid"]
    assert (found["more"], found["damaged"]) == (True, 0)
    every = spool.json("list", "--limit", "1000")
    assert (len(every["records"]), every["more"]) == (60, False)
    assert (every["records"][-1]["kind"], every["records"][-1]["name"]) == ("identity", None)
    done = spool.run("list", "--limit", "3")
    assert done.stdout.splitlines()[0].split() == ["id", "since", "name", "waits", "for"]
    assert "more: --limit" in done.stdout
    assert "u-1" not in done.stdout


def test_list_names_each_record_once_with_all_the_providers_that_it_waits_for(spool):
    spool.sink.fail("webhook", Fault.status(503, times=None))
    spool.sink.fail("posthog", Fault.status(503, times=None))
    spool.write(3)
    spool.relay("--timeout", "1")
    assert [each["providers"] for each in spool.json("list")["records"]] == [["posthog", "webhook"]] * 4
    spool.sink.clear("posthog")
    spool.relay("--timeout", "1")
    assert [each["providers"] for each in spool.json("list")["records"]] == [["webhook"]] * 4
    assert spool.json("list", "--provider", "posthog")["records"] == []


def test_a_damaged_line_is_counted_and_costs_the_list_no_other(spool):
    spool.write(9)
    (path,) = spool.folder.glob("*.seg")
    data = bytearray(path.read_bytes())
    data[data.index(b'"n":4')] ^= 1
    path.write_bytes(bytes(data))
    found = spool.json("list")
    assert (len(found["records"]), found["damaged"]) == (9, 1)
    assert "1 lines that are damaged" in spool.run("list").stdout


def test_show_gives_all_of_one_record_and_nothing_that_moves_a_terminal(spool):
    spool.write(5)
    record = spool.json("list")["records"][2]
    (found,) = spool.json("show", record["id"])
    assert (found["name"], found["user_id"], found["properties"]["n"]) == ("order paid", "u-2", 2)
    done = spool.run("show", record["id"])
    assert (done.returncode, "\x1b" in done.stdout) == (0, False)
    assert '"n": 2' in done.stdout
    done = spool.run("show", "none")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no record with the id 'none'" in done.stderr


def test_what_was_set_aside_is_listed_with_its_reason_and_goes_back_with_its_id(spool):
    spool.write(4)
    spool.refuse("webhook")
    listed = spool.json("list", "--dead")["records"]
    assert [(each["providers"], each["reason"]) for each in listed] == [(["webhook"], "rejected")] * 5
    assert spool.json("status")["providers"]["webhook"]["dead"] == 5
    assert "rejected" in spool.run("list", "--dead").stdout
    (shown, *_) = spool.json("show", listed[0]["id"])
    assert (shown["reason"], shown["properties"]["n"]) == ("rejected", 0)
    assert spool.json("retry", listed[0]["id"]) == {"put_back": {"webhook": 1}, "left": 0}
    assert spool.json("retry", "--provider", "webhook") == {"put_back": {"webhook": 4}, "left": 0}
    before = spool.sink.totals("posthog").arrived
    assert spool.relay().returncode == 0
    assert sorted(spool.sink.ledger["webhook"].accepted_keys()) == sorted(each["id"] for each in listed)
    assert spool.sink.totals("posthog").arrived == before
    assert spool.json("list", "--dead")["records"] == []


def test_on_a_terminal_a_bar_shows_how_far_retry_is(spool, cli):
    spool.write(4)
    spool.refuse("webhook")
    status, written = cli.on_terminal("spool", "retry", **spool.environ)
    plain = _ESCAPE.sub("", written)
    assert (status, "5/5" in plain, "put back: 5 to webhook" in plain) == (0, True, True)


def test_what_cannot_be_put_back_stays_and_the_status_says_so(spool):
    spool.write(4)
    spool.refuse("webhook")
    done = command("retry", **spool.environ, AGENT_TRACKING_SPOOL_BYTES="10")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert len(spool.json("list", "--dead")["records"]) == 5


def test_retry_of_an_unknown_id_or_provider_changes_nothing(spool):
    spool.write(1)
    spool.refuse("webhook")
    assert spool.run("retry", "none").returncode == 1
    done = spool.run("retry", "--provider", "webhok")
    assert (done.returncode, "there is posthog, webhook" in done.stderr) == (2, True)
    assert len(spool.json("list", "--dead")["records"]) == 2
    assert spool.json("retry", "--provider", "posthog") == {"put_back": {}, "left": 0}


def test_nothing_is_destroyed_where_nobody_can_be_asked(spool):
    spool.write(4)
    spool.refuse("webhook")
    spool.write(4)
    for arguments in (["--dead"], ["--waiting", "--provider", "webhook"], ["--dead", "--json"]):
        done = spool.run("drop", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "--yes" in done.stderr
    assert len(spool.json("list", "--dead")["records"]) == 5
    assert len(spool.json("list", "--provider", "webhook")["records"]) == 5


def answered(spool, answer):
    """Run ``drop --dead`` on a terminal, where somebody types this."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [*PYTHON, "spool", "drop", "--dead"],
        env={**os.environ, **spool.environ},
        stdin=secondary,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(secondary)
    os.write(primary, answer.encode())
    out, err = process.communicate(timeout=30)
    os.close(primary)
    assert "destroys records that were set aside: 3 of webhook" in err
    return process.returncode, "dropped: 3 of webhook" in out, len(spool.json("list", "--dead")["records"])


def test_on_a_terminal_it_asks_and_does_what_is_answered(spool):
    spool.write(2)
    spool.refuse("webhook")
    assert answered(spool, "n\n") == (1, False, 3)
    assert answered(spool, "\n") == (1, False, 3)
    assert answered(spool, "y\n") == (0, True, 0)


def test_drop_takes_what_it_was_told_and_nothing_else(spool):
    spool.write(4)
    spool.refuse("webhook", "posthog")
    first = spool.json("list", "--dead", "--provider", "webhook")["records"][0]["id"]
    assert spool.json("drop", "--dead", "--provider", "webhook", first, "--yes") == {
        "dropped": {"webhook": 1}
    }
    assert len(spool.json("list", "--dead", "--provider", "webhook")["records"]) == 4
    assert len(spool.json("list", "--dead", "--provider", "posthog")["records"]) == 5
    spool.write(4)
    assert spool.json("drop", "--waiting", "--provider", "webhook", "--yes")["dropped"]["webhook"] == 5
    assert spool.json("list", "--provider", "webhook")["records"] == []
    assert len(spool.json("list", "--provider", "posthog")["records"]) == 5
    spool.write(1)
    assert spool.relay().returncode == 0
    assert [spool.sink.totals(name).counted for name in ("webhook", "posthog")] == [2, 7]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["drop"], "say what to drop"),
        (["drop", "--dead", "--waiting"], "say what to drop"),
        (["drop", "--waiting"], "--provider NAME"),
        (["drop", "--waiting", "--provider", "webhook", "id"], "no ID"),
        (["list", "--provider", "nope"], "knows no provider 'nope'"),
        (["list", "--limit", "0"], "--limit"),
        (["show"], "ID"),
    ],
)
def test_what_makes_no_sense_is_refused(spool, arguments, words):
    spool.write(1)
    done = spool.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.parametrize(
    "words", [["status"], ["list"], ["show", "x"], ["retry"], ["drop", "--dead"]], ids=str
)
def test_each_command_says_which_folder_it_cannot_read_and_makes_none(tmp_path, words):
    done = command(*words, "--spool", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"{tmp_path}/none" in line
    assert not (tmp_path / "none").exists()
    assert "--spool FOLDER" in command(*words).stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_folder_of_another_user_is_looked_at_and_not_changed(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(0o700)
    os.chown(folder, 65534, 65534)
    assert command("status", "--spool", str(folder)).returncode == 0
    for words in (["retry"], ["drop", "--dead", "--yes"]):
        done = command(*words, "--spool", str(folder))
        assert (done.returncode, "another user" in done.stderr) == (2, True)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["status", "list", "show", "retry", "drop"])
def test_help_has_an_example(name):
    assert "Example: agent-tracking spool" in command(name, "--help").stdout


def test_as_a_process_it_says_the_same_and_no_traceback(spool, cli):
    spool.write(3)
    done = cli.run("spool", "status", "--json", **spool.environ)
    assert (done.returncode, done.stderr, json.loads(done.stdout)) == (0, "", spool.json("status"))
    done = cli.run("spool", "drop", "--dead", "x", **spool.environ)
    assert (done.returncode, done.stderr) == (1, "Error: no record with the id 'x' was set aside\n")


def test_a_segment_of_a_newer_version_is_named_and_not_counted(spool):
    spool.write(1)
    before = spool.json("status")
    newer = spool.folder / "9999999999999-1-0.seg"
    newer.write_bytes(Header(ids="", version=7).line() + b"whatever\n")
    found = spool.json("status")
    assert (found["newer"], found["segments"], found["bytes"]) == ([newer.name], 1, before["bytes"])
    assert "as a newer version wrote them: 1 segments" in spool.run("status").stdout
    assert len(spool.json("list")["records"]) == 2
