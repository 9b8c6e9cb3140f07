"""What a run was made on, and whether the machine was quiet enough to believe it."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from benchmarks.vendors import PACKAGES

__all__ = ["CONTROL", "Watch", "about", "doubts"]

#: Within these the control (an empty call in place of ``track()``) has to be: throughput with ÷ without.
CONTROL = (0.99, 1.01)
#: The most that others may use of the machine's CPU time meanwhile.
FOREIGN = 0.05
#: The highest load average at the start, for each core: the run has not begun, so it is all others'.
LOAD = 0.3
_OWN = ("msgspec", "orjson", "httpx", "pluggy", "uvicorn", "gunicorn", "uvloop", "httptools")


class _Look(NamedTuple):
    at: float
    busy: float | None
    own: float


class Watch:
    """Measures how much of the machine's CPU time others use, from ``start`` to ``share``."""

    def __init__(self) -> None:
        self.load = os.getloadavg()[0]
        self._began = _look()

    def share(self) -> float | None:
        """Return others' share of the machine since the start, 0 to 1; ``None`` where nobody says."""
        now, began = _look(), self._began
        if now.busy is None or began.busy is None:
            return None
        whole = (now.at - began.at) * (os.cpu_count() or 1)
        return max(0.0, (now.busy - began.busy) - (now.own - began.own)) / whole if whole else 0.0


def _look() -> _Look:
    own = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    try:
        with open("/proc/stat") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
    except OSError:
        return _Look(time.monotonic(), None, own)
    # user nice system idle iowait irq softirq steal: what is neither idle nor waiting for a disk is busy.
    busy = sum(fields) - fields[3] - fields[4]
    return _Look(time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), own)


def about() -> dict[str, Any]:
    """Return date, versions and machine; no name and no path of it."""
    packages = {*_OWN, *(package for each in PACKAGES.values() for package in each)}
    return {
        "date": f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d}",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "versions": {package: found for package in sorted(packages) if (found := _version(package))},
    }


def doubts(watched: Mapping[str, Any], controls: Mapping[str, float]) -> list[str]:
    """Return why a run is not to be believed; nothing if it is.

    Args:
        watched: ``load`` at the start, ``cores``, ``foreign`` (see :class:`Watch`).
        controls: throughput with an empty call ÷ without, by server.
    """
    found = []
    if watched["load"] > LOAD * watched["cores"]:
        found.append(
            f"the load average was {watched['load']:.2f} on {watched['cores']} cores before it began"
        )
    if (foreign := watched.get("foreign")) is not None and foreign > FOREIGN:
        found.append(f"other processes used {foreign:.0%} of the machine meanwhile")
    for server, ratio in controls.items():
        if not CONTROL[0] <= ratio <= CONTROL[1]:
            found.append(f"the control on {server} reads {ratio:.3f}, outside of {CONTROL[0]}-{CONTROL[1]}")
    if not controls:
        found.append("no control was run")
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            found = re.search(r"^model name\s*:\s*(.+)$", file.read(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor()
