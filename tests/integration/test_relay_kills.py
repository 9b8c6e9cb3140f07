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

import pytest
from benchmarks.kills import BACKENDS, RELAY, killed, misbehave, numbers

from agent_tracking.testing import SinkProcess

ROUNDS = int(os.environ.get("AGENT_TRACKING_KILL_ROUNDS", "6"))
SEED = int(os.environ.get("AGENT_TRACKING_KILL_SEED", "7"))


@pytest.fixture
def sink():
    with SinkProcess() as sink:
        yield sink


@pytest.fixture
def spool(apps, sink, tmp_path):
    folder = tmp_path / "spool"
    apps.variables |= {
        **sink.environ(),
        "AGENT_TRACKING_PROVIDERS": ",".join(BACKENDS),
        "AGENT_TRACKING_SPOOL": str(folder),
        "AGENT_TRACKING_DELIVERY": "relay",
        "AGENT_TRACKING_FLUSH_INTERVAL": "0.2",
    }
    return folder


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


@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_killed_apps_and_relays_lose_and_double_nothing_that_was_on_the_disk(tmp_path):
    outcome = killed(ROUNDS, tmp_path, SEED)
    assert outcome.acknowledged > 25 * ROUNDS // 3
    assert {name: each[:2] for name, each in outcome.backends.items()} == dict.fromkeys(BACKENDS, (0, 0))
    print(f"\n{outcome}")


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
    for name in BACKENDS:
        assert sorted(numbers(sink, name)) == list(range(count)), name
