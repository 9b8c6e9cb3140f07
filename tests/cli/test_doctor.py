"""``agent-tracking doctor``: what is wrong with variables, settings, interpreters and packages, in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

#: Nothing of the machine that runs the tests: no other environment, no proxy.
QUIET = {"VIRTUAL_ENV": "", "PATH": "/usr/bin:/bin", "NO_PROXY": "*"}
NOWHERE = "http://127.0.0.1:9"


def diagnose(cli, *arguments, **environ):
    """Return the report and the exit status."""
    done = cli.run("doctor", "--json", *arguments, **{**QUIET, **environ})
    assert done.returncode in {0, 1}, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout), done.returncode


def found(report, level, *words, check=None):
    """Return the findings of this level that hold all the words."""
    return [
        finding
        for finding in report["findings"]
        if finding["level"] == level
        and check in {None, finding["check"]}
        and all(word in " ".join(finding.values()) for word in words)
    ]


def write_package(folder, name, code, requires=()):
    """Write a distribution with a provider of this name, as pip would have installed it into ``folder``."""
    module = f"doctored_{name}"
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: doctored-{name}", "Version: 1.0"]
    (info / "METADATA").write_text(
        "\n".join([*lines, *(f"Requires-Dist: {each}" for each in requires)]) + "\n"
    )
    (info / "entry_points.txt").write_text(f"[agent_tracking.providers]\n{name} = {module}:Acme\n")


ACME = """
from agent_tracking import EnvVar, Provider

class Acme(Provider):
    name = "acme"
    env = (
        EnvVar("ACME_WRITE_KEY", required=True, secret=True, help="the write key"),
        EnvVar("ACME_PLACE", required=True, help="where it is"),
        EnvVar("ACME_REGION", default="eu", help="the region"),
    )
    def track(self, event): pass
"""


@pytest.fixture
def packages(tmp_path):
    folder = tmp_path / "packages"
    folder.mkdir()
    return folder


def test_without_any_problem_the_exit_status_is_0_and_everything_is_ok(cli, packages):
    write_package(packages, "acme", ACME)
    environ = {"PYTHONPATH": str(packages), "AGENT_TRACKING_PROVIDERS": "acme"}
    report, status = diagnose(cli, ACME_WRITE_KEY="k", ACME_PLACE="here", **environ)
    assert (status, report["ok"]) == (0, True), report["findings"]
    assert found(report, "ok", "acme", "active", check="providers")
    assert found(report, "note", "posthog", "not named in AGENT_TRACKING_PROVIDERS", check="providers")
    assert found(report, "ok", "AGENT_TRACKING_PROVIDERS", check="settings")


def test_the_report_names_the_versions_the_interpreter_and_the_platform(cli):
    report, _ = diagnose(cli)
    assert report["python"]["executable"] == sys.executable
    assert report["agent_tracking"]
    assert report["platform"]
    assert report["settings"]["flush_at"] == 50


def test_without_an_active_provider_nothing_goes_anywhere_and_that_is_a_problem(cli):
    report, status = diagnose(cli)
    (finding,) = found(report, "problem")
    assert status == 1
    assert "no provider is active" in finding["what"]
    assert finding["fix"]


def test_when_all_are_switched_off_on_purpose_that_is_no_problem(cli):
    for environ in ({"AGENT_TRACKING_DISABLED": "1"}, {"AGENT_TRACKING_PROVIDERS": "none"}):
        report, status = diagnose(cli, **environ)
        assert status == 0, report["findings"]
        assert found(report, "note", next(iter(environ)))


def test_a_variable_without_its_package_names_the_package(tmp_path):
    # Without the four packages: only the core and what it needs are on the path.
    core = Path(sys.modules["agent_tracking"].__file__).parents[1]
    code = """
        import sys
        from importlib_metadata import distributions
        import agent_tracking.discovery as discovery
        real = discovery.distributions
        hidden = {"agent-tracking-" + name for name in ("posthog", "mixpanel", "amplitude", "webhook")}
        discovery.find.__defaults__ = (lambda: [d for d in real() if d.metadata["Name"] not in hidden],)
        from agent_tracking.cli import main
        sys.argv = ["agent-tracking", "doctor", "--json"]
        main()
    """
    assert core.is_dir()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**QUIET, "MIXPANEL_TOKEN": "s3cret-token"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert done.returncode == 1
    (finding,) = found(
        report, "problem", "MIXPANEL_TOKEN is set but agent-tracking-mixpanel is not installed"
    )
    assert "pip install agent-tracking-mixpanel" in finding["fix"]
    assert "s3cret" not in done.stdout


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("POSTHOG_KEY", "POSTHOG_API_KEY"),
        ("POSTHOG_APIKEY", "POSTHOG_API_KEY"),
        ("posthog_api_key", "POSTHOG_API_KEY"),
        ("POSTHOG_PROJECT_API_KEY", "POSTHOG_API_KEY"),
        ("MIXPANEL_API_TOKEN", "MIXPANEL_TOKEN"),
        ("AMPLITUDE_KEY", "AMPLITUDE_API_KEY"),
        ("TRACKING_WEBHOOK_URI", "TRACKING_WEBHOOK_URL"),
        ("TRACKNG_WEBHOOK_URL", "TRACKING_WEBHOOK_URL"),
        ("POSTHOG_HOSTS", "POSTHOG_HOST"),
        ("AGENT_TRACKING_FLUSHAT", "AGENT_TRACKING_FLUSH_AT"),
        ("AGENT_TRACKING_FLUSHINTERVALL", "AGENT_TRACKING_FLUSH_INTERVAL"),
        ("agent_tracking_disabled", "AGENT_TRACKING_DISABLED"),
        ("AGENT_TRACKNG_PROVIDERS", "AGENT_TRACKING_PROVIDERS"),
    ],
)
def test_a_misspelt_variable_is_a_problem_that_names_the_right_one(cli, given, meant):
    report, status = diagnose(cli, **{given: "s3cret-value"})
    assert status == 1
    (finding,) = [each for each in found(report, "problem", check="variables") if each["where"] == given]
    assert finding["fix"] == f"set {meant} instead of {given}"
    assert "s3cret" not in json.dumps(report)


def test_a_setting_that_resembles_none_is_a_problem_without_a_guess(cli):
    report, _ = diagnose(cli, AGENT_TRACKING_XYZZY="1")
    (finding,) = found(report, "problem", "AGENT_TRACKING_XYZZY", check="variables")
    assert "no such setting" in finding["what"]


def test_variables_of_other_software_are_nobodys_business(cli):
    others = {"POSTHOG_PROJECT_ID": "1", "MY_APP_HOST": "x", "API_KEY": "k", "WEBHOOK_PORT": "1"}
    report, _ = diagnose(cli, POSTHOG_API_KEY="phc_x", POSTHOG_HOST=NOWHERE, **others)
    assert not found(report, "problem", check="variables")


def test_a_misspelling_of_what_is_set_is_no_problem(cli):
    report, _ = diagnose(cli, POSTHOG_API_KEY="phc_x", POSTHOG_KEY="other", POSTHOG_HOST=NOWHERE)
    assert not found(report, "problem", check="variables")


def test_a_third_partys_variable_is_suggested_like_any_other(cli, packages):
    write_package(packages, "acme", ACME)
    report, _ = diagnose(cli, PYTHONPATH=str(packages), ACME_KEY="k", ACME_PLACE="here")
    assert found(report, "problem", "set ACME_WRITE_KEY instead of ACME_KEY", check="variables")


def test_an_installed_provider_without_its_variable_is_a_note(cli):
    report, _ = diagnose(cli)
    (finding,) = found(report, "note", "POSTHOG_API_KEY", check="variables")
    assert "is installed, but POSTHOG_API_KEY is not set" in finding["what"]
    assert finding["fix"].startswith("set POSTHOG_API_KEY")


def test_one_required_variable_of_two_is_a_problem(cli, packages):
    write_package(packages, "acme", ACME)
    report, _ = diagnose(cli, PYTHONPATH=str(packages), ACME_WRITE_KEY="s3cret")
    (finding,) = found(report, "problem", check="variables")
    assert "ACME_PLACE is not set, while ACME_WRITE_KEY is" in finding["what"]


def test_a_provider_that_is_asked_for_by_name_and_lacks_its_variable_is_a_problem(cli):
    report, _ = diagnose(cli, AGENT_TRACKING_PROVIDERS="mixpanel")
    (finding,) = found(report, "problem", "AGENT_TRACKING_PROVIDERS names it", check="variables")
    assert finding["where"] == "MIXPANEL_TOKEN"


def test_a_blank_variable_is_told_from_an_unset_one(cli):
    report, _ = diagnose(cli, POSTHOG_API_KEY="  ")
    assert found(report, "problem", "POSTHOG_API_KEY is set, but blank", check="variables")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("phc_s3cret\udcff\udcfe", "POSTHOG_API_KEY holds bytes that are not UTF-8"),
        ("phc_s3cret\nHost: x", "POSTHOG_API_KEY holds a line break"),
    ],
)
def test_a_value_that_is_no_plain_text_is_a_problem_and_ends_no_command(cli, value, what):
    report, _ = diagnose(cli, "--send", POSTHOG_API_KEY=value, POSTHOG_HOST=NOWHERE)
    assert found(report, "problem", "POSTHOG_API_KEY", what, check="variables")


def test_quotation_marks_that_became_part_of_a_value_are_a_problem(cli):
    report, _ = diagnose(cli, POSTHOG_API_KEY='"phc_s3cret"', POSTHOG_HOST=NOWHERE)
    assert found(report, "problem", "POSTHOG_API_KEY", "quotation mark", check="variables")
    assert "s3cret" not in json.dumps(report)


def test_all_bad_settings_are_told_at_once(cli):
    bad = {
        "AGENT_TRACKING_FLUSH_AT": "many",
        "AGENT_TRACKING_FLUSH_INTERVAL": "-1",
        "AGENT_TRACKING_DELIVERY": "relay",
    }
    report, status = diagnose(cli, **bad)
    assert status == 1
    assert {each["where"] for each in found(report, "problem", check="settings")} == set(bad)
    assert all(each["fix"] for each in found(report, "problem", check="settings"))


def test_an_unknown_name_in_a_switch_is_a_problem_with_a_suggestion(cli):
    report, _ = diagnose(cli, AGENT_TRACKING_DISABLED_PROVIDERS="posthogg")
    (finding,) = found(report, "problem", "posthogg", check="settings")
    assert finding["where"] == "AGENT_TRACKING_DISABLED_PROVIDERS"
    assert finding["fix"] == "did you mean posthog?"


def make_venv(folder, *, ours):
    site = folder / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    if ours:
        info = site / "agent_tracking-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: agent-tracking\nVersion: 0.1.0\n")
    return folder


def test_another_virtual_env_is_a_problem_that_names_both(cli, tmp_path):
    place = make_venv(tmp_path / "other", ours=True)
    report, status = diagnose(cli, VIRTUAL_ENV=str(place))
    (finding,) = found(report, "problem", check="python")
    assert status == 1
    assert str(place) in finding["what"]
    assert sys.executable in finding["what"]
    assert f"{place}/bin/python -m agent_tracking doctor" in finding["fix"]


def test_a_virtual_env_without_agent_tracking_says_how_to_install_it_there(cli, tmp_path):
    place = make_venv(tmp_path / "other", ours=False)
    report, _ = diagnose(cli, VIRTUAL_ENV=str(place))
    (finding,) = found(report, "problem", "not installed there", check="python")
    assert f"{place}/bin/python -m pip install agent-tracking" in finding["fix"]


def test_the_projects_own_venv_is_looked_for_upwards(cli, tmp_path):
    make_venv(tmp_path / ".venv", ours=True)
    inside = tmp_path / "src" / "app"
    inside.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "agent_tracking", "doctor", "--json"],
        env=QUIET,
        cwd=inside,
        capture_output=True,
        text=True,
        check=False,
    )
    (finding,) = found(json.loads(done.stdout), "problem", check="python")
    assert str(tmp_path / ".venv") in finding["what"]
    assert sys.executable in finding["what"]


def test_this_environment_by_its_own_name_is_ok(cli):
    report, _ = diagnose(cli, VIRTUAL_ENV=sys.prefix)
    assert found(report, "ok", check="python")


@pytest.mark.parametrize(
    "first",
    [
        "#!/opt/other/bin/python3.12\n",
        "#!/bin/sh\n'''exec' '/opt/other/bin/python3.12' \"$0\" \"$@\"\n' '''\n",
        "#!/bin/sh\n'''exec' \"/opt/other/bin/python3.12\" \"$0\" \"$@\"\n' '''\n",
    ],
    ids=["plain", "uv", "pip"],
)
def test_the_script_first_on_path_may_run_with_another_interpreter(cli, tmp_path, first):
    script = tmp_path / "bin" / "agent-tracking"
    script.parent.mkdir()
    script.write_text(f"{first}import sys\n")
    script.chmod(0o755)
    report, _ = diagnose(cli, PATH=f"{script.parent}:/usr/bin:/bin")
    (finding,) = found(report, "note", check="python")
    assert str(script) in finding["what"]
    assert "/opt/other/bin/python3.12" in finding["what"]
    assert sys.executable in finding["what"]


@pytest.mark.parametrize(
    ("code", "requires", "words"),
    [
        ("import nothing_like_it", (), ["failed", "ModuleNotFoundError", "nothing_like_it"]),
        ("Acme = 1", (), ["failed"]),
        (ACME, ("agent-tracking>=99",), ["incompatible", ">=99"]),
    ],
    ids=["import error", "no provider", "for another version"],
)
def test_a_provider_that_cannot_be_used_is_a_problem_with_reason_and_fix(
    cli, packages, code, requires, words
):
    write_package(packages, "acme", code, requires)
    report, status = diagnose(cli, PYTHONPATH=str(packages))
    (finding,) = found(report, "problem", *words, check="providers")[:1]
    assert status == 1
    assert finding["where"] == "acme"
    assert finding["fix"]


def test_two_packages_with_one_name_are_a_problem_each(cli, packages):
    for name in ("one", "two"):
        write_package(packages, name, ACME)
        points = packages / f"doctored_{name}-1.0.dist-info" / "entry_points.txt"
        points.write_text(points.read_text().replace(f"{name} =", "acme ="))
    report, _ = diagnose(cli, PYTHONPATH=str(packages))
    conflicts = found(report, "problem", "conflict", "doctored-one", "doctored-two", check="providers")
    assert [each["where"] for each in conflicts] == ["acme", "acme"]
    assert all("pip uninstall" in each["fix"] for each in conflicts)


def test_a_value_that_cannot_work_is_a_problem_and_is_not_shown(cli):
    report, _ = diagnose(cli, POSTHOG_API_KEY="phx_s3cret")
    (finding,) = found(report, "problem", "posthog", "personal key", check="providers")
    assert finding["fix"]
    assert "s3cret" not in json.dumps(report)


def test_the_time_that_each_providers_import_takes_is_measured_and_shown(cli, packages):
    write_package(packages, "acme", f"import time; time.sleep(1.3)\n{ACME}")
    report, status = diagnose(cli, PYTHONPATH=str(packages), ACME_WRITE_KEY="k", ACME_PLACE="here")
    assert set(report["imports"]) == {"acme", "amplitude", "mixpanel", "posthog", "webhook"}
    assert report["imports"]["acme"]["seconds"] >= 1.3
    assert report["imports"]["posthog"]["seconds"] < report["imports"]["acme"]["seconds"]
    assert found(report, "ok", "posthog", "importing it takes", check="import")
    (finding,) = found(report, "note", "it is slow", check="import")
    assert finding["where"] == "acme"
    assert "-X importtime" in finding["fix"]
    assert status == 0


def test_an_import_that_does_not_end_is_a_problem_and_holds_up_nothing_else(cli, packages):
    write_package(packages, "acme", "import time; time.sleep(600)")
    report, status = diagnose(cli, PYTHONPATH=str(packages))
    assert status == 1
    assert found(report, "problem", "acme", "does not end", check="import")
    assert found(report, "problem", "acme", "import takes over", check="providers")
    assert found(report, "ok", "posthog", check="import")


def test_what_is_switched_off_is_not_imported(cli, packages):
    write_package(packages, "acme", "open('imported', 'w')")
    diagnose(cli, PYTHONPATH=str(packages), AGENT_TRACKING_DISABLED_PROVIDERS="acme")
    assert not (packages.parent / "imported").exists()


def test_a_provider_that_is_no_http_provider_says_that_reachability_is_not_checked(cli, packages):
    write_package(packages, "acme", ACME)
    report, _ = diagnose(cli, PYTHONPATH=str(packages), ACME_WRITE_KEY="k", ACME_PLACE="here")
    assert found(report, "note", "acme", "isn't checked", check="network")


def test_what_a_provider_prints_while_it_is_imported_is_not_in_the_json(cli, packages):
    write_package(packages, "acme", f"print('hello')\n{ACME}")
    done = cli.run("doctor", "--json", **QUIET, PYTHONPATH=str(packages))
    assert "acme" in json.loads(done.stdout)["imports"]


def test_the_spools_folder_is_looked_at_and_not_made(cli, tmp_path):
    folder = tmp_path / "spool"
    environ = {"AGENT_TRACKING_SPOOL": str(folder), "AGENT_TRACKING_PROVIDERS": "none"}
    report, status = diagnose(cli, **environ, AGENT_TRACKING_DELIVERY="relay")
    assert status == 0, report["findings"]
    assert found(report, "note", str(folder), "not there yet", check="spool")
    assert found(report, "note", "AGENT_TRACKING_DELIVERY", "relay", check="spool")
    assert not folder.exists()
    folder.mkdir()
    assert found(diagnose(cli, **environ)[0], "ok", str(folder), check="spool")
    folder.rmdir()
    folder.write_text("")
    report, status = diagnose(cli, **environ)
    assert status == 1
    assert found(report, "problem", str(folder), "not a folder", check="spool")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_spool_of_another_user_is_a_problem(cli, tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    report, status = diagnose(cli, AGENT_TRACKING_SPOOL=str(folder), AGENT_TRACKING_PROVIDERS="none")
    assert status == 1
    assert found(report, "problem", "another user", check="spool")


def test_in_a_pipe_each_finding_is_one_plain_line_and_problems_come_first(cli):
    done = cli.run("doctor", **QUIET, POSTHOG_KEY="k", AGENT_TRACKING_FLUSH_AT="many")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    head, *lines = done.stdout.splitlines()
    assert head.split() == ["level", "check", "where", "what", "and", "what", "to", "do"]
    levels = [line.split()[0] for line in lines[: lines.index("")]]
    assert levels == sorted(levels, key=["problem", "note", "ok"].index)
    assert levels.count("problem") == 3
    assert lines[-1].startswith("3 problems, ")
    assert sys.executable in lines[-2]


def test_on_a_terminal_it_is_coloured_and_within_the_screen(cli):
    status, written = cli.on_terminal("doctor", **QUIET)
    assert status == 1
    assert "\x1b[" in written
    assert "no provider is active" in written.replace("\r\n", " ")


def test_help_has_an_example_and_names_the_exit_statuses(cli):
    done = cli.run("doctor", "--help")
    text = " ".join(done.stdout.split())
    assert "Example: agent-tracking doctor" in text
    assert "exit status is 0" in text


def test_an_unknown_option_is_bad_usage(cli):
    done = cli.run("doctor", "--sned")
    assert done.returncode == 2
    assert "--send" in done.stderr
