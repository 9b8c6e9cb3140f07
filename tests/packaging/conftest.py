"""Clean environments, each made once: for the packages of third parties, and for an author at work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "samples"
#: Variables that would change what a subprocess finds or does.
_OURS = ("AGENT_TRACKING_", "POSTHOG_", "MIXPANEL_", "AMPLITUDE_", "TRACKING_WEBHOOK_", "SAMPLE_", "PYTHON")


class Environment:
    """A virtual environment, without any of the four providers."""

    def __init__(self, python: Path, room: Path, **environ: str) -> None:
        self.python = python
        self.room = room
        self.environ = environ

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run its Python in an empty folder."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return subprocess.run(
            [str(self.python), *arguments],
            check=False,
            env={**own, **self.environ, **environ},
            cwd=self.room,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def rows(self, **environ: str) -> list[dict[str, Any]]:
        """Return the rows of ``agent-tracking providers --json``."""
        done = self.run("-m", "agent_tracking", "providers", "--json", **environ)
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)["providers"]
        return rows


@pytest.fixture(scope="session")
def uv() -> Callable[..., None]:
    """Run uv."""
    program = os.environ.get("UV") or shutil.which("uv")
    assert program, "these tests install packages with uv: pip install uv"

    def run(*arguments: str) -> None:
        done = subprocess.run(
            [program, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, uv: Callable[..., None]) -> Environment:
    """The core with ``[cli]``, and every package of tests/samples as its users would install it."""
    place = tmp_path_factory.mktemp("installed")
    python = place / "venv" / "bin" / "python"
    uv("venv", "--quiet", "--python", sys.executable, str(place / "venv"))
    into = ("pip", "install", "--quiet", "--python", str(python))
    uv(*into, "--reinstall-package", "agent-tracking", f"{ROOT}[cli]")
    samples = [str(folder.parent) for folder in sorted(SAMPLES.glob("*/pyproject.toml"))]
    uv(*into, "--no-deps", "--reinstall", *samples)
    room = place / "room"
    room.mkdir()
    return Environment(python, room)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, uv: Callable[..., None]) -> Environment:
    """What an author has: pip, pytest, and the core's wheel with ``[cli]``; pip installs from no index."""
    place = tmp_path_factory.mktemp("workshop")
    python = place / "venv" / "bin" / "python"
    uv("venv", "--quiet", "--seed", "--python", sys.executable, str(place / "venv"))
    uv("build", "--quiet", "--directory", str(ROOT), "--wheel", "--out-dir", str(place / "dist"))
    (wheel,) = (place / "dist").glob("*.whl")
    into = ("pip", "install", "--quiet", "--python", str(python))
    uv(*into, f"{wheel}[cli]", "pytest>=8", "hatchling>=1.25", "editables")
    room = place / "room"
    room.mkdir()
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", "PIP_NO_INPUT": "1"}
    return Environment(python, room, PIP_NO_INDEX="1", PIP_NO_BUILD_ISOLATION="0", **quiet)
