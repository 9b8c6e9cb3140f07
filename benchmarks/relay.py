"""The relay's process beside a measurement, where a sender needs one; and whether this project has it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.senders import TRACKED, environ_of

__all__ = ["COMMAND", "FLUSH_SECONDS", "Relay", "relaying"]

#: Seconds after which the relay sends what is less than a batch: the end of a measurement waits for that.
FLUSH_SECONDS = 2

COMMAND = [sys.executable, "-m", "agent_tracking", "relay"]


class Relay:
    """A relay that runs, or none."""

    def __init__(self, process: subprocess.Popen[bytes] | None = None) -> None:
        self.process = process
        self.seconds: float | None = None

    def look(self) -> None:
        """Remember the CPU time that it has used so far."""
        if self.process is None:
            return
        try:
            with open(f"/proc/{self.process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return
        self.seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cost(self) -> dict[str, float]:
        """Return its CPU seconds, if it ran."""
        self.look()
        return {} if self.seconds is None else {"relay_cpu": self.seconds}


@contextlib.contextmanager
def relaying(sender: str, url: str, folder: str) -> Iterator[Relay]:
    """Run a relay meanwhile, if the sender is ``relay``."""
    if sender != "relay":
        yield Relay()
        return
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ = {
        **kept,
        **environ_of(url, TRACKED["four"], folder, relay=True),
        "AGENT_TRACKING_FLUSH_INTERVAL": str(FLUSH_SECONDS),
    }
    process = subprocess.Popen(COMMAND, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Relay(process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
