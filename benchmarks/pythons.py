"""Environments of other Pythons, each with this project and nothing else, for one run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["environment"]

_ROOT = Path(__file__).parents[1]


def environment(python: str, folder: Path) -> tuple[str, str]:
    """Return the interpreter of an environment made for a version, or ``""`` and why there is none."""
    uv = shutil.which("uv")
    if uv is None:
        return "", "uv is not on the PATH"
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    environ |= {"UV_PYTHON_DOWNLOADS": "never", **_pyenv()}
    place = folder / f"venv-{python}"
    found = _run([uv, "venv", "--quiet", "--no-project", "--python", python, str(place)], environ)
    if found:
        return "", "it is not on this machine"
    interpreter = str(place / "bin" / "python")
    plugins = [part for path in sorted((_ROOT / "plugins").iterdir()) for part in ("-e", str(path))]
    problem = _run(
        [uv, "pip", "install", "--quiet", "--python", interpreter, "-e", str(_ROOT), *plugins], environ
    )
    return ("", f"its environment could not be made: {problem}") if problem else (interpreter, "")


def _run(command: list[str], environ: dict[str, str]) -> str:
    output = subprocess.run(command, check=False, capture_output=True, text=True, env=environ, timeout=300)
    if not output.returncode:
        return ""
    lines = output.stderr.strip().splitlines()
    return lines[-1].strip() if lines else "no reason given"


def _pyenv() -> dict[str, str]:
    """Return what makes pyenv show all of its Pythons, where it is used."""
    if shutil.which("pyenv") is None:
        return {}
    output = subprocess.run(["pyenv", "versions", "--bare"], check=False, capture_output=True, text=True)
    versions = [line.strip() for line in output.stdout.splitlines() if line.strip().startswith("3.1")]
    return {"PYENV_VERSION": ":".join(reversed(versions))} if versions else {}
