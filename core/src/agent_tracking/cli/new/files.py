"""The files of a new distribution: from the templates to a folder that is complete or not there at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path

import msgspec
from packaging.version import Version

from agent_tracking.cli.new.names import Names

__all__ = ["render", "requirement", "write"]

#: Where each file comes from; ``*`` is ``http`` or ``plain``.
_SOURCES = {
    "pyproject.toml": "common/pyproject.toml",
    "README.md": "*/README.md",
    "CHANGELOG.md": "common/CHANGELOG.md",
    "LICENSE": "common/LICENSE",
    ".gitignore": "common/gitignore",
    ".github/workflows/tests.yml": "common/tests.yml",
    "src/@{package}/__init__.py": "common/__init__.py",
    "src/@{package}/provider.py": "*/provider.py",
    "src/@{package}/py.typed": "common/py.typed",
    "tests/test_@{module}.py": "*/test_provider.py",
}
#: Templates are no modules: nothing imports or checks them until they are filled in.
_SUFFIX = ".tmpl"
_PLACE = re.compile(r"@\{(\w+)\}")


def requirement(version: str) -> str:
    """Return what a provider made for this ``version`` of agent-tracking requires of it.

    >>> requirement("0.1.0"), requirement("1.4.2"), requirement("2.0.0rc1")
    ('agent-tracking>=0.1,<1', 'agent-tracking>=1.4,<2', 'agent-tracking>=2.0.0rc1,<3')
    """
    parsed = Version(version)
    least = parsed.public if parsed.is_prerelease else f"{parsed.major}.{parsed.minor}"
    return f"agent-tracking>={least},<{parsed.major + 1}"


def render(names: Names, *, plain: bool, version: str) -> dict[str, str]:
    """Return the text of every file by its path below the new folder."""
    values = {
        **msgspec.structs.asdict(names),
        "module": names.name.replace("-", "_"),
        "requirement": requirement(version),
        "year": str(datetime.now(timezone.utc).year),
    }
    templates = files("agent_tracking.cli.new") / "templates"
    kind = "plain" if plain else "http"
    return {
        _fill(path, values): _fill(
            (templates / (source.replace("*", kind) + _SUFFIX)).read_text(encoding="utf-8"), values
        )
        for path, source in _SOURCES.items()
    }


def write(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Make ``folder`` and write the files into it; return their paths.

    Raises:
        FileExistsError: there is something of that name already, and it is left as it is.
        OSError: writing failed; nothing is left of the folder.
    """
    folder.mkdir()
    try:
        return [_write(folder / path, text) for path, text in texts.items()]
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: values[place[1]], text)
