"""``kill -9`` of applications, of relays and of both, under load, against backends that misbehave.

What ``flush()`` had confirmed, and whatever else stood in a segment when its writer was killed, was acknowledged
to the disk: it has to arrive, and to count once. AGENT_TRACKING_KILL_ROUNDS sets the rounds; the usual run has
few, 50 are for a night.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from zlib import crc32

import msgspec
import pytest

from agent_tracking.testing import Fault, SinkProcess

ROUNDS = int(os.environ.get("AGENT_TRACKING_KILL_ROUNDS", "6"))
NAMES = ("webhook", "posthog", "mixpanel", "amplitude")
RELAY = [sys.executable, "-W", "error", "-m", "agent_tracking", "relay"]
#: Tracks a few thousand a second, and says up to which number everything is confirmed.
WRITER = """
    import sys, time
    from agent_tracking import flush, track
    n = int(sys.argv[1])
    while True:
        time.sleep(0.01)
        for n in range(n, n + 25):
            track("order paid", {"n": n}, user_id="u")
        n += 1
        assert flush(30)
        print(n, flush=True)
"""


@pytest.fixture
def sink():
    with SinkProcess() as sink:
        yield sink


@pytest.fixture
def spool(apps, sink, tmp_path):
    folder = tmp_path / "spool"
    apps.variables |= {
        **sink.environ(),
        "AGENT_TRACKING_PROVIDERS": ",".join(NAMES),
        "AGENT_TRACKING_SPOOL": str(folder),
        "AGENT_TRACKING_DELIVERY": "relay",
        "AGENT_TRACKING_FLUSH_INTERVAL": "0.2",
    }
    return folder


def on_disk(folder):
    """Return the numbers that stand undamaged in segments: read by other code than the spool's."""
    numbers = set()
    for path in folder.glob("*.seg"):
        try:
            lines = path.read_bytes().split(b"\n")[1:-1]
        except FileNotFoundError:  # delivered meanwhile
            continue
        entries = (line[9:] for line in lines if int(line[:8], 16) == crc32(line[9:]))
        numbers |= {msgspec.json.decode(entry)[4]["n"] for entry in entries}
    return numbers


def misbehave(sink, chance):
    for name in NAMES:
        faults = [
            Fault.status(503, times=2),
            Fault.lost_answer(times=2),
            Fault.reset(times=1),
            Fault.disconnect(times=1),
            Fault.delay(0.3, times=2),
        ]
        sink.fail(name, chance.choice(faults))


def kill(process):
    process.kill()
    return process.communicate()


def drain(apps, sink):
    """Deliver all that is left by a relay that ends well."""
    sink.clear()
    relay = apps.start([*RELAY, "--once", "--timeout", "100"])
    out, err = relay.communicate(timeout=110)
    assert relay.returncode == 0, (out, err)
    assert "Traceback" not in err


def numbers(sink, name):
    """Return the numbers that a backend has, each as often as it counts it: once for each key."""
    place = {
        "webhook": lambda event: event["properties"]["n"],
        "posthog": lambda event: event["properties"]["n"],
        "mixpanel": lambda event: event["properties"]["n"],
        "amplitude": lambda event: event["event_properties"]["n"],
    }[name]
    return [place(event) for event in sink.events(name)]


def check(sink, wanted):
    for name in NAMES:
        found = numbers(sink, name)
        missing = wanted - set(found)
        assert not missing, f"{name}: {len(missing)} of {len(wanted)} are missing, e.g. {sorted(missing)[:5]}"
        assert len(found) == len(set(found)), f"{name}: a record counts twice"


@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_killed_apps_and_relays_lose_and_double_nothing_that_was_on_the_disk(apps, sink, spool):
    chance = random.Random(os.environ.get("AGENT_TRACKING_KILL_SEED", "7"))
    wanted, begun = set(), 0
    writer, relay = None, None
    for number in range(ROUNDS):
        misbehave(sink, chance)
        if writer is None:
            begun = number * 1_000_000
            writer = apps.script(WRITER, str(begun))
            writer.stdout.readline()
        relay = relay or apps.start(RELAY)
        time.sleep(chance.uniform(0.05, 1.0))
        victim = ("app", "relay", "both")[number % 3]
        if victim != "app":
            kill(relay)
            relay = None
        if victim != "relay":
            out, err = kill(writer)
            assert err == ""
            confirmed = [int(line) for line in out.split("\n")[:-1]]
            wanted |= set(range(begun, max(confirmed, default=begun + 25))) | on_disk(spool)
            writer = None
    for process in filter(None, (writer, relay)):
        kill(process)
    wanted |= on_disk(spool)
    drain(apps, sink)
    assert len(wanted) > 25 * ROUNDS // 3
    check(sink, wanted)
    print(
        f"\n{ROUNDS} rounds, {len(wanted)} acknowledged records, lost 0, counted twice 0;"
        f" on the wire: {[tuple(sink.totals(name)) for name in NAMES]}"
    )


@pytest.mark.timeout(240)
def test_four_workers_on_one_spool_while_the_relay_is_killed_and_restarted(apps, sink, spool, port):
    chance = random.Random(3)
    command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-w", "4", "web:wsgi_app"]
    count = 100 * max(4, ROUNDS)
    pids = set()
    with apps.serving(command, port) as server:

        def client(numbers):
            pids.update(server.track(numbers))

        relay = apps.start(RELAY)
        for start in range(0, count, 100):
            misbehave(sink, chance)
            threads = [
                threading.Thread(target=client, args=(range(start + part, start + 100, 4),))
                for part in range(4)
            ]
            for thread in threads:
                thread.start()
            time.sleep(chance.uniform(0.0, 0.3))
            kill(relay)
            relay = apps.start(RELAY)
            for thread in threads:
                thread.join()
        assert server.stop().status == 0
    kill(relay)
    drain(apps, sink)
    assert len(pids) == 4
    for name in NAMES:
        assert sorted(numbers(sink, name)) == list(range(count)), name
