"""``kill -9`` at random moments: what was on the disk arrives, and counts once.

Each round starts processes, lets them work for a random while and kills them. A writer prints up to which
number it has a commit (``flush()`` of a process that does not deliver); whatever else stands in the segments
after a kill was acknowledged to the disk, too. AGENT_TRACKING_KILL_ROUNDS sets the rounds; the usual run has
few, 50 and more are for a night.
"""

from __future__ import annotations

import os
import random
import time

import pytest
from benchmarks.kills import Disk

from agent_tracking.testing import Fault

ROUNDS = int(os.environ.get("AGENT_TRACKING_KILL_ROUNDS", "6"))

#: Writes only, and says what is committed.
WRITER = """
    import sys
    from agent_tracking import flush, track
    n = int(sys.argv[1])
    while True:
        for n in range(n, n + 20):
            track("order paid", {"n": n}, user_id="u")
        n += 1
        assert flush(20)
        print(n, flush=True)
"""
#: Tracks and delivers.
APP = """
    import sys, time
    from agent_tracking import track
    n = int(sys.argv[1])
    print("up", flush=True)
    while True:
        track("order paid", {"n": n}, user_id="u")
        n += 1
        if n % 10 == 0:
            time.sleep(0.002)
"""
#: Delivers only.
RELAY = """
    import sys, time
    from agent_tracking import Tracker
    tracker = Tracker()
    tracker.start()
    print("up", flush=True)
    while True:
        time.sleep(1)
"""


@pytest.fixture
def folder(apps, tmp_path):
    folder = tmp_path / "spool"
    apps.variables |= {"AGENT_TRACKING_SPOOL": str(folder), "AGENT_TRACKING_FLUSH_INTERVAL": "0.2"}
    return folder


def killed(process) -> str:
    """Kill a process and return what it had printed."""
    process.kill()
    out, err = process.communicate()
    strange = [line for line in err.splitlines() if "tried again" not in line]
    assert strange == []
    return out


def drain(apps, folder, wanted):
    """Deliver what is left by a process that ends well, and compare the ledger with what was acknowledged."""
    apps.sink.clear()
    process = apps.script(RELAY)
    try:
        ledger = apps.sink.ledger["webhook"]

        def numbers():
            return [event["properties"]["n"] for event in apps.sink.events("webhook")]

        assert apps.sink.wait(lambda: ledger.counted >= len(wanted), 60 + 4 * ROUNDS), (ledger, len(wanted))
        found = numbers()
        missing = wanted - set(found)
        deadline = time.monotonic() + 20
        while missing and time.monotonic() < deadline:
            time.sleep(0.1)
            found = numbers()
            missing = wanted - set(found)
        assert not missing, f"{len(missing)} of {len(wanted)} are missing, e.g. {sorted(missing)[:5]}"
        assert len(found) == len(set(found)), "a record was counted twice"
    finally:
        killed(process)


def misbehave(apps, chance):
    apps.sink.fail(
        "webhook",
        chance.choice(
            [
                Fault.status(503, times=2),
                Fault.lost_answer(times=2),
                Fault.reset(times=1),
                Fault.delay(0.2, times=2),
            ]
        ),
    )


@pytest.mark.timeout(120 + 20 * ROUNDS)
def test_an_app_that_is_killed_again_and_again_loses_nothing_that_was_on_the_disk(apps, folder):
    chance = random.Random(7)
    disk, wanted = Disk(folder), set()
    for number in range(ROUNDS):
        misbehave(apps, chance)
        process = apps.script(APP, str(number * 1_000_000))
        assert process.stdout.readline() == "up\n"
        time.sleep(chance.uniform(0.05, 1.2))
        killed(process)
        wanted |= disk.news()
    delivered = {event["properties"]["n"] for event in apps.sink.events("webhook")}
    drain(apps, folder, wanted | delivered)


@pytest.mark.timeout(120 + 20 * ROUNDS)
def test_writers_and_relays_that_are_killed_lose_nothing_that_flush_confirmed(apps, folder):
    chance = random.Random(11)
    disk, wanted = Disk(folder), set()
    relay = apps.script(RELAY)
    standby = apps.script(RELAY)
    writer = {"AGENT_TRACKING_DELIVERY": "relay"}
    for number in range(ROUNDS):
        misbehave(apps, chance)
        first, second = number * 2_000_000, number * 2_000_000 + 1_000_000
        writers = [(start, apps.script(WRITER, str(start), environ=writer)) for start in (first, second)]
        for _, process in writers:
            process.stdout.readline()
        time.sleep(chance.uniform(0.05, 0.8))
        if chance.random() < 0.7:
            killed(relay)
            relay, standby = standby, apps.script(RELAY)
        for start, process in writers:
            confirmed = [int(line) for line in killed(process).split("\n")[:-1]]
            wanted |= set(range(start, max(confirmed, default=start + 20)))
        wanted |= disk.news()
    for process in (relay, standby):
        killed(process)
    drain(apps, folder, wanted)
