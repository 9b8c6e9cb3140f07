"""A real server with and without tracking, in turns, under closed-loop load from another process."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from benchmarks.clients import ask
from benchmarks.relay import relaying
from benchmarks.room import Room, clean_environ
from benchmarks.vendors import VENDORS

__all__ = ["SERVERS", "serve_one"]

#: What each server is started with; ``{port}`` is filled in. One process, as each core would have. uvicorn takes
#: uvloop and httptools by itself where they are installed (in the group ``bench`` they are).
SERVERS = {
    "uvicorn": [
        "uvicorn", "benchmarks.apps:asgi", "--port", "{port}", "--log-level", "critical", "--no-access-log",
    ],
    "gunicorn": [
        "gunicorn", "benchmarks.apps:wsgi", "--bind", "127.0.0.1:{port}", "--workers", "1",
        "--worker-class", "gthread", "--threads", "4", "--log-level", "critical", "--keep-alive", "30",
    ],
}  # fmt: skip
_START = 30.0


def serve_one(
    room: Room, server: str, sender: str, *, turns: int, warm: float, seconds: float, pairs: int = 0
) -> dict[str, Any]:
    """Start a server, load it in turns and with ``pairs`` of requests, stop it; return the figures, and lost events."""
    with room.account(sender) as account, relaying(sender, account.url, account.folder) as relay:
        port = _free_port()
        spec = {"sender": sender, "url": account.url, "folder": account.folder}
        command = [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[server])]
        environ = {**clean_environ(), "BENCHMARK": json.dumps(spec)}
        # Some SDKs take ten seconds to end although all is sent. gunicorn's worker would outlive its master.
        kill = sender in VENDORS and server == "uvicorn"
        process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)
        try:
            _await(port, process)
            load = [str(each) for each in (port, turns, warm, seconds, pairs)]
            output = subprocess.run(
                [sys.executable, "-m", "benchmarks.clients", *load],
                capture_output=True,
                text=True,
                check=True,
                timeout=turns * (2 * (warm + seconds) + 10) + pairs * 0.1 + 60,
            )
            found: dict[str, Any] = json.loads(output.stdout)
            if kill:
                return {**found, **account.balance(found["tracked"])}
        finally:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return {**found, **account.balance(found["tracked"]), **relay.cost()}


def _free_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return reserved.getsockname()[1]


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        try:
            ask(port, "/-/cpu", 5)
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("the server did not start")
