"""Runs every fault against the four providers and the vendors' own SDKs, on loopback; makes the tables.

``python -m benchmarks.reliability [--python PATH] [--write]``

``--python``: an interpreter that has the vendors' SDKs (dependency group ``bench``); by default this one.
``--write``: put the tables into ``docs/reliability.md`` instead of printing them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_tracking.testing import Sink
from benchmarks.faults import CASES, EVENTS, Case, Judgement, MixpanelTrack, Segment

OURS = ("posthog", "mixpanel", "amplitude", "webhook")
VENDORS = ("posthog-sdk", "mixpanel-sdk", "amplitude-sdk", "segment-sdk")
PACKAGES = ("posthog", "mixpanel", "amplitude-analytics", "segment-analytics-python")
#: Seconds in which a client that has flushed may still retry before it is told to end.
PATIENCE = 30.0
#: Seconds after which a client that does not end is killed.
LIMIT = 45.0
CLIENTS = Path(__file__).with_name("vendor_clients.py")
DOCUMENT = Path(__file__).parents[1] / "docs" / "reliability.md"


@dataclass(frozen=True)
class Row:
    """One client under one fault; ``seconds`` until its last event was kept."""

    lost: int
    twice: int
    seconds: float
    worst: float
    raised: int
    killed: bool

    def ours(self) -> str:
        """Return a cell of the first table."""
        return self._figures()

    def theirs(self) -> str:
        """Return a cell of the second table."""
        notes = []
        if self.worst >= 0.25:
            over = " and more" if self.worst >= LIMIT else ""
            notes.append(f"caller blocked {self.worst:.1f} s{over}")
        if self.raised:
            notes.append(f"raised in {self.raised} calls" if self.raised > 1 else "raised in 1 call")
        if self.killed:
            notes.append("did not end")
        return "; ".join([self._figures(), *notes])

    def _figures(self) -> str:
        """Return lost, counted twice, seconds until all is there; a dash where that never was."""
        if self.lost:
            return f"**{self.lost}** / {self.twice} / -"
        return f"{self.lost} / {self.twice} / {self.seconds:.1f}"


class Child:
    """A client's process, and the lines that it says."""

    def __init__(self, command: Sequence[str], environ: dict[str, str]) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._process = subprocess.Popen(
            command,
            env={**kept, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)

    def heard(self, timeout: float) -> dict[str, object] | None:
        """Return what it says next, or ``None`` if it says nothing in time."""
        try:
            found: dict[str, object] = json.loads(self._lines.get(timeout=timeout))
        except queue.Empty:
            return None
        return found

    def go(self) -> None:
        """Let it go on."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write("\n")
                self._process.stdin.flush()

    def ended(self, timeout: float) -> bool:
        """Wait for its end; kill it otherwise, and tell which."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True


def run(name: str, case: Case, python: str) -> Row:
    """Run one client under one fault."""
    backend = name.removesuffix("-sdk")
    with socket.socket() as reserved, tempfile.TemporaryDirectory() as folder:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        # Mixpanel's SDK retries nothing over plain HTTP.
        sink = Sink(port=port, tls=name == "mixpanel-sdk")
        if name == "mixpanel-sdk":
            sink.add_backend("mixpanel", MixpanelTrack())
        sink.add_backend("segment", Segment())
        trusted = Path(folder) / "ca.pem"
        trusted.write_text(sink.certificate)
        address = f"{'https' if name == 'mixpanel-sdk' else 'http'}://127.0.0.1:{port}/{backend}"
        environ = {"REQUESTS_CA_BUNDLE": str(trusted), "AGENT_TRACKING_PROVIDERS": backend}
        if name in OURS:
            with Sink() as other:
                usual = other.environ(backend)
                environ |= {
                    key: value.replace(other.url, address.rsplit("/", 1)[0]) for key, value in usual.items()
                }
        sink.fail(backend, *case.faults)
        client = name if name.endswith("-sdk") else "agent-tracking"
        interpreter = python if name.endswith("-sdk") else sys.executable
        command = [interpreter, str(CLIENTS), client, address, *(["poison"] if case.poison else [])]
        child = Child(command, environ)
        if child.heard(LIMIT) is None:
            raise RuntimeError(f"{name} did not start: are the SDKs installed?")
        timers = [threading.Timer(case.late, lambda: (reserved.close(), sink.start()))]
        if case.clear is not None:
            timers.append(threading.Timer(case.clear, lambda: sink.clear(backend)))
        if not case.late:
            timers.pop(0)
            reserved.close()
            sink.start()
        return _watch(child, sink, backend, case, timers)


def _watch(child: Child, sink: Sink, backend: str, case: Case, timers: Sequence[threading.Timer]) -> Row:
    expected = EVENTS - case.poison
    began = time.monotonic()
    for timer in timers:
        timer.start()
    child.go()
    tracked = child.heard(LIMIT)
    if tracked is not None:
        child.heard(LIMIT)
        sink.wait(lambda: sink.totals(backend).counted >= expected, PATIENCE)
        child.go()
    ended = child.ended(LIMIT if tracked else 0.0)
    tracked = tracked or {"worst": LIMIT, "raised": 0}
    judgement = Judgement.of(sink, backend, case)
    last = max((request.at for request in sink.requests(backend) if request.kept), default=began)
    sink.close()
    seconds = last - began
    worst, raised = float(str(tracked["worst"])), int(str(tracked["raised"]))
    return Row(judgement.lost, judgement.twice, seconds, worst, raised, not ended)


def table(names: Sequence[str], rows: dict[tuple[str, str], Row]) -> str:
    """Return one table: a line for each fault, a column for each client."""
    vendors = names is VENDORS
    lines = [f"| fault | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for case in CASES:
        cells = [
            rows[case.name, name].theirs() if vendors else rows[case.name, name].ours() for name in names
        ]
        lines.append(f"| {case.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def versions(python: str) -> str:
    """Return the SDKs' versions as that interpreter has them."""
    source = f"from importlib.metadata import version; print(', '.join(f'{{p}} {{version(p)}}' for p in {PACKAGES}))"
    return subprocess.run([python, "-c", source], capture_output=True, text=True, check=True).stdout.strip()


def wave(names: Sequence[str], case: Case, python: str, rows: dict[tuple[str, str], Row]) -> None:
    """Run these clients at the same time under one fault, each with a backend of its own."""

    def one(name: str) -> None:
        rows[case.name, name] = run(name, case, python)
        print(case.name, name, rows[case.name, name], file=sys.stderr, flush=True)

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(argv: Sequence[str] | None = None) -> int:
    """Run all, and print or write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the vendors' SDKs")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/reliability.md")
    parser.add_argument("--only", default="", help="only faults whose name contains this")
    options = parser.parse_args(argv)
    cases = [case for case in CASES if options.only in case.name]
    rows: dict[tuple[str, str], Row] = {}
    for case in cases:
        wave(OURS, case, options.python, rows)
        wave(VENDORS, case, options.python, rows)
    if len(cases) < len(CASES):
        return 0
    about = (
        f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d}, CPython {platform.python_version()},"
        f" {os.cpu_count()} cores, {versions(options.python)}."
    )
    worst = max(rows[case.name, name].worst for case in CASES for name in OURS) * 1000
    made = {
        "ours": f"{table(OURS, rows)}\n\nThe longest of these {len(CASES) * len(OURS) * EVENTS:,} calls of"
        f" `track()` took {worst:.0f} ms.\n\n{about}",
        "vendors": table(VENDORS, rows),
    }
    if options.write:
        write(made)
    else:
        print("\n\n".join(made.values()))
    return 0


def write(made: dict[str, str]) -> None:
    """Replace what stands between the marks in the document."""
    text = DOCUMENT.read_text()
    for name, content in made.items():
        before, begin, rest = text.partition(f"<!-- {name}: begin -->\n")
        _, end, after = rest.partition(f"<!-- {name}: end -->")
        text = f"{before}{begin}\n{content}\n\n{end}{after}"
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
