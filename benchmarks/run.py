"""One run: the parts that were asked for, interleaved, each measurement in a fresh process."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from math import hypot
from typing import Any

from benchmarks.available import unavailable
from benchmarks.backlog import measure_backlog
from benchmarks.growth import grow
from benchmarks.imports import import_times
from benchmarks.instructions import NoValgrindError, build, count
from benchmarks.machine import Watch, about, doubts
from benchmarks.pace import middle_of
from benchmarks.plan import FULL, QUICK_SENDERS, SERVED, SERVED_SECOND, Plan
from benchmarks.receiver import Receiver
from benchmarks.room import Room
from benchmarks.senders import BASIS, OURS, SENDERS
from benchmarks.web import serve_one

__all__ = ["controls_of", "measure_all", "ratios_of"]

Rows = dict[str, list[dict[str, Any]]]
#: Held back while the backends do not answer: senders that would wait for ever, on the caller's thread or at all.
_NO_BACKLOG = ("control", "mixpanel", "mixpanel-buffered", "three", "floor-relay")
#: Parts whose figures come off a clock, and so need the control.
_TIMED = {"latency", "load", "memory", "backlog", "imports", "growth", "app"}


class Run:
    """The senders that can be measured here, and the figures so far."""

    def __init__(self, room: Room, plan: Plan, only: Sequence[str], say: Callable[[str], None]) -> None:
        self._room = room
        self._plan = plan
        self.say = say
        wanted = list(only or (SENDERS if plan is FULL else QUICK_SENDERS))
        self.skipped = {name: why for name in wanted if (why := unavailable(room, name))}
        for name, why in self.skipped.items():
            say(f"SKIPPED {name}: {why}")
        self.names = [name for name in wanted if name not in self.skipped]

    def latency(self) -> Rows:
        """Every sender once in each of its rounds."""
        plan = self._plan
        rows: Rows = {name: [] for name in self.names}
        for number in range(plan.rounds):
            for name in self._in_round(number, plan.vendor_rounds):
                self.say(f"latency, round {number + 1}: {name}")
                calls = min(plan.tight, SENDERS[name].tight)
                rows[name].append(self._room.measure("latency", name, seconds=plan.seconds, tight=calls))
        return rows

    def load(self) -> Rows:
        """CPU at each rate."""
        rows: Rows = {name: [] for name in self.names}
        for number in range(self._plan.load_rounds):
            for name in self._in_round(number, 1):
                self.say(f"load, round {number + 1}: {name}")
                rows[name].append(self._room.measure("load", name, rates=self._plan.rates))
        return rows

    def memory(self) -> Rows:
        """A backlog."""
        rows: Rows = {}
        for name in self.names:
            if name not in _NO_BACKLOG:
                self.say(f"memory: {name}")
                rows[name] = [self._room.measure("memory", name, waiting=self._plan.waiting)]
        return rows

    def app(self, *, control_only: bool = False) -> dict[str, list[dict[str, Any]]]:
        """Each server, as a list of ``{sender, figures}`` in the order of time."""
        plan, found = self._plan, {}
        for server in plan.servers[:1] if control_only else plan.servers:
            wanted = SERVED if server == "uvicorn" else SERVED_SECOND
            always = [name for name in wanted if name in self.names or name == "control"]
            given = plan.served_others if server == "uvicorn" else plan.served_others[:1]
            others = [name for name in given if name in self.names]
            if control_only:
                always, others = ["control"], []
            found[server] = []
            for number in range(plan.served_rounds):
                names = always + (others if number < plan.vendor_rounds else [])
                for name in names if number % 2 == 0 else reversed(names):
                    self.say(f"{server}, round {number + 1}: {name}")
                    figures = serve_one(
                        self._room,
                        server,
                        name,
                        turns=plan.turns,
                        warm=plan.warm,
                        seconds=plan.served,
                        pairs=plan.pairs,
                    )
                    found[server].append({"sender": name, **figures})
        return found

    def _in_round(self, number: int, vendor_rounds: int) -> Iterator[str]:
        for name in self.names:
            if name in BASIS or name in OURS or number < vendor_rounds:
                yield name


def ratios_of(served: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return, by sender, the middle of all turns' with ÷ without, each beside the turns before and after it.

    ``throughput``, ``p50`` and ``p99`` are ratios; ``error`` and ``p99_error`` are standard errors of two of them.
    ``behind`` is the CPU that other threads spend on a request beyond what they do without, ``whole`` the time of one
    without: microseconds. Where pairs of requests were asked for, ``request`` is what is added to the answer of one,
    ``request_error`` its standard error, and ``paired`` the time of a request without ÷ with what is added and what is
    behind it: its throughput, more exactly than turns tell it; ``paired_error`` its standard error.
    """
    found: dict[str, list[dict[str, float]]] = {}
    single: dict[str, list[dict[str, float]]] = {}
    for each in served:
        turns, name = each["turns"], each["sender"]
        for place in range(1, len(turns), 2):
            on, beside = turns[place], (turns[place - 1], turns[place + 1])
            off = {key: (beside[0][key] + beside[1][key]) / 2 for key in ("throughput", "p50", "p99")}
            ratios = {key: on[key] / off[key] for key in off}
            behind = on["behind"] - (beside[0]["behind"] + beside[1]["behind"]) / 2
            found.setdefault(name, []).append({**ratios, "behind": behind, "whole": 1e6 / off["throughput"]})
        if each.get("single"):
            single.setdefault(name, []).append(each["single"])
    middle = {
        name: {key: middle_of([turn[key] for turn in turns]) for key in turns[0]}
        for name, turns in found.items()
    }
    return {
        name: {
            **{key: value for key, (value, _) in each.items()},
            "error": each["throughput"][1],
            "p99_error": each["p99"][1],
            **_added(single.get(name, ()), each["whole"][0], each["behind"]),
        }
        for name, each in middle.items()
    }


def _added(rounds: Sequence[dict[str, float]], whole: float, behind: tuple[float, float]) -> dict[str, float]:
    """Return what the pairs of several rounds say; nothing when there are none."""
    if not rounds:
        return {}
    error = sum(each["error"] ** 2 for each in rounds) ** 0.5 / len(rounds)
    request = statistics.fmean(each["request"] for each in rounds)
    return {
        "request": request,
        "request_error": error,
        "paired": whole / (whole + request + behind[0]),
        "paired_error": hypot(error, behind[1]) / whole,
    }


def controls_of(app: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Return the control's throughput, with ÷ without, by server.

    It is read off pairs of requests where there are some: of turns it is known to about 0.02, so that an empty call
    would be outside of the bounds in most runs. What turns tell of the others is taken with that error.
    """
    ratios = {server: ratios_of(served) for server, served in app.items()}
    controls = {server: found["control"] for server, found in ratios.items() if "control" in found}
    return {server: found.get("paired", found["throughput"]) for server, found in controls.items()}


def measure_all(
    parts: Sequence[str], plan: Plan, only: Sequence[str] = (), say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Run the parts; return everything that was read, raw, and whether it is to be believed."""
    began = time.monotonic()
    told = say or (
        lambda text: print(f"[{time.monotonic() - began:4.0f} s] {text}", file=sys.stderr, flush=True)
    )
    watch = Watch()
    results: dict[str, Any] = {"about": about(), "quick": plan is not FULL, "parts": list(parts)}
    with Receiver() as receiver:
        room = Room(receiver, told)
        run = Run(room, plan, only, told)
        results["skipped"] = run.skipped
        for part in ("latency", "load", "memory"):
            if part in parts:
                results[part] = getattr(run, part)()
        if "backlog" in parts and "relay" not in run.skipped:
            results["backlog"] = measure_backlog(room, plan.drained, plan.opened, told, written=plan.written)
        if "imports" in parts:
            told("imports")
            results["imports"] = import_times(plan.imports)
        if _TIMED & set(parts):
            results["app"] = run.app(control_only="app" not in parts)
        if "growth" in parts:
            results["growth"] = grow(room, plan, told)
    if "instructions" in parts:
        results["instructions"] = _instructions(told)
    watched = {"load": watch.load, "cores": results["about"]["cores"], "foreign": watch.share()}
    controls = controls_of(results.get("app", {}))
    results |= {"watched": watched, "controls": controls, "minutes": (time.monotonic() - began) / 60}
    results["doubts"] = doubts(watched, controls) if _TIMED & set(parts) else []
    return results


def _instructions(say: Callable[[str], None]) -> dict[str, Any]:
    say("instructions")
    try:
        return {"build": build(), "instructions": count()}
    except NoValgrindError as error:
        say(f"instructions: SKIPPED: {error}")
        return {"skipped": str(error)}
