"""What ``import`` costs, each in a fresh process, interleaved."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from benchmarks.room import clean_environ
from benchmarks.senders import missing
from benchmarks.vendors import MODULES

__all__ = ["import_times"]

_TIMED = "import time; {before}\nt = time.perf_counter()\nimport {modules}\nprint(time.perf_counter() - t)"


def _cases() -> Mapping[str, tuple[str, str]]:
    """Return what is imported, and what had been imported before, by name."""
    ours = {
        "agent_tracking, beyond msgspec": ("import msgspec", "agent_tracking"),
        "agent_tracking, beyond msgspec, logging and json": (
            "import msgspec, logging, json",
            "agent_tracking",
        ),
        "agent_tracking, beyond a bare interpreter": ("", "agent_tracking"),
        "msgspec": ("", "msgspec"),
    }
    return {**ours, **{name: ("", modules) for name, modules in MODULES.items() if not missing(name)}}


def import_times(rounds: int) -> dict[str, list[float]]:
    """Return milliseconds by what is imported, one for each round."""
    found: dict[str, list[float]] = {name: [] for name in _cases()}
    for number in range(rounds + 1):
        for name, (before, modules) in _cases().items():
            source = _TIMED.format(before=before, modules=modules)
            output = subprocess.run(
                [sys.executable, "-c", source],
                capture_output=True,
                text=True,
                check=True,
                env=clean_environ(),
            )
            if number:  # the first round writes bytecode and fills the disk's cache
                found[name].append(float(output.stdout.splitlines()[-1]) * 1000)
    return found
