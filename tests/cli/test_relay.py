"""``agent-tracking relay``: what it refuses, in one line; its help. What it does: tests/integration/test_relay.py."""

from __future__ import annotations

import json
import os

import pytest

WEBHOOK = {"TRACKING_WEBHOOK_URL": "http://127.0.0.1:9/s3cret", "AGENT_TRACKING_PROVIDERS": "webhook"}


def refused(cli, *arguments, **environ):
    done = cli.run("relay", "--once", *arguments, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert "s3cret" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_without_a_folder_it_says_how_to_name_one(cli):
    line = refused(cli, **WEBHOOK)
    assert "--spool FOLDER" in line
    assert "AGENT_TRACKING_SPOOL" in line


def test_a_file_is_no_folder(cli, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refused(cli, "--spool", str(tmp_path / "file"), **WEBHOOK)


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(cli, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(cli, "--spool", str(tmp_path / "file" / "spool"), **WEBHOOK)
    assert f"{tmp_path}/file/spool" in line
    assert "Not a directory" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_this_user_cannot_read_is_refused(cli, tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(0o000)
    assert str(folder) in refused(cli, "--spool", str(folder), **WEBHOOK)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_folder_of_another_user_is_refused(cli, tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    assert "belongs to another user" in refused(cli, "--spool", str(folder), **WEBHOOK)


def test_a_folder_that_others_may_read_and_that_holds_other_files_is_refused(cli, tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "notes.txt").write_text("mine")
    assert "a folder of its own" in refused(cli, "--spool", str(folder), **WEBHOOK)


def test_without_an_active_provider_it_names_the_states(cli, tmp_path):
    line = refused(cli, "--spool", str(tmp_path / "spool"))
    assert "no provider is active (amplitude: inactive, " in line
    assert "agent-tracking doctor" in line


def test_a_bad_setting_is_refused_rather_than_replaced_by_a_default(cli, tmp_path):
    line = refused(
        cli,
        "--spool",
        str(tmp_path / "spool"),
        **WEBHOOK,
        AGENT_TRACKING_FLUSH_AT="many",
        AGENT_TRACKING_SPOOL_AGE="1",
    )
    assert "AGENT_TRACKING_FLUSH_AT must be a whole number" in line
    assert "AGENT_TRACKING_SPOOL_AGE must be" in line
    assert "default applies" not in line


def test_where_everything_is_off_it_does_not_run(cli, tmp_path):
    line = refused(cli, "--spool", str(tmp_path / "spool"), **WEBHOOK, AGENT_TRACKING_DISABLED="1")
    assert "AGENT_TRACKING_DISABLED" in line


def test_the_variables_of_the_applications_may_be_there_as_they_are(cli, tmp_path):
    environ = {
        "AGENT_TRACKING_SPOOL": str(tmp_path / "spool"),
        "AGENT_TRACKING_DELIVERY": "relay",
        "AGENT_TRACKING_STRICT": "1",
    }
    done = cli.run("relay", "--once", **WEBHOOK, **environ)
    assert done.returncode == 0, done.stderr
    assert "webhook 0 delivered, nothing left" in done.stdout
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700


def test_for_scripts_what_was_done_is_json_and_nothing_else(cli, tmp_path):
    done = cli.run("relay", "--once", "--json", "--spool", str(tmp_path / "spool"), **WEBHOOK)
    assert json.loads(done.stdout) == {
        "stopped": "done",
        "ok": True,
        "delivered": {"webhook": 0},
        "dropped": {},
        "left": {},
        "failed": {},
    }


def test_help_has_an_example_and_names_the_exit_statuses(cli):
    text = " ".join(cli.run("relay", "--help").stdout.split())
    assert "Example: agent-tracking relay" in text
    assert "The exit status is 0" in text


@pytest.mark.parametrize("bad", ["0", "-1", "soon"])
def test_a_timeout_that_is_none_is_bad_usage(cli, bad):
    assert cli.run("relay", "--timeout", bad).returncode == 2
