"""Celery's prefork children end without any exit hook of Python's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

APPS = Path(__file__).parent / "apps"
TASKS = range(10)

SEND = """
import sys
import time
sys.path.insert(0, sys.argv[1])
from tasks import work
for n in range(int(sys.argv[2])):
    work.delay(n)
"""


@pytest.mark.parametrize(
    "options", [["--max-tasks-per-child", "1"], [], ["-P", "solo"], ["-P", "threads"]], ids=" ".join
)
def test_tasks_of_a_worker(apps, tmp_path, options):
    broker = tmp_path / "broker"
    for folder in ("queue", "control"):
        (broker / folder).mkdir(parents=True)
    environ = {"BROKER": str(broker)}
    sent = apps.run(SEND, str(APPS), str(len(TASKS)), environ=environ)
    assert sent.status == 0, sent.err
    command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "2", "-l", "WARNING"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", *options]
    process = apps.start(command, environ, cwd=APPS)
    done = broker / "done"
    try:
        _wait_for_lines(process, done, len(TASKS))
        process.terminate()
        _, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.communicate()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert apps.arrived() == list(TASKS)
    if "1" in options:
        assert len({line.split()[0] for line in done.read_text().splitlines()}) == len(TASKS)


def _wait_for_lines(process: subprocess.Popen[str], path: Path, count: int) -> None:
    deadline = time.monotonic() + 40
    while not path.exists() or path.read_text().count("\n") < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, path.read_text() if path.exists() else "no task ran"
        time.sleep(0.05)
