"""Plants faults in copies of the packages, one at a time: the tests that guard against each must fail.

``python -m tests.mutations [WORD ...]`` from the project's folder; with words only the faults whose names
hold one of them. Ends with 1 if a fault survives, cannot be planted, or if the tests fail without one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutations.planted import PLANTED, Planted

ROOT = Path(__file__).parents[2]
#: Seconds after which a run counts as hanging, which is noticed as well as a failure, but is no proof.
SECONDS = 120


@dataclass(frozen=True)
class Outcome:
    """What came of one planted fault."""

    planted: Planted
    verdict: str
    seconds: float
    detail: str = ""


def package(provider: str) -> Path:
    """Return the folder of a package: the core, a provider of the four, or a sample."""
    if provider == "core":
        return ROOT / "core" / "src" / "agent_tracking"
    plugin = ROOT / "plugins" / provider / "src" / f"agent_tracking_{provider}"
    if plugin.is_dir():
        return plugin
    (found,) = (ROOT / "tests" / "samples" / provider / "src").glob("agent_tracking_*")
    return found


def plant(fault: Planted, source: str) -> str:
    """Return the source with the fault in it.

    Raises:
        ValueError: the text to be replaced does not stand there exactly once, or the result is no Python.
    """
    count = source.count(fault.old)
    if count != 1:
        raise ValueError(f"the text to be replaced stands {count} times in {fault.file}")
    changed = source.replace(fault.old, fault.new)
    if fault.imports:
        head = "from __future__ import annotations\n"
        before, found, after = changed.partition(head)
        changed = f"{before}{found}\n{fault.imports}\n{after}"
    compile(changed, fault.file, "exec")
    return changed


def test(tests: Iterable[str], site: Path) -> tuple[int, str]:
    """Run tests with the packages in ``site`` in front of all others; return the status and the output."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rf",
        "--tb=no",
        "--no-header",
        "-p",
        "no:cacheprovider",
    ]
    environ = {name: text for name, text in os.environ.items() if not name.startswith("AGENT_TRACKING_")}
    done = subprocess.run(
        [*command, *tests],
        cwd=ROOT,
        env={**environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def unnoticed(tests: Sequence[str], output: str) -> list[str]:
    """Return the tests of which no case failed."""
    failed = [line.split()[1] for line in output.splitlines() if line.startswith("FAILED ")]
    return [test for test in tests if not any(each == test or each.startswith(f"{test}[") for each in failed)]


def judge(fault: Planted) -> Outcome:
    """Plant one fault and run the tests that must notice it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        origin = package(fault.provider)
        copy = Path(folder) / origin.name
        shutil.copytree(origin, copy, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            source = (copy / fault.file).read_text()
            (copy / fault.file).write_text(plant(fault, source))
            status, output = test(fault.tests, Path(folder))
        except (ValueError, SyntaxError, OSError) as error:
            return Outcome(fault, "NOT PLANTED", time.monotonic() - began, str(error))
        except subprocess.TimeoutExpired:
            return Outcome(fault, "HANGS", time.monotonic() - began, f"over {SECONDS} s")
    seconds = time.monotonic() - began
    if status not in {0, 1}:
        return Outcome(fault, "NOT RUN", seconds, output[-600:])
    if missed := unnoticed(fault.tests, output):
        return Outcome(fault, "SURVIVES", seconds, f"passed: {', '.join(missed)}")
    return Outcome(fault, "noticed", seconds)


def control(faults: Sequence[Planted]) -> str:
    """Run all those tests without any fault; return what is wrong with them, or nothing."""
    tests = sorted({test for fault in faults for test in fault.tests})
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        for provider in {fault.provider for fault in faults}:
            origin = package(provider)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(origin, Path(folder) / origin.name, ignore=ignored)
        status, output = test(tests, Path(folder))
    return "" if status == 0 else output


def main(words: Sequence[str]) -> int:
    """Plant every fault, print a table, return the exit status."""
    began = time.monotonic()
    chosen = [fault for fault in PLANTED if not words or any(word in fault.name for word in words)]
    if not chosen:
        print("no fault has such a name")
        return 1
    with ThreadPoolExecutor(max(2, (os.cpu_count() or 2))) as pool:
        unplanted = pool.submit(control, chosen)
        outcomes = list(pool.map(judge, chosen))
    if wrong := unplanted.result():
        print(f"the tests fail without any fault:\n{wrong}")
        return 1
    for outcome in outcomes:
        fault = outcome.planted
        names = ", ".join(test.rpartition("::")[2] for test in fault.tests)
        print(f"{outcome.verdict:11} {outcome.seconds:5.1f} s  {fault.provider:9} {fault.name:62} {names}")
        if outcome.detail:
            print(f"{'':20}{outcome.detail}")
    noticed = sum(outcome.verdict == "noticed" for outcome in outcomes)
    print(f"{noticed} of {len(outcomes)} planted faults noticed, {time.monotonic() - began:.0f} s")
    return 0 if noticed == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
