"""Celery: a task's events carry the ids of who called it, in every pool, and none are left for the next."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

APPS = Path(__file__).parent / "apps"
CALLS = 80
#: Every fifth call is made outside of any context.
NOBODY = 5

SEND = """
import json
import sys
sys.path.insert(0, sys.argv[1])
from context_tasks import send
from agent_tracking import context
expected = {}
for n in range(int(sys.argv[2])):
    if n % int(sys.argv[3]):
        with context(user_id=n + 1000, anonymous_id=f"v-{n}", session_id=f"s-{n}", properties={"plan": [n]}):
            expected[n] = send(n)
    else:
        expected[n] = send(n)
with context(user_id="u-1", properties={"large": "x" * 20_000}):
    expected[n + 1] = send(n + 1)
print(json.dumps(expected))
"""


@pytest.fixture
def broker(tmp_path):
    folder = tmp_path / "broker"
    for name in ("queue", "control"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    "pool",
    [["-c", "3"], ["-P", "threads", "-c", "8"], ["-P", "solo"], ["-P", "gevent", "-c", "8"]],
    ids=" ".join,
)
def test_each_task_has_the_ids_of_its_own_caller(apps, broker, pool):
    environ = {"BROKER": str(broker)}
    sent = apps.run(SEND, str(APPS), str(CALLS), str(NOBODY), environ=environ)
    assert sent.status == 0, sent.err
    expected = sorted(f"{n} {step}" for n, steps in json.loads(sent.out).items() for step in steps)
    command = [sys.executable, "-m", "celery", "-A", "context_tasks", "worker", "-l", "CRITICAL", *pool]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    process = apps.start(command, environ, cwd=APPS)
    done = broker / "done"
    deadline = time.monotonic() + 60
    try:
        while not done.exists() or len(done.read_text().splitlines()) < len(expected):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, done.read_text() if done.exists() else "no task ran"
            time.sleep(0.05)
        process.terminate()
        _, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.communicate()
    assert "agent_tracking" not in err, err
    events = apps.sink.events("webhook")
    told = [f"{event['properties']['n']} {event['properties']['step']}" for event in events]
    assert sorted(told) == sorted(done.read_text().splitlines()) == expected
    for event in events:
        _check(event)


def _check(event):
    properties = event["properties"]
    number = properties["n"]
    ids = tuple(event.get(name) for name in ("userId", "anonymousId", "sessionId"))
    if number == CALLS:
        assert ids == ("u-1", None, None)
        assert "large" not in properties  # brokers limit headers
    elif number % NOBODY:
        assert ids == (str(number + 1000), f"v-{number}", f"s-{number}")
        assert properties["plan"] == [number]
    else:
        assert ids == (None, None, None)
        assert "plan" not in properties
    # What a task binds reaches the tasks that it calls, and no other.
    assert properties.get("bound in", number) == number


def test_a_header_that_anybody_could_have_sent_costs_no_task(apps, broker):
    done = apps.run(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        from celery.app.trace import trace_task
        from context_tasks import app, work
        from agent_tracking import context, flush
        from agent_tracking.contexts import CURRENT
        for odd in (7, [], {"user_id": [], "unknown": 1}, {"properties": 7}, "text", None, {"user_id": "u-9"}):
            trace_task(work, "id", [1], {}, {"id": "id", "agent_tracking": odd}, app=app)
            assert CURRENT.get() is None
        with context(session_id="another task's"):
            trace_task(work, "id", [3], {}, {"id": "id"}, app=app)
        app.conf.task_always_eager = True
        with context(user_id="u-1"):
            work.delay(2)
        assert CURRENT.get() is None
        assert flush(20)
        """,
        str(APPS),
        environ={"BROKER": str(broker)},
    )
    assert done.status == 0, done.err
    events = apps.sink.events("webhook")
    assert [(event["properties"]["n"], event.get("userId"), event.get("sessionId")) for event in events] == [
        *[(1, None, None)] * 6,
        (1, "u-9", None),
        (3, None, None),
        (2, "u-1", None),
    ]
