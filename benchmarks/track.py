"""What one ``track()`` call costs on the caller's thread, with four providers, beside the floor.

    python -m benchmarks.track [--rounds 3] [--seconds 3]

Each round runs every sender in a fresh process, one after the other, against one sink in a process of its own.
The figures of one run may be compared with each other, never with those of another run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from benchmarks.event import NAME, PROPERTIES, USER

SENDERS = ("control", "floor-1", "floor-4", "one", "four")


def make(sender: str, environ: dict[str, str]):
    """Return the function to measure, and one that waits until all is sent."""
    if sender == "control":
        return (lambda name, properties, *, user_id: None), (lambda: 0)
    if sender.startswith("floor"):
        from benchmarks.floor import Floor

        copies = int(sender[-1])
        floor = Floor(environ["TRACKING_WEBHOOK_URL"], copies)
        return floor.track, lambda: (floor.close(), floor.sent)[1]
    os.environ.update(environ if sender == "four" else {k: v for k, v in environ.items() if "POSTHOG" in k})
    import agent_tracking

    def finish() -> int:
        agent_tracking.flush(60)
        return sum(stats.delivered for stats in agent_tracking.stats().providers.values())

    return agent_tracking.track, finish


def percentile(values: list[float], share: float) -> float:
    """Return the value below which ``share`` of the sorted ``values`` lie, in microseconds."""
    return values[min(len(values) - 1, int(len(values) * share))] * 1e6


def summary(times: list[float]) -> dict[str, float]:
    """Return the percentiles of call durations."""
    times.sort()
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {**{name: percentile(times, share) for name, share in shares.items()}, "max": times[-1] * 1e6}


def paced(track, seconds: float) -> list[float]:
    """Call 1,000 times a second; the first call of the process is not in the result."""
    times = []
    start = time.perf_counter()
    for number in range(int(seconds * 1000)):
        due = start + number / 1000
        while (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        before = time.perf_counter()
        track(NAME, PROPERTIES, user_id=USER)
        times.append(time.perf_counter() - before)
    return times


def tight(track, count: int) -> list[float]:
    """Call as fast as it goes."""
    times = []
    for _ in range(count):
        before = time.perf_counter()
        track(NAME, PROPERTIES, user_id=USER)
        times.append(time.perf_counter() - before)
    return times


def measure(sender: str, seconds: float, environ: dict[str, str]) -> dict[str, object]:
    """Run one sender in this process."""
    track, finish = make(sender, environ)
    before = time.perf_counter()
    track(NAME, PROPERTIES, user_id=USER)
    first = (time.perf_counter() - before) * 1e6
    time.sleep(0.5)
    paced_times = paced(track, seconds)
    time.sleep(0.5)
    tight_times = tight(track, 20_000)
    sent = finish()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "first": first,
        "paced": summary(paced_times),
        "tight": summary(tight_times),
        "sent": sent,
        "calls": len(paced_times) + len(tight_times) + 1,
        "cpu": (usage.ru_utime + usage.ru_stime),
    }


def run(rounds: int, seconds: float) -> dict[str, list[dict[str, object]]]:
    """Run every sender in a fresh process, ``rounds`` times, interleaved."""
    from agent_tracking.testing import SinkProcess

    results: dict[str, list[dict[str, object]]] = {sender: [] for sender in SENDERS}
    with SinkProcess(keep=False) as sink:
        environ = json.dumps(sink.environ())
        for _ in range(rounds):
            for sender in SENDERS:
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.track",
                    "--one",
                    sender,
                    "--seconds",
                    str(seconds),
                ]
                output = subprocess.run(
                    command, input=environ, capture_output=True, text=True, check=True, timeout=300
                )
                results[sender].append(json.loads(output.stdout))
    return results


def report(results: dict[str, list[dict[str, object]]]) -> None:
    """Print the medians over the rounds, and the ratios to the floor of the same run."""
    print(
        f"{'µs, medians':<12}{'first':>8}{'paced p50':>11}{'p99':>8}{'max':>9}{'tight p50':>11}{'p99.9':>9}{'lost':>6}"
    )
    medians = {}
    for sender, rows in results.items():
        pick = lambda *path, rows=rows: statistics.median(_at(row, path) for row in rows)  # noqa: E731
        copies = {"one": 1, "four": 4, "floor-1": 1, "floor-4": 4}.get(sender, 0)
        lost = sum(int(row["calls"]) * copies - int(row["sent"]) for row in rows)
        medians[sender] = (pick("paced", "p50"), pick("paced", "p99"), pick("tight", "p50"))
        print(
            f"{sender:<12}{pick('first'):>8.0f}{pick('paced', 'p50'):>11.2f}{pick('paced', 'p99'):>8.1f}"
            f"{pick('paced', 'max'):>9.0f}{pick('tight', 'p50'):>11.2f}{pick('tight', 'p99.9'):>9.1f}{lost:>6}"
        )
    ratios = [ours / floor for ours, floor in zip(medians["four"], medians["floor-4"], strict=True)]
    print("four ÷ floor-4: paced p50 {:.2f}, paced p99 {:.2f}, tight p50 {:.2f}".format(*ratios))


def _at(row: dict[str, object], path: tuple[str, ...]) -> float:
    value: object = row
    for key in path:
        value = value[key]  # type: ignore[index]
    return float(value)  # type: ignore[arg-type]


def main() -> None:
    """Measure one sender (a child process), or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--one", choices=SENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.seconds, json.load(sys.stdin))))
    else:
        report(run(options.rounds, options.seconds))


if __name__ == "__main__":
    main()
