"""What is measured, how often and for how long: the whole of it, and the quick way."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.senders import BASIS, OURS

__all__ = ["FULL", "PARTS", "QUICK", "Plan"]

PARTS = ("latency", "load", "memory", "backlog", "imports", "app", "growth", "instructions")


class Plan(NamedTuple):
    """How much of each part.

    Attributes:
        rounds: of latency; every sender once in each, this project and the floor in all of them, the
            others in the first ``vendor_rounds``.
        seconds: of paced calls.
        tight: calls in a tight loop, at most.
        rates: events a second, and for how many seconds.
        load_rounds: as ``rounds``; the others once.
        waiting: events of the backlog.
        written: records that an application writes to a spool in each round.
        drained: records of the spools that a relay empties.
        opened: gigabytes of the spools that one begins with.
        imports: starts of Python for each module.
        served_rounds: of the web application, each sender in a process of its own; the others in
            ``vendor_rounds`` of them.
        turns: with tracking and without, in each of these processes.
        served: seconds of load for each turn, after ``warm`` that are not counted.
        pairs: of single requests in each of these processes, one with tracking and one without.
        servers: of :data:`benchmarks.web.SERVERS`.
        served_others: what else is put into the web application.
        axes: how far each axis goes.
        expected: minutes on a quiet machine with two cores.
    """

    rounds: int
    vendor_rounds: int
    seconds: float
    tight: int
    rates: tuple[tuple[int, float], ...]
    load_rounds: int
    waiting: int
    written: int
    drained: tuple[int, ...]
    opened: tuple[float, ...]
    imports: int
    served_rounds: int
    turns: int
    served: float
    pairs: int
    warm: float
    servers: tuple[str, ...]
    served_others: tuple[str, ...]
    providers: tuple[int, ...]
    threads: tuple[int, ...]
    sizes: tuple[int, ...]
    backlogs: tuple[int, ...]
    pythons: tuple[str, ...]
    expected: float


FULL = Plan(
    rounds=3,
    vendor_rounds=1,
    seconds=5.0,
    tight=20_000,
    rates=((100, 2.0), (1_000, 2.0), (10_000, 1.0), (50_000, 1.0)),
    load_rounds=2,
    waiting=100_000,
    written=20_000,
    drained=(100_000, 1_000_000),
    opened=(0.1, 10.0),
    imports=7,
    served_rounds=3,
    turns=12,
    served=0.6,
    pairs=3_000,
    warm=0.3,
    servers=("uvicorn", "gunicorn"),
    served_others=("posthog", "segment", "amplitude", "otel", "three"),
    providers=(1, 2, 4, 8, 16),
    threads=(1, 4, 16, 64),
    sizes=(200, 1_000, 10_000, 100_000),
    backlogs=(1, 100, 10_000, 99_000),
    pythons=("3.10", "3.11", "3.12", "3.13", "3.14", "3.13t", "3.14t"),
    expected=50,
)

QUICK = Plan(
    rounds=1,
    vendor_rounds=1,
    seconds=1.0,
    tight=5_000,
    rates=((1_000, 1.0), (10_000, 0.5)),
    load_rounds=1,
    waiting=10_000,
    written=5_000,
    drained=(10_000,),
    opened=(0.1,),
    imports=3,
    served_rounds=1,
    turns=5,
    served=0.5,
    pairs=500,
    warm=0.3,
    servers=("uvicorn",),
    served_others=(),
    providers=(1, 4),
    threads=(1, 16),
    sizes=(200, 10_000),
    backlogs=(1, 10_000),
    pythons=(),
    expected=3,
)

#: Senders of the quick way: no vendor's SDK but one.
QUICK_SENDERS = (*BASIS, *OURS, "posthog")
#: Put into the web application in every round.
SERVED = ("control", "floor-1", "floor-4", "floor-relay", *OURS)
#: The same for the second server.
SERVED_SECOND = ("control", "floor-4", "floor-relay", "one", "four", "relay")
