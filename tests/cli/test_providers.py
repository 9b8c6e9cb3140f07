"""``agent-tracking providers``: every state with its reason and fix, nothing secret, readable everywhere."""

from __future__ import annotations

import json
import re
import sys

import pytest

NAMES = ["amplitude", "mixpanel", "posthog", "webhook"]
VARIABLES = {
    "amplitude": "AMPLITUDE_API_KEY",
    "mixpanel": "MIXPANEL_TOKEN",
    "posthog": "POSTHOG_API_KEY",
    "webhook": "TRACKING_WEBHOOK_URL",
}
SECRETS = {
    "AMPLITUDE_API_KEY": "s3cret-amplitude",
    "MIXPANEL_TOKEN": "s3cret-mixpanel",
    "POSTHOG_API_KEY": "phc_s3cret-posthog",
    "TRACKING_WEBHOOK_URL": "https://hooks.example/s3cret-path",
    "TRACKING_WEBHOOK_AUTH": "Bearer s3cret-auth",
}
#: Each of them is wrong, and holds something that must not be shown.
WRONG = {
    "AMPLITUDE_API_KEY": "s3cret-amplitude",
    "AMPLITUDE_HOST": "s3cret-host",
    "MIXPANEL_TOKEN": "s3cret mixpanel\nx",
    "POSTHOG_API_KEY": "phx_s3cret-posthog",
    "TRACKING_WEBHOOK_URL": "https://user:s3cret@hooks.example/",
    "TRACKING_WEBHOOK_AUTH": "Bearer s3cret\r\nX: y",
}
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _rows(done):
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["providers"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_without_its_variable_is_inactive_and_names_it(cli, name):
    row = _rows(cli.run("providers", "--json"))[name]
    assert row["state"] == "inactive"
    assert VARIABLES[name] in row["reason"]
    assert VARIABLES[name] in row["fix"]


def test_a_blank_variable_is_none(cli):
    assert _rows(cli.run("providers", "--json", POSTHOG_API_KEY="  "))["posthog"]["state"] == "inactive"


def test_with_their_variables_all_four_are_active_and_need_no_fix(cli):
    rows = _rows(cli.run("providers", "--json", **SECRETS))
    assert {name: row["state"] for name, row in rows.items()} == dict.fromkeys(NAMES, "active")
    assert {row["fix"] for row in rows.values()} == {""}


@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_cannot_work_is_a_failed_row_with_a_fix(cli, name):
    row = _rows(cli.run("providers", "--json", **WRONG))[name]
    assert row["state"] == "failed"
    assert row["reason"]
    assert row["fix"]


def test_a_provider_that_is_switched_off_names_the_switch(cli):
    rows = _rows(cli.run("providers", "--json", **SECRETS, AGENT_TRACKING_DISABLED_PROVIDERS="mixpanel"))
    assert rows["mixpanel"]["state"] == "disabled"
    assert "AGENT_TRACKING_DISABLED_PROVIDERS" in rows["mixpanel"]["reason"]
    assert rows["posthog"]["state"] == "active"


def test_json_is_all_there_is_on_standard_output(cli):
    done = cli.run("providers", "--json", **WRONG, AGENT_TRACKING_FLUSH_AT="many")
    data = json.loads(done.stdout)
    assert set(data) == {"agent_tracking", "python", "providers", "notes", "processes", "spool"}
    assert data["python"]["executable"] == sys.executable
    for row in data["providers"]:
        assert set(row) == {
            "name",
            "state",
            "reason",
            "fix",
            "distribution",
            "version",
            "entry_point",
            "variables",
        }


def test_a_bad_setting_is_a_note(cli):
    (note,) = json.loads(cli.run("providers", "--json", AGENT_TRACKING_FLUSH_AT="many").stdout)["notes"]
    assert "AGENT_TRACKING_FLUSH_AT" in note


def test_where_another_process_delivers_the_providers_are_listed_all_the_same(cli, tmp_path):
    folder = tmp_path / "spool"
    done = cli.run(
        "providers",
        "--json",
        **SECRETS,
        AGENT_TRACKING_SPOOL=str(folder),
        AGENT_TRACKING_DELIVERY="relay",
    )
    assert {row["state"] for row in _rows(done).values()} == {"active"}
    assert not folder.exists()


def test_every_bad_setting_is_a_note_once(cli):
    bad = {"AGENT_TRACKING_DELIVERY": "relay", "AGENT_TRACKING_FLUSH_AT": "x"}
    notes = json.loads(cli.run("providers", "--json", **bad).stdout)["notes"]
    assert [note.split(" ")[0] for note in notes] == ["AGENT_TRACKING_FLUSH_AT", "AGENT_TRACKING_DELIVERY"]


def test_an_unknown_name_in_a_switch_is_a_note_with_a_suggestion(cli):
    done = cli.run("providers", AGENT_TRACKING_DISABLED_PROVIDERS="posthogg")
    assert "posthogg" in done.stdout
    assert "did you mean posthog?" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("environ", [SECRETS, WRONG], ids=["right", "wrong"])
@pytest.mark.parametrize("arguments", [("providers",), ("providers", "--json")], ids=["table", "json"])
def test_no_secret_is_shown(cli, arguments, environ):
    done = cli.run(*arguments, **environ)
    assert "s3cret" not in done.stdout + done.stderr


def test_in_a_pipe_each_provider_is_one_plain_line(cli):
    done = cli.run("providers", **WRONG)
    assert "\x1b" not in done.stdout
    head, *rows, blank, where = done.stdout.splitlines()
    assert head.split() == ["provider", "state", "package", "reason", "and", "fix"]
    assert [row.split()[:2] for row in rows] == [[name, "failed"] for name in NAMES]
    assert blank == ""
    assert sys.executable in where
    assert not [line for line in done.stdout.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_it_is_coloured_and_no_row_is_wider_than_the_screen(cli, columns):
    status, written = cli.on_terminal("providers", columns=columns, **WRONG)
    assert status == 0
    assert "\x1b[" in written
    table = _ESCAPE.sub("", written).split("agent-tracking 0")[0].splitlines()
    assert max(map(len, table)) <= columns
    for name in NAMES:
        assert name in written


def test_no_color_is_respected(cli):
    _, written = cli.on_terminal("providers", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", written)


def test_where_the_encoding_lacks_a_character_nothing_breaks(cli):
    done = cli.run("providers", PYTHONIOENCODING="ascii", **WRONG)
    assert done.returncode == 0
    assert done.stderr == ""
