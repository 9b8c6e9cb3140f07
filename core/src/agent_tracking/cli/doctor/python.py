"""Checks of the interpreter: the application may run with another one, which has other packages."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from importlib_metadata import distributions

from agent_tracking.cli.doctor.findings import Case, Finding, note, ok, problem

__all__ = ["check_python"]

#: The first lines of scripts that pip and uv write: "#!/venv/bin/python", or for long paths a shell's
#: "'''exec' '/a long/venv/bin/python' "$0" "$@"".
_SHEBANG = re.compile(
    rb"#!\s*(?:/bin/sh\s+'''exec'\s+(?P<quote>[\"']?)(?P<long>[^\n]*?)(?P=quote)\s+\"\$0\"|(?P<short>[^\n]+))"
)


def check_python(case: Case) -> Iterator[Finding]:
    """Compare this interpreter with the one of the script on PATH, of VIRTUAL_ENV and of ``.venv``."""
    others = [*_virtual_env(case), *_project(case), *_script(case)]
    yield from others
    if not others:
        yield ok("python", sys.executable, "no other environment is active here")


def _virtual_env(case: Case) -> Iterator[Finding]:
    place = case.environ.get("VIRTUAL_ENV", "").strip()
    if place and not _is_this(Path(place)):
        yield _other(Path(place), "VIRTUAL_ENV", f"VIRTUAL_ENV is {place}")


def _project(case: Case) -> Iterator[Finding]:
    here = Path.cwd()
    for folder in (here, *here.parents):
        place = folder / ".venv"
        if (place / "pyvenv.cfg").is_file():
            named = case.environ.get("VIRTUAL_ENV", "").strip()
            if not _is_this(place) and not (named and _same(place, Path(named))):
                yield _other(place, ".venv", f"this project has {place}")
            return


def _other(place: Path, where: str, what: str) -> Finding:
    """Return what it means that an environment is not the one that this command looked at."""
    python = place / "bin" / "python"
    what += f", but this command runs with {sys.executable}: what is installed in one is not in the other"
    if _has_us(place):
        return problem("python", where, what, f"look there: {python} -m agent_tracking doctor")
    return problem(
        "python",
        where,
        f"{what}, and agent-tracking is not installed there",
        f"{python} -m pip install agent-tracking, or uv pip install --python {python} agent-tracking",
    )


def _has_us(place: Path) -> bool:
    """Return whether agent-tracking is installed in an environment, by its metadata."""
    folders = [str(folder) for folder in place.glob("lib*/python*/site-packages")]
    try:
        return any(True for _ in distributions(name="agent-tracking", path=folders))
    except Exception:  # noqa: BLE001  metadata is anybody's file
        return False


def _script(case: Case) -> Iterator[Finding]:
    """Look at the ``agent-tracking`` that PATH finds first."""
    found = shutil.which("agent-tracking", path=case.environ.get("PATH", os.defpath))
    python = _python_of(Path(found)) if found else None
    if found and python is not None and not _is_this(python.parent.parent):
        yield note(
            "python",
            "PATH",
            f"the agent-tracking found first on PATH, {found}, runs with {python}; this command runs with"
            f" {sys.executable}",
            f"to look at the other one: {found} doctor",
        )


def _python_of(script: Path) -> Path | None:
    """Return the interpreter that a script names; ``None`` if it names none with a path."""
    try:
        with script.open("rb") as file:
            match = _SHEBANG.match(file.read(1024))
    except OSError:
        return None
    if match is None:
        return None
    named = Path(os.fsdecode((match["long"] or match["short"] or b"").strip()))
    return named if named.is_absolute() and named.name.startswith(("python", "pypy")) else None


def _is_this(place: Path) -> bool:
    return _same(place, Path(sys.prefix)) or _same(place, Path(sys.executable).parent.parent)


def _same(one: Path, other: Path) -> bool:
    """Return whether both are one folder; not the interpreters, which are links to a shared one."""
    try:
        return one.resolve() == other.resolve()
    except (OSError, RuntimeError):
        return one == other
