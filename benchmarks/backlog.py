"""A spool with a backlog: what writing it costs an application, how fast a relay delivers it, how soon it begins."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.receiver import Receiver
from benchmarks.relay import COMMAND
from benchmarks.room import Account, Room, balance_of, clean_environ, work
from benchmarks.senders import CAREFUL, TRACKED, environ_of

__all__ = ["measure_backlog"]

#: What the application writes comes in groups of so many records, one each so many seconds.
_GROUP, _GROUP_SECONDS = 50, 0.01
#: The same without tracking, by the floor, by a floor with two of this project's promises, and by it.
_WRITERS = ("control", "floor-relay", CAREFUL, "relay")
_ROUNDS = 3
#: Bytes that a spool of these measurements may have; the usual bound is 1 GiB.
_MOST = 64 << 30
#: Records that fill about one segment.
_SEGMENT_RECORDS = 25_000
_LOOK = 0.02
#: Seconds after which a relay that does nothing is given up.
_PATIENCE = 120.0


def measure_backlog(
    room: Room, sizes: Sequence[int], gigabytes: Sequence[float], say: Callable[[str], None], *, written: int
) -> dict[str, Any]:
    """Return what was measured: ``write``, ``drain`` by records, ``open`` by size of the spool.

    Args:
        room: where.
        sizes: records of each backlog that is delivered, to four backends.
        gigabytes: sizes of spools that are opened; their segments are links to one file.
        say: told what is going on.
        written: records that an application writes in each round.
    """
    found: dict[str, Any] = {"write": _write(room, say, written), "drain": [], "open": []}
    for records in sizes:
        say(f"backlog: {records:,} records")
        with room.account("relay") as account:
            found["drain"].append(_drain(account, room.receiver, records))
    for size in gigabytes:
        say(f"backlog: {size:g} GB opened")
        with room.account("relay") as account:
            found["open"].append(_open(account, room.receiver, size))
    return found


def _write(room: Room, say: Callable[[str], None], count: int) -> dict[str, Any]:
    """Return the CPU of the application for a record, in microseconds, without what the calls' loop takes."""
    each: dict[str, list[float]] = {name: [] for name in _WRITERS}
    for number in range(_ROUNDS):
        for name in _WRITERS:
            say(f"backlog: written, round {number + 1}: {name}")
            with room.account(name) as account:
                row, _ = work(account, "groups", count=count, group=_GROUP, look=_GROUP_SECONDS)
                each[name].append(row["cpu"] / row["made"] * 1e6)
    loop, floor, careful, cpu = (statistics.median(each[name]) for name in _WRITERS)
    return {
        "group": _GROUP,
        "cpu": cpu - loop,
        "floor": floor - loop,
        "careful": careful - loop,
        "each": each,
    }


def _environ(account: Account) -> dict[str, str]:
    spool = str(Path(account.folder) / "spool")
    given = environ_of(account.url, TRACKED["four"], spool, relay=True)
    return {**clean_environ(), **given, "AGENT_TRACKING_SPOOL_BYTES": str(_MOST)}


def _fill(account: Account, records: int, group: int) -> None:
    """Write a backlog."""
    command = [sys.executable, "-m", "benchmarks.fill", str(records), str(group)]
    subprocess.run(command, env=_environ(account), check=True)


def _drain(account: Account, receiver: Receiver, records: int) -> dict[str, Any]:
    """Deliver a backlog; return seconds, CPU for each delivery, and the most memory that the relay had."""
    _fill(account, records, 5_000)
    began, most = time.monotonic(), 0.0
    process = subprocess.Popen([*COMMAND, "--once"], env=_environ(account), stdout=subprocess.DEVNULL)
    try:
        while True:
            most = max(most, _megabytes(process.pid))
            ended, _, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            time.sleep(_LOOK)
    except BaseException:
        process.kill()
        process.wait()
        raise
    took = time.monotonic() - began
    process.returncode = 0  # it is gone already
    counts = receiver.settled(account.run, 4 * records, still=1.0)
    balance = balance_of(records, 4, [each.delivered for each in counts.values()], 0)
    return {
        **balance,
        "records": records,
        "rate": balance["delivered"] / took,
        "cpu": (usage.ru_utime + usage.ru_stime) / balance["delivered"] * 1e6,
        "megabytes": most,
    }


def _open(account: Account, receiver: Receiver, gigabytes: float) -> dict[str, Any]:
    """Return the seconds from the start of a relay to its first delivery, with a spool of this size."""
    _fill(account, _SEGMENT_RECORDS, 5_000)
    spool = Path(account.folder) / "spool"
    first = max(spool.glob("*.seg"), key=lambda path: path.stat().st_size)
    size = first.stat().st_size
    for number in range(max(0, int(gigabytes * 1e9 / size) - 1)):
        os.link(first, spool / f"{int(first.name.partition('-')[0]) + 1 + number}-1-{number}ab.seg")
    began = time.monotonic()
    process = subprocess.Popen(COMMAND, env=_environ(account), stdout=subprocess.DEVNULL)
    try:
        while not any(each.delivered for each in receiver.counts(account.run).values()):
            if process.poll() is not None or time.monotonic() - began > _PATIENCE:
                raise RuntimeError("the relay delivers nothing")
            time.sleep(_LOOK)
        return {"gigabytes": gigabytes, "seconds": time.monotonic() - began}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)


def _megabytes(pid: int) -> float:
    """Return the most memory that a process has had so far; 0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return max((int(line.split()[1]) for line in file if line.startswith("VmHWM")), default=0) / 1024
    except OSError:
        return 0.0
