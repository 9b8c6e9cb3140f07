"""``agent-tracking`` itself: its help, its version, and what it says without its libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlib_metadata import version


def test_version_is_the_distributions(cli):
    assert cli.run("--version").stdout == f"agent-tracking {version('agent-tracking')}\n"


def test_help_names_every_command(cli):
    done = cli.run("--help")
    assert done.returncode == 0
    for command in ("demo", "doctor", "new", "providers", "send"):
        assert f"\n  {command} " in done.stdout


def test_an_unknown_command_is_an_error(cli):
    done = cli.run("providerz")
    assert done.returncode == 2
    assert "providerz" in done.stderr


def test_the_script_and_the_module_are_the_same(cli):
    script = Path(sys.executable).with_name("agent-tracking")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout == cli.run("--help").stdout


@pytest.mark.parametrize("library", ["click", "rich"])
def test_without_its_libraries_it_says_in_one_line_what_to_install(library):
    code = f"import sys; sys.modules[{library!r}] = None; from agent_tracking.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'agent-tracking[cli]'" in done.stderr


@pytest.mark.parametrize("library", ["click", "rich"])
def test_the_module_says_it_too(library):
    code = f"import sys, runpy; sys.modules[{library!r}] = None; runpy.run_module('agent_tracking', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "pip install 'agent-tracking[cli]'" in done.stderr


def test_every_command_has_an_example_and_json(cli):
    from agent_tracking.cli.app import app

    for name in app.commands:
        text = cli.run(name, "--help").stdout
        assert f"Example: agent-tracking {name}" in " ".join(text.split()), name
        assert "--json" in text, name


def test_every_command_refuses_an_option_that_it_does_not_have(cli):
    from agent_tracking.cli.app import app

    for name in app.commands:
        done = cli.run(name, "--jsonn")
        assert (done.returncode, done.stdout) == (2, ""), name
        assert "Traceback" not in done.stderr
        told = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert told == done.stderr.splitlines()[-1:], name
        assert "--jsonn" in told[0]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("demo", "--seconds", "nan"), "--seconds"),
        (("demo", "--seconds", "0"), "--seconds"),
        (("demo", "--events", "-5"), "--events"),
        (("demo", "--events", "many"), "--events"),
        (("demo", "now"), "now"),
        (("providers", "posthog"), "posthog"),
        (("doctor", "posthog"), "posthog"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(cli, arguments, word):
    done = cli.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line for line in done.stderr.splitlines() if line.startswith("Error: ")] == [
        done.stderr.splitlines()[-1]
    ]
    assert word in done.stderr.splitlines()[-1]


def test_importing_the_package_imports_nothing_of_the_command_line():
    code = "import sys, agent_tracking; print({'click', 'rich', 'agent_tracking.cli'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
