"""``agent-tracking demo``: everything arrives exactly once, it is shown, and nothing secret is."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

NAMES = ["amplitude", "mixpanel", "posthog", "webhook"]
#: Keys that the demo's sink and the demo itself give to the providers.
KEYS = ("test-token-of-the-sink", "test-key-of-the-sink", "phc_", "demo-token")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return subprocess.run(
        [sys.executable, "-m", "agent_tracking", "demo", "--json", "--seconds", "1", "--events", "300"],
        cwd=tmp_path_factory.mktemp("demo"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def report(done):
    return json.loads(done.stdout)


def test_it_succeeds_and_prints_json_alone(done, report):
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert report["ok"] is True


def test_everything_arrived_exactly_once_at_all_four(report):
    assert sorted(report["providers"]) == NAMES
    assert report["events"] == 300
    assert report["identities"] > 0
    total = report["events"] + report["identities"]
    for name, row in report["providers"].items():
        assert (row["once"], row["delivered"]) == (total, total), name
        assert not any(row[word] for word in ("missing", "twice", "foreign", "dropped", "waiting")), name


def test_the_provider_that_failed_tried_again_and_the_others_had_no_need_to(report):
    assert report["failing"] == "posthog"
    retried = {name: row["retried"] for name, row in report["providers"].items()}
    assert retried.pop("posthog") > 0
    assert set(retried.values()) == {0}
    assert [line for line in report["log"] if "posthog" in line and "503" in line]


def test_it_tells_how_long_a_call_took(report):
    calls = report["calls"]
    assert calls["count"] == 300
    assert 0 < calls["median_us"] <= calls["p99_us"] <= calls["longest_us"]


def test_it_shows_one_and_the_same_event_as_each_provider_got_it(report):
    samples = {name: json.dumps(row["sample"]["body"]) for name, row in report["providers"].items()}
    ids = {name: set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", text)) for name, text in samples.items()}
    assert all(len(found) == 1 for found in ids.values()), ids
    assert len(set.union(*ids.values())) == 1
    assert all("order paid" in text for text in samples.values())


def test_keys_are_masked_in_bodies_and_headers(done, report):
    assert not [key for key in KEYS if key in done.stdout]
    rows = report["providers"]
    assert rows["posthog"]["sample"]["body"]["api_key"] == "*****"
    assert rows["amplitude"]["sample"]["body"]["api_key"] == "*****"
    assert rows["mixpanel"]["sample"]["headers"]["authorization"] == "Basic *****"
    assert rows["webhook"]["sample"]["headers"]["authorization"] == "Bearer *****"


def test_in_a_pipe_it_prints_plain_lines_and_the_verdict_last(cli):
    done = cli.run("demo", "--seconds", "1", "--events", "100")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert not [key for key in KEYS if key in done.stdout]
    lines = done.stdout.splitlines()
    assert [line for line in lines if "delivered: amplitude" in line]
    assert [line for line in lines if "posthog answers 503" in line]
    assert re.fullmatch(
        r"✓ 100 events and \d+ identities arrived exactly once at all four providers", lines[-1]
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_a_table_moves_and_fits_the_screen(cli, columns):
    status, written = cli.on_terminal("demo", "--seconds", "1", "--events", "100", columns=columns)
    assert status == 0, written
    assert "posthog answers 503: the others go on" in written
    assert written.count("delivered") > 3
    lines = [_ESCAPE.sub("", line) for line in re.split(r"[\r\n]+", written)]
    assert max(map(len, lines)) <= columns
    assert "…" not in written


def test_one_event_is_enough(cli):
    done = cli.run("demo", "--json", "--seconds", "0.1", "--events", "1")
    assert done.returncode == 0, done.stdout
    assert {row["once"] for row in json.loads(done.stdout)["providers"].values()} == {1}


def test_settings_and_keys_of_its_user_change_nothing_and_get_nothing(cli):
    done = cli.run(
        "demo",
        "--json",
        "--seconds",
        "0.1",
        "--events",
        "20",
        AGENT_TRACKING_DISABLED="1",
        AGENT_TRACKING_DISABLED_PROVIDERS="*",
        POSTHOG_API_KEY="phc_mine",
        POSTHOG_HOST="http://127.0.0.1:9",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "phc_mine" not in done.stdout


def test_what_is_not_delivered_in_time_is_a_failure(tmp_path):
    code = "import agent_tracking.cli.demo.command as c; c._PATIENCE = 0; c.demo(['--seconds', '0.1'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("✗")
