"""A large backlog: memory stays flat, and the first delivery does not wait for the size of what is there.

AGENT_TRACKING_BACKLOG_MB sets the size; the usual run has a few MB, 2000 are for a night.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from agent_tracking.testing import SinkProcess

MB = int(os.environ.get("AGENT_TRACKING_BACKLOG_MB", "24"))
MOST_MEMORY = 150  # MB
RELAY = [sys.executable, "-m", "agent_tracking", "relay", "--once"]
#: Writes so many MB, as an application whose relay is down.
WRITER = """
    import os, sys
    from agent_tracking import flush, stats, track
    properties = {"text": "x" * 600, "total": 9.5, "currency": "CHF", "items": list(range(20))}
    wanted = int(sys.argv[1]) * 1_000_000
    n = 0
    while stats().spool.bytes < wanted:
        for n in range(n, n + 10_000):
            track("order paid", {**properties, "n": n}, user_id="u")
        n += 1
        assert flush(60)
    print(n)
"""


@pytest.fixture
def sink():
    with SinkProcess(keep=False) as sink:
        yield sink


def seconds_and_memory(apps, sink, environ):
    """Run the relay to the end; return seconds to the first delivery, to the end, and its memory in MB."""
    before = sink.totals("webhook").counted
    began = time.monotonic()
    relay = subprocess.Popen(RELAY, env=apps.environ(environ), stdout=subprocess.PIPE, text=True)
    try:
        assert sink.wait(lambda: sink.totals("webhook").counted > before, 60)
        first = time.monotonic() - began
        most = 0
        while relay.poll() is None:
            with open(f"/proc/{relay.pid}/status") as file:
                most = max([most, *(int(line.split()[1]) for line in file if line.startswith("VmHWM"))])
            time.sleep(0.05)
        return first, time.monotonic() - began, most / 1024
    finally:
        relay.kill()
        relay.communicate()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads /proc")
@pytest.mark.timeout(120 + 2 * MB)
def test_memory_is_flat_and_the_first_delivery_does_not_wait_for_the_size(apps, sink, tmp_path):
    found = {}
    for size in (max(1, MB // 10), MB):
        folder = tmp_path / f"spool{size}"
        environ = {
            **sink.environ("webhook"),
            "AGENT_TRACKING_SPOOL": str(folder),
            "AGENT_TRACKING_SPOOL_BYTES": str(4_000_000_000),
            "AGENT_TRACKING_DELIVERY": "relay",
        }
        before = sink.totals("webhook").counted
        process = apps.script(WRITER, str(size), environ=environ)
        out, err = process.communicate(timeout=60 + MB)
        assert err == ""
        first, whole, memory = seconds_and_memory(apps, sink, environ)
        assert sink.totals("webhook").counted - before == int(out)
        assert memory <= MOST_MEMORY
        found[size] = (int(out), first, whole, memory)
        assert [*folder.glob("*.seg")] == []
    for size, (count, first, whole, memory) in found.items():
        rate = count / whole
        print(
            f"\n{size} MB, {count} records: first {first:.2f} s, all {whole:.1f} s ({rate:.0f}/s), {memory:.0f} MB"
        )
    small, large = found.values()
    print(f"first delivery, large / small: {large[1] / small[1]:.2f}; memory: {large[3] / small[3]:.2f}")
