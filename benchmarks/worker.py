"""One measurement in a process of its own: what to do comes as JSON on standard input, figures go out as JSON.

Run by :func:`benchmarks.rounds.measure`; each task returns how often it called, so that the sink's counts can
be held against it.
"""

from __future__ import annotations

import _thread
import http.client
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from benchmarks.event import NAME, PROPERTIES, USER, properties_of
from benchmarks.pace import cpu_seconds, in_chunks, paced, resident_bytes, summary, tight
from benchmarks.senders import LOOK, make
from benchmarks.vendors import VENDORS, Sender

__all__ = ["TASKS"]

#: Seconds after the first event and before a measurement: discovery and imports are over by then.
_REST = 0.5


class Subject:
    """The sender under measurement; counts its calls."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.calls = 0

    def call(self, properties: dict[str, object] = PROPERTIES) -> Callable[[], object]:
        """Return what tracks the event, the same few bytecodes for every sender."""
        track = self._sender.track
        return lambda: track(NAME, properties, user_id=USER)

    def first(self) -> float:
        """Make the first call of the process and let its consequences pass; return its seconds."""
        call = self.call()
        before = time.perf_counter()
        call()
        took = time.perf_counter() - before
        self.calls += 1
        time.sleep(_REST)
        self._sender.finish()
        return took

    def finish(self) -> None:
        """Wait until all is sent."""
        self._sender.finish()


def latency(subject: Subject, spec: dict[str, Any]) -> dict[str, Any]:
    """How long calls take: the first, paced, tight."""
    beside = {"thread": _thread_start() * 1e6} if spec["sender"] == "control" else {}
    first = subject.first()
    call = subject.call()
    paced_times = paced(call, 1_000, spec["seconds"])
    subject.finish()
    time.sleep(_REST)
    tight_times = tight(call, spec["tight"])
    subject.calls += len(paced_times) + len(tight_times)
    subject.finish()
    return {"first": first * 1e6, "paced": summary(paced_times), "tight": summary(tight_times), **beside}


def _thread_start() -> float:
    """Return the seconds that it takes to start a thread in a process that has none yet."""
    before = time.perf_counter()
    _thread.start_new_thread(time.sleep, (0,))
    return time.perf_counter() - before


def load(subject: Subject, spec: dict[str, Any]) -> dict[str, Any]:
    """CPU of the process at several rates: ``rates`` is a list of (events a second, seconds)."""
    subject.first()
    call, found = subject.call(), {}
    for rate, seconds in spec["rates"]:
        cpu, began = cpu_seconds(), time.perf_counter()
        made = in_chunks(call, rate, seconds)
        tracked = time.perf_counter() - began
        subject.finish()
        subject.calls += made
        found[str(rate)] = {"calls": made, "cpu": cpu_seconds() - cpu, "reached": made / tracked}
    return {"loads": found}


def groups(subject: Subject, spec: dict[str, Any]) -> dict[str, Any]:
    """CPU of the process for ``count`` calls, ``group`` of them each ``look`` seconds."""
    subject.first()
    call, group, look = subject.call(), spec["group"], spec["look"]
    cpu = cpu_seconds()
    made = in_chunks(call, group / look, spec["count"] * look / group, look)
    subject.finish()
    subject.calls += made
    return {"made": made, "cpu": cpu_seconds() - cpu}


def memory(subject: Subject, spec: dict[str, Any]) -> dict[str, Any]:
    """Memory with ``waiting`` events while the backends do not answer, and what a call costs then."""
    subject.first()
    call = subject.call()
    order(spec["url"], "hold")
    try:
        before = resident_bytes()
        for _ in range(spec["waiting"]):
            call()
        time.sleep(spec.get("rest", 1.5))
        held = resident_bytes() - before
        times = tight(call, 500)
    finally:
        order(spec["url"], "release")
    subject.calls += spec["waiting"] + len(times)
    subject.finish()
    return {"bytes": held, "tight": summary(times)}


def callers(subject: Subject, spec: dict[str, Any]) -> dict[str, Any]:
    """Calls from ``threads`` threads at once, ``tight`` in all."""
    subject.first()
    call, count = subject.call(), spec["tight"] // spec["threads"]
    times: list[list[float]] = []
    gate = threading.Barrier(spec["threads"] + 1)

    def run() -> None:
        gate.wait()
        times.append(tight(call, count))

    threads = [threading.Thread(target=run) for _ in range(spec["threads"])]
    for thread in threads:
        thread.start()
    gate.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    subject.calls += count * spec["threads"]
    subject.finish()
    each = [seconds for one in times for seconds in one]
    return {"tight": summary(each), "wall": took / len(each) * 1e6}


def growth(subject: Subject, spec: dict[str, Any]) -> dict[str, Any]:
    """A call of events of ``size`` bytes, tight, and the CPU for each of them in chunks."""
    subject.first()
    call = subject.call(properties_of(spec["size"]))
    times = tight(call, spec["tight"])
    subject.finish()
    cpu = cpu_seconds()
    made = in_chunks(call, spec["rate"], spec["seconds"])
    subject.finish()
    subject.calls += len(times) + made
    return {"tight": summary(times), "calls_in_chunks": made, "cpu": cpu_seconds() - cpu}


TASKS: dict[str, Callable[[Subject, dict[str, Any]], dict[str, Any]]] = {
    "latency": latency,
    "load": load,
    "groups": groups,
    "memory": memory,
    "callers": callers,
    "growth": growth,
}


def order(url: str, what: str, method: str = "POST") -> bytes:
    """Tell the sink to hold or to release, or ask it for counts."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request(method, f"/-/{what}")
    answer = connection.getresponse().read()
    connection.close()
    return answer


def until_still(url: str) -> None:
    """Return once nothing more has arrived for a second."""
    counts, since = b"", time.monotonic()
    while time.monotonic() - since < 1.0:
        found = order(url, f"counts/{urlsplit(url).path.strip('/')}", "GET")
        if found != counts:
            counts, since = found, time.monotonic()
        time.sleep(0.1)


def main() -> None:
    """Do what standard input says."""
    spec = json.load(sys.stdin)
    if spec["sender"] in VENDORS:
        logging.disable(logging.CRITICAL)  # some log a line for each event that they drop
    sender = make(spec["sender"], spec["url"], spec.get("folder", ""), spec.get("look", LOOK))
    subject = Subject(sender)
    found = TASKS[spec["task"]](subject, spec)
    sender.close()
    print(json.dumps({**found, "calls": subject.calls}), flush=True)
    if spec["sender"] in VENDORS:  # some take ten seconds to end although all is sent
        until_still(spec["url"])
        os._exit(0)


if __name__ == "__main__":
    main()
