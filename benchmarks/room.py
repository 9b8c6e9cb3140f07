"""Where measurements happen: an account at the sink for each, a folder for each, and the balance of both."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.event import NAME
from benchmarks.receiver import Receiver
from benchmarks.relay import FLUSH_SECONDS, relaying
from benchmarks.senders import SENDERS
from benchmarks.vendors import VENDORS

__all__ = ["Account", "Room", "balance_of", "clean_environ", "work"]


class Account(NamedTuple):
    """One measurement's address, folder and sink."""

    sender: str
    run: str
    url: str
    folder: str
    receiver: Receiver

    def balance(self, calls: int) -> dict[str, Any]:
        """Return what was delivered of so many calls, and what was lost, as the sink counts."""
        copies = _copies(self.sender)
        if self.sender == "floor-relay":
            return balance_of(calls, 1, [_lines(os.path.join(self.folder, "floor"))], 0)
        still = 4.0 * FLUSH_SECONDS if self.sender == "relay" else 1.0
        counts = self.receiver.settled(self.run, calls * copies, still=still)
        each = [count.delivered for count in counts.values()]
        return balance_of(calls, copies, each, sum(count.requests for count in counts.values()))


def balance_of(calls: int, copies: int, delivered: list[int], requests: int) -> dict[str, Any]:
    """Return the account of a measurement.

    ``lost`` is by backend: what one got twice pays for nothing that another one missed.
    """
    missing = [max(0, calls - count) for count in delivered] + [calls] * (copies - len(delivered))
    return {
        "calls": calls,
        "delivered": sum(delivered),
        "lost": sum(missing),
        "too_many": sum(max(0, count - calls) for count in delivered),
        "requests": requests,
    }


class Room:
    """The sink and the folders of a run."""

    def __init__(self, receiver: Receiver, say: Callable[[str], None] = print) -> None:
        self.receiver = receiver
        self.say = say

    @contextlib.contextmanager
    def account(self, sender: str) -> Iterator[Account]:
        """Open an account for one measurement."""
        run = self.receiver.run()
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            yield Account(sender, run, self.receiver.address(run), folder, self.receiver)

    def measure(
        self, task: str, sender: str, *, python: str = sys.executable, timeout: float = 300, **spec: object
    ) -> dict[str, Any]:
        """Run a task of :mod:`benchmarks.worker` in a fresh process; return its figures and its balance."""
        with self.account(sender) as account, relaying(sender, account.url, account.folder) as relay:
            found, said = work(account, task, python=python, timeout=timeout, **spec)
            balance = account.balance(found["calls"])
            if balance["lost"] and sender not in VENDORS and said:
                self.say(f"{sender} lost {balance['lost']:,} in {task} and said: {said[-300:]}")
            return {**found, **balance, **relay.cost()}


def work(
    account: Account, task: str, *, python: str = sys.executable, timeout: float = 300, **spec: object
) -> tuple[dict[str, Any], str]:
    """Run a task of :mod:`benchmarks.worker` for an account; return its figures, and what it said."""
    order = {"task": task, "sender": account.sender, "url": account.url, "folder": account.folder, **spec}
    output = subprocess.run(
        [python, "-m", "benchmarks.worker"],
        input=json.dumps(order),
        check=False,
        capture_output=True,
        text=True,
        env=clean_environ(),
        timeout=timeout,
    )
    if output.returncode:
        raise RuntimeError(f"{task} of {account.sender} failed:\n{output.stderr[-2000:]}")
    return json.loads(output.stdout.splitlines()[-1]), output.stderr.strip()


def clean_environ() -> dict[str, str]:
    """Return this process's environment without what would reach the senders."""
    ours = ("AGENT_TRACKING_", "POSTHOG_", "MIXPANEL_", "AMPLITUDE_", "TRACKING_", "OTEL_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


def _copies(sender: str) -> int:
    if sender.startswith("providers-"):
        return int(sender.partition("-")[2])
    return SENDERS[sender].copies


def _lines(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return file.read().count(NAME.encode())
    except FileNotFoundError:
        return 0
