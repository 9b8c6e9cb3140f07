"""README.md, CONTRIBUTING.md and .ci/run say what is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from importlib_metadata import entry_points

from agent_tracking.discovery import GROUP
from agent_tracking.settings import VARIABLES, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
CI = (ROOT / ".ci" / "run").read_text()

DEMO = "pip install uv && uv run --all-packages --all-extras agent-tracking demo"
TESTS = "pip install uv && uv run --all-packages --all-extras pytest"
FIRST_PARTY = ("posthog", "mixpanel", "amplitude", "webhook")

EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TABLE = dict(re.findall(r"^\| `([A-Z_]+)` \| .* \| ([^|]+) \|$", README, re.MULTILINE))
WALK = CONTRIBUTING.split("## The walk of one event")[1].split("\n## ")[0]


def _run(code, **environ):
    own = {name: value for name, value in os.environ.items() if name not in TABLE}
    return subprocess.run(
        [sys.executable, "-c", code], env={**own, **environ}, capture_output=True, text=True, check=False
    )


def _providers():
    found = [point.load() for point in entry_points(group=GROUP) if point.name in FIRST_PARTY]
    assert len(found) == len(FIRST_PARTY)
    return found


@pytest.mark.parametrize("command", [DEMO, TESTS])
def test_the_readme_has_each_of_the_two_commands_once_and_exactly(command):
    assert README.splitlines().count(command) == 1


def test_ci_runs_the_readmes_own_test_command():
    pattern = re.search(r"grep --max-count=1 '([^']+)' README\.md", CI)
    assert pattern is not None
    found = [line for line in README.splitlines() if re.search(pattern[1], line)]
    assert found == [TESTS]
    assert 'bash -euo pipefail -c "$readme"' in CI


def test_contributing_names_the_same_test_command():
    assert TESTS in CONTRIBUTING.splitlines()


def test_the_readme_is_short():
    assert len(README.splitlines()) < 150


def test_the_readmes_table_has_every_variable_of_the_providers_and_none_that_does_not_exist():
    declared = {var.name for provider in _providers() for var in provider.env}
    assert declared < set(TABLE) < declared | set(VARIABLES)
    assert "[docs/settings.md](docs/settings.md) has all" in README


def test_the_readmes_defaults_of_providers_are_theirs():
    for provider in _providers():
        for var in provider.env:
            assert TABLE[var.name].strip("`") == (var.default or "-"), var.name


def test_the_readmes_defaults_of_settings_are_theirs():
    settings = Settings()
    for name in ("flush_at", "flush_interval", "shutdown_timeout", "queue_records", "queue_bytes"):
        assert float(TABLE[f"AGENT_TRACKING_{name.upper()}"]) == getattr(settings, name)


def test_the_readmes_first_example_runs_and_says_nothing_was_lost():
    first = EXAMPLES[0]
    assert len([line for line in first.splitlines() if line]) <= 6
    done = _run(first)
    assert done.returncode == 0, done.stderr


def test_the_readmes_provider_runs_and_gets_the_event():
    done = _run(EXAMPLES[2])
    assert done.stderr == ""
    assert done.stdout == "order paid {'total': 9.5} u-1\n"


def test_every_place_on_the_walk_of_an_event_exists():
    places = [name for name in re.findall(r"`([\w.]+)`", WALK) if "." in name]
    assert len(places) >= 12
    for place in places:
        assert _resolves(place), place


def _resolves(place):
    """Follow a dotted name below the package, or a class's attribute such as ``HTTPProvider.flush``."""
    parts = place.split(".")
    if parts[0] == "HTTPProvider":
        parts.insert(0, "http_provider")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = import_module(".".join(("agent_tracking", *parts[:cut])))
        except ModuleNotFoundError:
            continue
        for attribute in parts[cut:]:
            found = getattr(found, attribute, None)
        return found is not None
    return False


def test_every_file_that_contributing_names_exists():
    rooms = CONTRIBUTING.split("## Where things are")[1].split("```")[1]
    for name in re.findall(r"\b(\w+\.py)\b", rooms):
        assert (ROOT / "core/src/agent_tracking" / name).is_file(), name
    for folder in re.findall(r"^    (\w+)/", rooms, re.MULTILINE):
        assert (ROOT / "core/src/agent_tracking" / folder).is_dir(), folder


def test_the_walk_has_ten_steps():
    assert [int(number) for number in re.findall(r"^(\d+)\. ", WALK, re.MULTILINE)] == list(range(1, 11))
