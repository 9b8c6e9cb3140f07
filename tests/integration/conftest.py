"""Runs applications as processes of their own against a sink, and reads the sink's ledger."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_tracking.testing import Sink

APPS = Path(__file__).parent / "apps"

#: Seconds until a process that should have ended counts as hanging; generous, machines are busy.
HANGS = 25.0

#: From 3.12 on CPython says this of every fork of a process that has threads; a script that forks after
#: its first track() has one.
FORK_WARNING = "ignore:This process (pid="


@dataclass(frozen=True)
class Finished:
    """A process that has ended."""

    status: int
    out: str
    err: str
    seconds: float

    def check(self, status=0):
        """Fail unless it ended with this status, and wrote nothing to stderr."""
        assert self.err == ""
        assert self.status == status


@dataclass
class Apps:
    """Starts applications whose providers talk to ``sink``."""

    sink: Sink
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def environ(self, changes: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of an application: the sink's webhook, and nothing of this process's."""
        kept = {
            name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ
        }
        return {
            **kept,
            "HOME": str(self.folder),
            **self.sink.environ("webhook"),
            "AGENT_TRACKING_PROVIDERS": "webhook",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.variables,
            **(changes or {}),
        }

    def start(
        self, command: Sequence[str], environ: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a command with pipes for its output, in a session of its own."""
        process = subprocess.Popen(
            command,
            env=self.environ(environ),
            cwd=cwd or self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what a failed test left behind."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def script(
        self,
        source: str,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Start a Python script under ``-W error``."""
        number = len(list(self.folder.glob("script*.py")))
        path = self.folder / f"script{number}.py"
        path.write_text(textwrap.dedent(source))
        command = [sys.executable, "-W", "error", "-W", FORK_WARNING, *options, str(path), *arguments]
        return self.start(command, environ)

    def run(
        self,
        source: str,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Finished:
        """Run a Python script under ``-W error`` to its end."""
        return finish(self.script(source, *arguments, environ=environ, options=options))

    def arrived(self) -> list[int]:
        """Return property ``n`` of every record that was kept, each as often as it was, sorted."""
        assert self.sink.ledger["webhook"].arrived_twice() == []
        events = self.sink.events("webhook", duplicates=True)
        return sorted(event["properties"]["n"] for event in events)

    @contextmanager
    def serving(
        self, command: Sequence[str], port: int, environ: Mapping[str, str] | None = None
    ) -> Iterator[Server]:
        """Run a server in the folder of apps until the block ends, which should have ended it."""
        process = self.start(command, environ, cwd=APPS)
        server = Server(process, f"http://127.0.0.1:{port}")
        try:
            server.until_ready(_workers_of(command))
            yield server
        finally:
            server.kill()


@dataclass
class Server:
    """A server that runs."""

    process: subprocess.Popen[str]
    url: str

    def until_ready(self, workers: int = 0) -> None:
        """Wait until it answers and has so many workers."""
        deadline = time.monotonic() + HANGS
        while True:
            try:
                self.get("/ready")
                if self.children() < workers:
                    raise TimeoutError
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                status = self.process.poll()
                if status is not None or time.monotonic() > deadline:
                    self.kill()
                    out, err = self.process.communicate()
                    pytest.fail(f"the server did not start: status {status}\n{out}\n{err}")
                time.sleep(0.05)
            else:
                return

    def children(self) -> int:
        """Return how many processes it has started that run."""
        pid = self.process.pid
        return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def get(self, path: str) -> str:
        """Request a path over a connection of its own."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=HANGS) as answer:
            return answer.read().decode()

    def track(self, numbers: Sequence[int]) -> list[int]:
        """Have the app track each number in a request of its own; return the workers' pids in order."""
        return [int(self.get(f"/track?n={number}")) for number in numbers]

    def stop(self, number: int = signal.SIGTERM) -> Finished:
        """Send a signal to the process that was started, and wait for its end."""
        self.process.send_signal(number)
        return finish(self.process)

    def kill(self) -> None:
        """End what is left of it: its session holds nothing else."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.poll() is None or not self.process.stdout.closed:  # type: ignore[union-attr]
            self.process.communicate()


def _workers_of(command: Sequence[str]) -> int:
    """Return how many workers gunicorn has to start: a signal while it does makes it start more, and hang."""
    words = list(command)
    return int(words[words.index("-w") + 1]) if "gunicorn" in words and "-w" in words else 0


def finish(process: subprocess.Popen[str], timeout: float = HANGS) -> Finished:
    """Wait for a process's end; one that hangs is killed, which fails the test."""
    began = time.monotonic()
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"still running after {timeout} s\n{out}\n{err}")
    return Finished(process.returncode, out, err, time.monotonic() - began)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A sink in threads of this process."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def apps(sink: Sink, tmp_path: Path) -> Iterator[Apps]:
    """Starts applications that talk to ``sink``."""
    apps = Apps(sink, tmp_path)
    yield apps
    apps.end()


@pytest.fixture
def port() -> int:
    """A port for a server."""
    return free_port()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(64)
        yield sock.getsockname()[1]
