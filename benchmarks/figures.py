"""From a run's raw figures to the numbers of tables and plots: medians over rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

from benchmarks.run import ratios_of
from benchmarks.senders import SENDERS

__all__ = ["Target", "cpu_by_rate", "imports_of", "latency_of", "median_at", "served_of", "targets"]

Results = dict[str, Any]


def median_at(rows: Sequence[dict[str, Any]], *path: str) -> float:
    """Return the median of what stands at ``path`` in each row."""
    values = []
    for row in rows:
        value: Any = row
        for key in path:
            value = value[key]
        values.append(float(value))
    return statistics.median(values)


def latency_of(results: Results) -> dict[str, dict[str, float]]:
    """Return the columns of the latency table by sender."""
    found = {}
    for name, rows in results.get("latency", {}).items():
        if rows:
            calls = median_at(rows, "calls")
            found[name] = {
                "first": median_at(rows, "first"),
                **{f"paced {key}": median_at(rows, "paced", key) for key in ("p50", "p99", "max")},
                **{f"tight {key}": median_at(rows, "tight", key) for key in ("p50", "p99.9", "max")},
                **({"thread": median_at(rows, "thread")} if "thread" in rows[0] else {}),
                "calls": calls,
                "lost": max(row["lost"] for row in rows),
                "too_many": max(row["too_many"] for row in rows),
                "requests": median_at(rows, "requests") / calls * 1000 / max(1, SENDERS[name].copies),
            }
    return found


def cpu_by_rate(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Return by sender and rate: ``cpu`` for each delivery in µs, without the loop's own; ``reached``; ``lost``.

    The loop's own is what the control, an empty call, used at the same rate.
    """
    rows = results.get("load", {})
    loop = {rate: _each(rows["control"], rate) for rate in _rates(rows.get("control", []))}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, measured in rows.items():
        copies = SENDERS[name].copies
        if not measured or not copies:
            continue
        share = sum(row["delivered"] for row in measured) / sum(row["calls"] * copies for row in measured)
        found[name] = {}
        for rate in _rates(measured):
            net = _each(measured, rate) - loop.get(rate, 0.0)
            reached = median_at(measured, "loads", rate, "reached")
            found[name][rate] = {"cpu": net / copies / share, "reached": reached, "share": share}
    return found


def _rates(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(rows[0]["loads"]) if rows else []


def _each(rows: Sequence[dict[str, Any]], rate: str) -> float:
    """Return the CPU of one call in µs, with its deliveries."""
    return statistics.median(row["loads"][rate]["cpu"] / row["loads"][rate]["calls"] * 1e6 for row in rows)


def served_of(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Return, by server and sender, with ÷ without; see :func:`benchmarks.run.ratios_of`."""
    return {server: ratios_of(served) for server, served in results.get("app", {}).items()}


def imports_of(results: Results) -> dict[str, float]:
    """Return milliseconds by what is imported."""
    return {name: statistics.median(times) for name, times in results.get("imports", {}).items()}


class Target(NamedTuple):
    """What is aimed at, and what came of it.

    ``got`` is ``None`` where it was not measured, ``met`` there and where the limit is within two standard errors.
    """

    what: str
    limit: str
    got: float | None
    floor: float | None
    met: bool | None
    error: float = 0.0


def targets(results: Results) -> list[Target]:
    """Return every target with what this run reached."""
    latency, cpu, served = latency_of(results), cpu_by_rate(results), served_of(results)
    ours, floor = latency.get("four", {}), latency.get("floor-4", {})
    found = [
        _most(what, limit, ours.get(key), floor.get(key))
        for what, limit, key in (
            ("`track()` paced, p50, µs", 4, "paced p50"),
            ("`track()` paced, p99, µs", 30, "paced p99"),
            ("`track()` paced, longest, µs", 200, "paced max"),
            ("`track()` tight, p50, µs", 3, "tight p50"),
            ("`track()` tight, p99.9, µs", 100, "tight p99.9"),
            ("lost of all of them", 0, "lost"),
        )
    ]
    thread = latency.get("control", {}).get("thread")
    found.insert(
        5,
        _most("the first call of the process, µs (floor: to start a thread)", 100, ours.get("first"), thread),
    )
    for rate in ("1000", "10000", "50000"):
        got, least = _cpu(cpu, "four", rate), _cpu(cpu, "floor-4", rate)
        ratio = got / least if got and least else None
        found.append(_most(f"CPU for each delivery at {int(rate):,}/s ÷ the floor's", 1.2, ratio, 1.0))
    web = served.get("uvicorn", {})
    for name, least, most in (("one", 0.96, 1.06), ("four", 0.92, 1.2), ("relay", 0.98, 1.03)):
        beside = web.get({"one": "floor-1", "four": "floor-4", "relay": "floor-relay"}[name], {})
        got = web.get(name, {})
        title = {"one": "one provider", "four": "four providers", "relay": "relay"}[name]
        for target, what, limit, key, error in (
            (_least, f"app throughput, {title}, with ÷ without", least, "throughput", "error"),
            (_least, f"the same by pairs of requests, {title}", least, "paired", "paired_error"),
            (_most, f"its p99, {title}, with ÷ without", most, "p99", "p99_error"),
        ):
            found.append(target(what, limit, got.get(key), beside.get(key), got.get(error, 0.0)))
    found += _backlog(results)
    beyond = imports_of(results).get("agent_tracking, beyond msgspec")
    found.append(_most("`import agent_tracking` beyond `import msgspec`, ms", 5, beyond, 0.0))
    memory = results.get("memory", {})
    held = {name: rows[0]["bytes"] / 1e6 for name, rows in memory.items() if rows}
    found.append(_most("memory with 100,000 waiting, MB", 80, held.get("four"), held.get("floor-4")))
    return found


def _backlog(results: Results) -> list[Target]:
    backlog = results.get("backlog")
    largest = backlog["drain"][-1] if backlog else {}
    opened = [row["seconds"] for row in backlog["open"]] if backlog else []
    grown = opened[-1] / opened[0] if len(opened) > 1 else None
    return [
        _most(
            "CPU of a record in the application, relay, µs",
            6,
            backlog["write"]["cpu"] if backlog else None,
            backlog["write"]["floor"] if backlog else None,
        ),
        _most("CPU of a delivery in the relay, µs", 12, largest.get("cpu"), None),
        _least("deliveries a second from a backlog", 20_000, largest.get("rate"), None),
        _most("memory of the relay meanwhile, MB", 150, largest.get("megabytes"), None),
        _most("first delivery from a spool of 10 GB ÷ from one of 0.1 GB", 1.5, grown, None),
    ]


def _cpu(found: dict[str, dict[str, dict[str, float]]], name: str, rate: str) -> float | None:
    return found.get(name, {}).get(rate, {}).get("cpu")


def _most(what: str, limit: float, got: float | None, floor: float | None, error: float = 0.0) -> Target:
    met = got <= limit if _tells(got, limit, error) else None
    return Target(what, f"≤ {limit:g}", got, floor, met, error)


def _least(what: str, limit: float, got: float | None, floor: float | None, error: float = 0.0) -> Target:
    met = got >= limit if _tells(got, limit, error) else None
    return Target(what, f"≥ {limit:g}", got, floor, met, error)


def _tells(got: float | None, limit: float, error: float) -> TypeGuard[float]:
    """Return whether it was measured, and exactly enough to tell on which side of the limit it is."""
    return got is not None and abs(got - limit) >= 2 * error
