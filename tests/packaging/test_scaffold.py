"""What ``agent-tracking new`` writes: built, installed beside the core's wheel, tested there, listed as active."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(300)


class Kind(NamedTuple):
    """One kind of scaffold: its name, its options, the variable that switches it on."""

    name: str
    options: tuple[str, ...]
    variable: str


KINDS = (Kind("north-web", (), "NORTH_WEB_KEY"), Kind("north-lines", ("--plain",), "NORTH_LINES_FILE"))


class Scaffold(NamedTuple):
    """One of them, generated and installed."""

    kind: Kind
    folder: Path
    wheel: Path
    workshop: Any

    def row(self, **environ: str) -> dict[str, Any]:
        (row,) = [row for row in self.workshop.rows(**environ) if row["name"] == self.kind.name]
        return row


@pytest.fixture(scope="module", params=KINDS, ids=["http", "plain"])
def scaffold(request: pytest.FixtureRequest, workshop: Any) -> Iterator[Scaffold]:
    kind: Kind = request.param
    folder = workshop.room / f"agent-tracking-{kind.name}"
    wheels = workshop.room / f"dist-{kind.name}"
    pip = ("-m", "pip", "--quiet")
    for command in (
        ("-m", "agent_tracking", "new", kind.name, *kind.options),
        (*pip, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(folder)),
        (*pip, "install", f"--find-links={wheels}", f"agent-tracking-{kind.name}[dev]"),
    ):
        done = workshop.run(*command)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (wheel,) = wheels.iterdir()
    yield Scaffold(kind, folder, wheel, workshop)
    workshop.run(*pip, "uninstall", "--yes", folder.name)


def test_it_passes_its_own_tests_at_once_as_it_is_installed(scaffold):
    done = scaffold.workshop.run("-m", "pytest", "-q", "-rs", str(scaffold.folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules hold" in done.stdout
    assert "warning" not in done.stdout
    assert " skipped" not in done.stdout


def test_its_suite_fails_when_the_provider_is_broken(scaffold, tmp_path):
    """The tests are of the provider, not of themselves: one changed word, and they fail."""
    source = next(scaffold.folder.glob("src/*/provider.py"))
    module = f"agent_tracking_{scaffold.kind.name.replace('-', '_')}"
    broken = tmp_path / module
    broken.mkdir()
    for path in source.parent.glob("*.py"):
        text = path.read_text().replace('"id": record.message_id', '"id": "the same for all"')
        (broken / path.name).write_text(text)
    arguments = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(scaffold.folder))
    done = scaffold.workshop.run(*arguments, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr


def test_its_row_is_active_when_its_variable_is_set_and_inactive_when_not(scaffold):
    row = scaffold.row()
    assert (row["state"], row["fix"]) == ("inactive", f"set {scaffold.kind.variable}")
    row = scaffold.row(**{scaffold.kind.variable: "v"})
    assert (row["state"], row["reason"], row["fix"]) == ("active", "", "")
    assert (row["distribution"], row["version"]) == (scaffold.folder.name, "0.1.0")


def test_its_wheel_is_typed_licensed_and_holds_its_own_package_only(scaffold):
    names = ZipFile(scaffold.wheel).namelist()
    package = scaffold.folder.name.replace("-", "_")
    assert f"{package}/py.typed" in names
    assert {name.split("/")[0].split(".")[0] for name in names} == {package, f"{package}-0"}
    assert [name for name in names if name.endswith("licenses/LICENSE")]


@pytest.mark.parametrize(
    "check", [("check", "--ignore-noqa"), ("format", "--check")], ids=["rules", "format"]
)
def test_ruff_finds_nothing_by_the_rules_of_the_core(scaffold, check):
    own = f"src = ['{scaffold.folder / 'src'}']"  # the author's package is the one that is at home there
    rules = ("--config", str(ROOT / "pyproject.toml"), "--config", own)
    command = [sys.executable, "-m", "ruff", *check, *rules, "."]
    done = subprocess.run(command, cwd=scaffold.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_finds_nothing_in_its_strict_mode(scaffold):
    room, python = scaffold.workshop.room, scaffold.workshop.python
    options = ("--strict", "--python-executable", str(python), "--cache-dir", str(room / "mypy"))
    command = [sys.executable, "-m", "mypy", *options, "src", "tests"]
    done = subprocess.run(command, cwd=scaffold.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
