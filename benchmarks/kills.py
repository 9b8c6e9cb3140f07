"""``kill -9`` of applications, of relays and of both, under load, against backends that misbehave.

    python -m benchmarks.kills [--rounds N] [--seed N] [--write]

What ``flush()`` had confirmed, and whatever else stood in a segment when its writer was killed, was acknowledged
to the disk: it has to arrive at each backend, and to count once. ``--write`` puts the account into
``docs/reliability.md`` instead of printing it; exit status 1: something was lost or counted twice.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from agent_tracking.testing import Fault, SinkProcess
from benchmarks.reliability import write
from benchmarks.room import clean_environ

__all__ = ["BACKENDS", "RELAY", "Backend", "Disk", "Outcome", "killed", "misbehave", "numbers"]

BACKENDS = ("posthog", "mixpanel", "amplitude", "webhook")
RELAY = [sys.executable, "-W", "error", "-m", "agent_tracking", "relay"]
#: Who dies, in turns.
VICTIMS = ("app", "relay", "both")
#: Numbers of one application's records, at most.
_MANY = 1_000_000
#: Records between two confirmations.
_GROUP = 25
#: Seconds for what is left in the end.
_DRAIN = 100
#: Tracks a few thousand a second, and says up to which number everything is confirmed.
WRITER = f"""
import sys, time
from agent_tracking import flush, track
n = int(sys.argv[1])
while True:
    time.sleep(0.01)
    for n in range(n, n + {_GROUP}):
        track("order paid", {{"n": n}}, user_id="u")
    n += 1
    assert flush(30)
    print(n, flush=True)
"""


class Backend(NamedTuple):
    """What one has of the acknowledged records: missing, counted more than once, and all that it kept."""

    lost: int
    twice: int
    kept: int

    @classmethod
    def of(cls, counted: Sequence[int], kept: int, acknowledged: set[int]) -> Backend:
        """Compare the numbers that it counts, each as often as it does, with those that it should have."""
        different = set(counted)
        return cls(len(acknowledged - different), len(counted) - len(different), kept)


class Outcome(NamedTuple):
    """What became of the records; ``apps`` and ``relays``: how many were killed."""

    rounds: int
    apps: int
    relays: int
    acknowledged: int
    backends: dict[str, Backend]

    @property
    def perfect(self) -> bool:
        """Nothing is missing, and nothing counts twice."""
        return all(each.lost == each.twice == 0 for each in self.backends.values())


class Scene:
    """An application and a relay on one spool, started when they are needed."""

    def __init__(self, sink: SinkProcess, folder: Path) -> None:
        spool = folder / "spool"
        self._disk = Disk(spool)
        self._environ = {
            **clean_environ(),
            **sink.environ(),
            "AGENT_TRACKING_PROVIDERS": ",".join(BACKENDS),
            "AGENT_TRACKING_SPOOL": str(spool),
            "AGENT_TRACKING_DELIVERY": "relay",
            "AGENT_TRACKING_FLUSH_INTERVAL": "0.2",
        }
        self._app: subprocess.Popen[str] | None = None
        self._relay: subprocess.Popen[str] | None = None
        self._first = 0
        self.acknowledged: set[int] = set()
        self.killed = {"app": 0, "relay": 0}

    def start(self, first: int) -> None:
        """Start what does not run, and wait until records, numbered from ``first`` on, are confirmed."""
        if self._app is None:
            self._first = first
            self._app = self._process([sys.executable, "-W", "error", "-c", WRITER, str(self._first)])
            if self._app.stdout is not None:
                self._app.stdout.readline()
        self._relay = self._relay or self._process(RELAY)

    def kill(self, victim: str) -> None:
        """Kill the application, the relay or both; note what was acknowledged."""
        relay, app = self._relay, self._app
        if victim != "app" and relay is not None:
            self._relay = None
            relay.kill()
            relay.communicate()
            self.killed["relay"] += 1
        if victim != "relay" and app is not None:
            self._app = None
            app.kill()
            out, err = app.communicate()
            if err:
                raise RuntimeError(f"the application said: {err[-2000:]}")
            confirmed = [int(line) for line in out.split("\n")[:-1]]
            last = max(confirmed, default=self._first + _GROUP)
            self.acknowledged |= {*range(self._first, last), *self._disk.news()}
            self.killed["app"] += 1

    def drain(self) -> None:
        """Deliver all that is left by a relay that ends well."""
        relay = self._process([*RELAY, "--once", "--timeout", str(_DRAIN)])
        _, err = relay.communicate(timeout=_DRAIN + 10)
        if relay.returncode or "Traceback" in err:
            raise RuntimeError(f"the last relay ended with {relay.returncode} and said: {err[-2000:]}")

    def end(self) -> None:
        """Leave nothing behind."""
        for process in filter(None, (self._app, self._relay)):
            process.kill()
            process.communicate()

    def _process(self, command: Sequence[str]) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self._environ, stdout=pipe, stderr=pipe, text=True)


def killed(rounds: int, folder: Path, seed: int = 7) -> Outcome:
    """Kill so many times at random moments, deliver the rest, and count."""
    chance = random.Random(seed)
    with SinkProcess() as sink:
        scene = Scene(sink, folder)
        try:
            for number in range(rounds):
                misbehave(sink, chance)
                scene.start(number * _MANY)
                time.sleep(chance.uniform(0.05, 1.0))
                scene.kill(VICTIMS[number % len(VICTIMS)])
            scene.kill("both")
            sink.clear()
            scene.drain()
        finally:
            scene.end()
        backends = {
            name: Backend.of(numbers(sink, name), sink.totals(name).accepted, scene.acknowledged)
            for name in BACKENDS
        }
    return Outcome(rounds, scene.killed["app"], scene.killed["relay"], len(scene.acknowledged), backends)


class Disk:
    """The numbers of the records that stand undamaged in a spool's segments, read by other code than the spool's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, int] = {}

    def news(self) -> set[int]:
        """Return those that were not there when this was called before."""
        found = set()
        for path in self._folder.glob("*.seg"):
            try:
                lines = self._lines(path)
            except FileNotFoundError:  # delivered meanwhile
                continue
            entries = (line[9:] for line in lines if int(line[:8], 16) == crc32(line[9:]))
            found |= {msgspec.json.decode(entry)[4]["n"] for entry in entries}
        return found

    def _lines(self, path: Path) -> list[bytes]:
        """Return the lines that have become whole since, without the header."""
        begin = self._read.get(path.name, 0)
        with path.open("rb") as file:
            file.seek(begin)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            return []
        self._read[path.name] = begin + len(whole) + 1
        return whole.split(b"\n")[0 if begin else 1 :]


def misbehave(sink: SinkProcess, chance: random.Random) -> None:
    """Have every backend fail in some way a few times."""
    for name in BACKENDS:
        faults = [
            Fault.status(503, times=2),
            Fault.lost_answer(times=2),
            Fault.reset(times=1),
            Fault.disconnect(times=1),
            Fault.delay(0.3, times=2),
        ]
        sink.fail(name, chance.choice(faults))


def numbers(sink: SinkProcess, name: str) -> list[int]:
    """Return the numbers that a backend has, each as often as it counts it: once for each key."""
    field = "event_properties" if name == "amplitude" else "properties"
    return [event[field]["n"] for event in sink.events(name)]


def page(outcome: Outcome) -> str:
    """Return the account as Markdown."""
    lines = [
        "| backend | acknowledged to the disk | lost | counted twice | kept on the wire, repeats under the same key included |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {outcome.acknowledged:,} | {each.lost:,} | {each.twice:,} | {each.kept:,} |"
            for name, each in outcome.backends.items()
        ),
    ]
    about = (
        f"{outcome.rounds} rounds: {outcome.apps} times an application was killed, {outcome.relays} times a relay."
        f" {dt.datetime.now(dt.timezone.utc):%Y-%m-%d}, CPython {platform.python_version()}, {os.cpu_count()} cores."
    )
    return "\n".join([*lines, "", about])


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kills", description="kill -9, and what is lost."
    )
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7, help="of the random moments")
    parser.add_argument("--write", action="store_true", help="put the account into docs/reliability.md")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        outcome = killed(options.rounds, Path(folder), options.seed)
    if options.write:
        write({"kills": page(outcome)})
    else:
        print(page(outcome))
    return 0 if outcome.perfect else 1


if __name__ == "__main__":
    sys.exit(main())
