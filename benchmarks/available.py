"""Which senders can be measured here, found out by trying."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.relay import COMMAND, relaying
from benchmarks.room import Account, Room, clean_environ
from benchmarks.senders import SENDERS, TRACKED, environ_of, missing

__all__ = ["unavailable"]

_EVENTS = 20
_TRACK = f"""
import sys, agent_tracking
from benchmarks.event import NAME, PROPERTIES, USER
for _ in range({_EVENTS}):
    agent_tracking.track(NAME, PROPERTIES, user_id=USER)
print("[true]" if agent_tracking.flush(10) else "[false]", flush=True)
sys.stdin.readline()
"""


def unavailable(room: Room, name: str) -> str:
    """Return why a sender cannot be measured here, or nothing."""
    if package := missing(name):
        return f"{package} is not installed (dependency group bench)"
    needs = SENDERS[name].needs
    if not needs:
        return ""
    with room.account(name) as account:
        return _spool(account) if needs == "spool" else _relay(account)


def _spool(account: Account) -> str:
    with _tracking(account) as process:
        flushed = json.loads(process.stdout.readline() or "[false]")
        files = [path for path in Path(account.folder).rglob("*") if path.is_file()]
        process.communicate("\n", timeout=30)
    if not flushed[0] or not files:
        return "with AGENT_TRACKING_SPOOL set, records do not wait on disk in this version"
    lost = account.balance(_EVENTS)["lost"]
    return f"the sink misses {lost} of its first events" if lost else ""


def _relay(account: Account) -> str:
    if subprocess.run([*COMMAND, "--help"], check=False, capture_output=True, env=clean_environ()).returncode:
        return "this version has no `agent-tracking relay`"
    with relaying("relay", account.url, account.folder) as relay:
        time.sleep(0.5)
        if relay.process is not None and relay.process.poll() is not None:
            return f"`agent-tracking relay` ended at once with status {relay.process.returncode}"
        with _tracking(account, relay=True) as process:
            process.communicate("\n", timeout=30)
        lost = account.balance(_EVENTS)["lost"]
        return f"the sink misses {lost} of its first events" if lost else ""


def _tracking(account: Account, *, relay: bool = False) -> subprocess.Popen[str]:
    environ = environ_of(account.url, TRACKED["four"], account.folder, relay=relay)
    return subprocess.Popen(
        [sys.executable, "-c", _TRACK],
        env={**clean_environ(), **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
