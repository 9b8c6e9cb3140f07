"""Ways of calling ``track()``, and what is read off the clock and the process meanwhile."""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Sequence

__all__ = ["cpu_seconds", "in_chunks", "middle_of", "paced", "resident_bytes", "summary", "tight"]

Call = Callable[[], object]


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which ``share`` of the sorted values lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summary(seconds: list[float]) -> dict[str, float]:
    """Return the distribution of calls in microseconds."""
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    found = {name: percentile(ordered, share) * 1e6 for name, share in shares.items()}
    return {**found, "max": ordered[-1] * 1e6, "mean": sum(ordered) / len(ordered) * 1e6}


def middle_of(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of the middle half, and its standard error.

    A busy machine makes a few turns several times slower: as for a median they do not count, and it is closer
    than a median. The error is that of a trimmed mean, by Yuen (Biometrika 61, 1974): the standard deviation
    with what was cut off replaced by what is next to it, over the share that was kept.
    """
    ordered = sorted(values)
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    if len(kept) < 2:
        return statistics.median(ordered), 0.0
    winsorized = [kept[0]] * cut + kept + [kept[-1]] * cut
    error = statistics.stdev(winsorized) * len(ordered) ** 0.5 / len(kept)
    return statistics.fmean(kept), error


def paced(call: Call, rate: float, seconds: float) -> list[float]:
    """Call ``rate`` times a second; return how long each call took."""
    times = []
    clock, sleep = time.perf_counter, time.sleep
    start = clock()
    for number in range(int(seconds * rate)):
        due = start + number / rate
        while (wait := due - clock()) > 0:
            sleep(wait)
        before = clock()
        call()
        times.append(clock() - before)
    return times


def tight(call: Call, count: int) -> list[float]:
    """Call as fast as it goes; return how long each call took."""
    times = []
    clock = time.perf_counter
    for _ in range(count):
        before = clock()
        call()
        times.append(clock() - before)
    return times


def in_chunks(call: Call, rate: float, seconds: float, tick: float = 0.01) -> int:
    """Call ``rate`` times a second in a chunk each ``tick``, for twice ``seconds`` at most; return how often."""
    tick = max(tick, 1 / rate)
    size = round(rate * tick)
    clock, start, made = time.perf_counter, time.perf_counter(), 0
    for number in range(round(seconds / tick)):
        due = start + number * tick
        while (wait := due - clock()) > 0:
            time.sleep(wait)
        for _ in range(size):
            call()
        made += size
        if clock() - start > 2 * seconds:
            break
    return made


def cpu_seconds() -> float:
    """Return the CPU time of this process so far, all threads together."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_bytes() -> int:
    """Return the memory that this process has now (where the system does not say: had at most)."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
