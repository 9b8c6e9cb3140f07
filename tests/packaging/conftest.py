"""A clean environment with the core, its command line and the packages of third parties, made once."""

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

    def __init__(self, python: Path, room: Path) -> None:
        self.python = python
        self.room = room

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run its Python in an empty folder."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return subprocess.run(
            [str(self.python), *arguments],
            check=False,
            env={**own, **environ},
            cwd=self.room,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
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
