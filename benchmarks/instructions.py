"""Instructions that one ``track()`` takes, counted by callgrind: a figure that no noise of a machine changes.

    python -m benchmarks.instructions            prints them beside those kept in instructions.json
    python -m benchmarks.instructions --check    the exit status is 1 when one is 5 % off what is kept
    python -m benchmarks.instructions --write    keeps them, for this version of Python
    python -m benchmarks.instructions --profile  also prints which functions they are spent in
    python -m benchmarks.instructions --every    the same on every Python that is supported and on this machine

Counts depend on how the interpreter and the libraries were built. On a build other than the one that was
kept for this version of Python, they are compared as multiples of the floor (encode and append) instead.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.pythons import environment

__all__ = ["NoValgrindError", "compare", "count", "kept", "pieces_of"]

KEPT = Path(__file__).with_name("instructions.json")
#: How much more than what is kept counts as a change.
TOLERANCE = 0.05
#: The same for multiples of the floor, where another build made both.
OTHER_BUILD = 0.15
_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
FLOOR = "floor: encode, append"
_EMPTY = "empty call"
_KEEP = "keep it with `python -m benchmarks.instructions --write`"
_TOTAL = re.compile(r"^(?:totals|summary): (\d+)$", re.MULTILINE)


class NoValgrindError(RuntimeError):
    """There is no valgrind here, or it cannot run this Python."""


def build() -> dict[str, str]:
    """Return what counts depend on beside this project."""
    return {
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "machine": platform.machine(),
        "orjson": version("orjson"),
        "msgspec": version("msgspec"),
    }


def count(keep: Path | None = None) -> dict[str, float]:
    """Return the instructions of one call of each kind.

    Args:
        keep: a folder for callgrind's files, to be read by ``callgrind_annotate``.

    Raises:
        NoValgrindError: they can't be counted here.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise NoValgrindError("valgrind is not installed")
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        callgrind = [valgrind, "--tool=callgrind", "--dump-before=getppid"]
        callgrind += [f"--callgrind-out-file={folder / 'counts'}"]
        _run([])  # a process that has to compile a module has another heap than the next, which needn't
        output = _run(callgrind)
        if output.returncode or not output.stdout.strip():
            raise NoValgrindError(f"valgrind did not run it: {_last(output.stderr)}")
        said = json.loads(output.stdout.splitlines()[-1])
        texts = [path.read_text() for path in _dumps(folder)]
    return pieces_of(texts, said["names"], said["calls"])


def _run(under: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [*under, sys.executable, "-m", "benchmarks.counted"]
    environ = {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environ, timeout=600)


def _dumps(folder: Path) -> list[Path]:
    numbered = [path for path in folder.glob("counts.*") if path.suffix[1:].isdigit()]
    return sorted(numbered, key=lambda path: int(path.suffix[1:]))


def pieces_of(dumps: Sequence[str], names: Sequence[str], calls: int) -> dict[str, float]:
    """Return instructions a call: the dumps are start-up, piece, between, piece, between, ...

    Raises:
        NoValgrindError: there are not as many as there have to be.
    """
    if len(dumps) != 2 * len(names):
        raise NoValgrindError(f"{len(dumps)} pieces were counted, {2 * len(names)} are expected")
    totals = []
    for text in dumps:
        found = _TOTAL.search(text)
        if found is None:
            raise NoValgrindError("callgrind's file has no total")
        totals.append(int(found[1]))
    return {name: round(total / calls, 1) for name, total in zip(names, totals[1::2], strict=True)}


def compare(
    counted: Mapping[str, float], kept: Mapping[str, Any] | None, build: Mapping[str, str]
) -> list[str]:
    """Return what is not as it was, dearer or (of the same build) cheaper; nothing when all is well.

    Cheaper counts because what is kept would let the gain be lost again.
    """
    if kept is None:
        return []
    same, before = kept["build"] == build, kept["instructions"]
    tolerance = TOLERANCE if same else OTHER_BUILD
    found = []
    one, other = (1.0, 1.0) if same else (counted[FLOOR], before[FLOOR])
    unit = "instructions" if same else "times the floor"
    for name in counted.keys() & before.keys() - {FLOOR, _EMPTY}:
        now, then = counted[name] / one, before[name] / other
        if now > then * (1 + tolerance):
            found.append(
                f"{name}: {now:,.6g} {unit}, {now / then - 1:.1%} more than {then:,.6g}"
                f" (at most {tolerance:.0%}; if it has to be: {_KEEP})"
            )
        elif same and now < then * (1 - tolerance):
            found.append(f"{name}: {now:,.6g} {unit}, {1 - now / then:.1%} less than {then:,.6g}: {_KEEP}")
    return found


def kept(python: str = "") -> dict[str, Any] | None:
    """Return what is kept for a version of Python (``3.11``); by default this one."""
    found: dict[str, dict[str, Any]] = json.loads(KEPT.read_text())
    return found.get(python or _minor())


def write(counted: Mapping[str, float]) -> None:
    """Keep these for this version of Python."""
    every = json.loads(KEPT.read_text())
    every[_minor()] = {"build": build(), "instructions": dict(counted)}
    ordered = {name: every[name] for name in sorted(every, key=lambda each: int(each.partition(".")[2]))}
    KEPT.write_text(json.dumps(ordered, indent=2) + "\n")


def profile(folder: Path) -> None:
    """Print the functions in which the event with nine properties spends its instructions."""
    dump = _dumps(folder)[2 * 4 + 1]
    annotate = ["callgrind_annotate", "--threshold=90", str(dump)]
    print(subprocess.run(annotate, capture_output=True, text=True, check=True).stdout)


def _minor() -> str:
    return "{}.{}".format(*sys.version_info[:2])


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("==")]
    return lines[-1] if lines else "it said nothing"


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument(
        "--check", action="store_true", help="fail when a call costs something else than what is kept"
    )
    parser.add_argument("--write", action="store_true", help="keep what is counted")
    parser.add_argument("--profile", action="store_true", help="print where they are spent")
    parser.add_argument("--every", action="store_true", help="on every supported Python of this machine")
    options = parser.parse_args(argv)
    if options.every:
        return _every([word for word in (sys.argv[1:] if argv is None else argv) if word != "--every"])
    try:
        counted = _count(options)
    except NoValgrindError as error:
        print(f"instructions: SKIPPED, nothing was counted: {error}", file=sys.stderr)
        return 0
    before = kept()
    problems = compare(counted, before, build()) if options.check else []
    if options.write or problems:
        counted = _least(counted, count())
        problems = compare(counted, before, build()) if options.check else []
    _print(counted, before)
    if options.write:
        write(counted)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _count(options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        counted = count(Path(folder))
        if options.profile:
            profile(Path(folder))
        return counted


def _least(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Return the lower of both: where the heap happens to lie otherwise, a piece takes 2 % more."""
    return {name: min(value, second[name]) for name, value in first.items()}


def _every(arguments: list[str]) -> int:
    status = 0
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for python in _PYTHONS:
            interpreter, why = environment(python, Path(folder))
            print(f"== Python {python}{f': SKIPPED, {why}' if why else ''}", flush=True)
            if interpreter:
                command = [interpreter, "-m", "benchmarks.instructions", *arguments]
                status |= subprocess.run(command, check=False).returncode
    return status


def _print(counted: Mapping[str, float], before: Mapping[str, Any] | None) -> None:
    same = before is not None and before["build"] == build()
    for name, now in counted.items():
        then = before["instructions"].get(name) if before is not None else None
        beside = "" if then is None else f"  {now / then - 1:+.1%} against {then:,.0f}"
        print(f"{name:<36}{now:>9,.0f}{beside}")
    if before is None:
        print(f"none are kept for Python {_minor()}: --write keeps these")
    elif not same:
        print("those kept are of another build: multiples of the floor are compared")


if __name__ == "__main__":
    sys.exit(main())
