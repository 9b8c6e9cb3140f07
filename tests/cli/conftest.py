"""Runs the command line as its users do: in a process of its own, through a pipe or on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping

import pytest

#: Variables that would change what the commands find or how they print it.
_OURS = ("AGENT_TRACKING_", "POSTHOG_", "MIXPANEL_", "AMPLITUDE_", "TRACKING_WEBHOOK_")
_PRINTED = frozenset(
    {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
)
_PYTHON = (sys.executable, "-m", "agent_tracking")


class Cli:
    """``agent-tracking`` with these arguments and variables, in an empty folder."""

    def __init__(self, room: str) -> None:
        self._room = room

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Through pipes; what is no text raises."""
        return subprocess.run(
            [*_PYTHON, *arguments],
            check=False,
            env=_environ(environ),
            cwd=self._room,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=100,
        )

    def on_terminal(self, *arguments: str, columns: int = 80, **environ: str) -> tuple[int, str]:
        """On a terminal with colours; return the exit status and everything written to it."""
        shape = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40"}
        primary, secondary = pty.openpty()
        process = subprocess.Popen(
            [*_PYTHON, *arguments],
            env=_environ({**shape, **environ}),
            cwd=self._room,
            stdin=subprocess.DEVNULL,
            stdout=secondary,
            stderr=secondary,
        )
        os.close(secondary)
        written = b""
        try:
            while block := _read(primary):
                written += block
            return process.wait(timeout=100), written.decode()
        finally:
            os.close(primary)
            process.kill()
            process.wait()


def _environ(more: Mapping[str, str]) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {name: value for name, value in own.items() if name not in _PRINTED} | dict(more)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # Linux says so when the other side is closed
        return b""


@pytest.fixture
def cli(tmp_path):
    return Cli(str(tmp_path))
