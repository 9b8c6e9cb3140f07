"""How cost grows along each axis, with four providers where the axis is not their number."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.plan import Plan
from benchmarks.pythons import environment
from benchmarks.room import Room

__all__ = ["grow"]

#: Bytes of events that one measurement of an axis tracks at most, and of the longest call.
_BYTES = 20_000_000

Say = Callable[[str], None]
Point = dict[str, Any]


def grow(room: Room, plan: Plan, say: Say) -> dict[str, list[Point]]:
    """Measure every axis; each point has ``at`` and what was read there."""
    return {
        "providers": [_providers(room, count, say) for count in plan.providers],
        "threads": [_threads(room, count, plan.tight, say) for count in plan.threads],
        "size": [_size(room, size, say) for size in plan.sizes],
        "waiting": [_waiting(room, count, say) for count in plan.backlogs],
        "python": _pythons(room, plan.pythons, say),
    }


def _point(at: object, found: Point, **more: float) -> Point:
    times = found["tight"]
    return {"at": at, "p50": times["p50"], "p99": times["p99"], "lost": found["lost"], **more}


def _per_delivery(found: Point, copies: int) -> float:
    return float(found["cpu"] / (found["calls_in_chunks"] * copies) * 1e6)


def _providers(room: Room, count: int, say: Say) -> Point:
    say(f"growth: {count} providers")
    found = room.measure("growth", f"providers-{count}", size=0, tight=5_000, rate=10_000, seconds=1.0)
    return _point(count, found, cpu=_per_delivery(found, count))


def _threads(room: Room, count: int, tight: int, say: Say) -> Point:
    say(f"growth: {count} threads")
    found = room.measure("callers", "four", threads=count, tight=tight)
    return _point(count, found, wall=found["wall"])


def _size(room: Room, size: int, say: Say) -> Point:
    say(f"growth: events of {size} bytes")
    calls = max(50, min(5_000, _BYTES // size))
    found = room.measure("growth", "four", size=size, tight=calls, rate=min(10_000, calls), seconds=1.0)
    return _point(size, found, cpu=_per_delivery(found, 4))


def _waiting(room: Room, count: int, say: Say) -> Point:
    say(f"growth: {count} waiting")
    found = room.measure("memory", "four", waiting=count, rest=1.0)
    return _point(count, found, bytes=found["bytes"])


def _pythons(room: Room, pythons: tuple[str, ...], say: Say) -> list[Point]:
    points = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        for name in pythons:
            say(f"growth: Python {name}")
            interpreter, why = environment(name, Path(folder))
            if not interpreter:
                say(f"growth: SKIPPED Python {name}: {why}")
                points.append({"at": name, "skipped": why})
                continue
            found = room.measure(
                "growth", "four", python=interpreter, size=0, tight=20_000, rate=10_000, seconds=1.0
            )
            floor = room.measure(
                "growth", "floor-4", python=interpreter, size=0, tight=20_000, rate=10_000, seconds=1.0
            )
            more = {"cpu": _per_delivery(found, 4), "floor_cpu": _per_delivery(floor, 4)}
            points.append(
                {**_point(name, found, **more), "floor": floor["tight"]["p50"], **_exact(interpreter)}
            )
    return points


def _exact(interpreter: str) -> dict[str, str]:
    source = "import platform; print(platform.python_version())"
    output = subprocess.run([interpreter, "-c", source], capture_output=True, text=True, check=True)
    return {"version": output.stdout.strip()}
