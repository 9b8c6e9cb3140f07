"""A sink in a process of its own does what one in threads does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import httpx
import pytest

from agent_tracking.testing import Count, Fault, SinkProcess, Totals


@pytest.fixture(scope="module")
def shared():
    with SinkProcess() as sink:
        yield sink


@pytest.fixture
def sink(shared):
    yield shared
    shared.clear()


def hook(sink):
    return sink.environ("webhook")["TRACKING_WEBHOOK_URL"]


def post(sink, key, **fields):
    return httpx.post(hook(sink), json={"id": key, **fields}, trust_env=False, timeout=10)


def test_reads_as_a_sink_in_threads_does(sink):
    before = sink.ledger["webhook"].requests
    post(sink, "read", n=1)
    post(sink, "read", n=1)

    assert sink.ledger["webhook"]["read"] == Count(2, 2)
    assert sink.ledger["webhook"].requests == before + 2
    assert [event["n"] for event in sink.events("webhook", "/hook") if event["id"] == "read"] == [1]
    received = sink.requests("webhook")[-1]
    assert (received.path, received.status, received.keys) == ("/hook", 200, ["read"])
    assert received.json() == {"id": "read", "n": 1}
    assert sink.requests("webhook", "/other") == []


def test_environments_are_those_of_the_providers(sink):
    assert sink.environ("posthog")["POSTHOG_HOST"] == f"{sink.url}/posthog"
    assert len(sink.environ()) == 7


def test_takes_faults_and_clears_them(sink):
    sink.fail("webhook", Fault.status(503, times=None), Fault.status(500))
    assert post(sink, "fault").status_code == 503

    sink.clear("webhook")

    assert post(sink, "fault").status_code == 200
    assert sink.ledger["webhook"]["fault"] == Count(2, 1)


def test_says_what_is_wrong_with_an_order(sink):
    with pytest.raises(RuntimeError, match="no backend 'nobody'"):
        sink.fail("nobody", Fault.hang())
    assert httpx.get(f"{sink.url}/__nothing__", trust_env=False).status_code == 404
    assert httpx.post(f"{sink.url}/__fail__", content=b"{}", trust_env=False).status_code == 400


def test_faults_may_be_posted_by_anyone_who_speaks_json(sink):
    order = {"provider": "webhook", "fault": {"kind": "status", "code": 502, "times": 1}}
    httpx.post(f"{sink.url}/__fail__", json=order, trust_env=False).raise_for_status()

    assert post(sink, "json").status_code == 502
    page = httpx.get(f"{sink.url}/__ledger__", trust_env=False).json()["ledgers"]["webhook"]
    assert page["counts"]["json"] == [1, 0]


def test_waits_until_the_request_came_without_polling(sink):
    looks = []
    thread = threading.Thread(target=post, args=(sink, "awaited"))

    def arrived():
        looks.append(1)
        if len(looks) == 1:
            thread.start()
        return sink.ledger["webhook"]["awaited"].accepted

    assert sink.wait(arrived, timeout=10)
    thread.join()
    assert len(looks) <= 3


def test_totals_come_without_the_keys(sink):
    before = sink.totals("webhook")
    post(sink, "total")
    post(sink, "total")

    after = sink.totals("webhook")
    assert (after.requests - before.requests, after.arrived - before.arrived) == (2, 2)
    assert (after.accepted - before.accepted, after.counted - before.counted) == (2, 1)
    assert sink.totals("nothing-came") == Totals(0, 0, 0, 0)


def test_wait_gives_up_at_its_deadline(sink):
    start = time.monotonic()

    assert not sink.wait(lambda: False, timeout=0.2)
    assert 0.2 <= time.monotonic() - start < 5


def test_forked_child_may_use_the_sink_and_does_not_end_it(sink):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: forking with threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            post(sink, "from the child")
            sink.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    assert sink.ledger["webhook"]["from the child"] == Count(1, 1)


def test_third_parties_backends_are_named_by_module_and_attribute():
    with SinkProcess(backends={"acme": "agent_tracking.testing:Backend"}, keep=False) as sink:
        httpx.post(f"{sink.url}/acme/in", json={"id": "1"}, trust_env=False).raise_for_status()

        assert sink.ledger["acme"].counted == 1
        assert sink.requests("acme") == sink.events("acme") == []


def test_backend_that_cannot_be_found_is_reported_at_the_start(capfd):
    with pytest.raises(RuntimeError, match="did not start"):
        SinkProcess(backends={"acme": "agent_tracking.testing:Sink"}).start()
    assert "is no Backend" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_module_prints_where_it_listens_and_serves_until_a_signal(number):
    command = [sys.executable, "-W", "error", "-m", "agent_tracking.testing.sink", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        hello = json.loads(process.stdout.readline())
        answer = httpx.post(hello["environ"]["TRACKING_WEBHOOK_URL"], json={"id": "1"}, trust_env=False)
        process.send_signal(number)
        rest = process.communicate(timeout=10)

    assert answer.status_code == 200
    assert hello["url"].startswith("http://127.0.0.1:")
    assert rest == (b"", b"")
    assert process.returncode == 0


def test_ends_within_a_second_also_with_hanging_connections():
    with SinkProcess() as sink:
        sink.fail("webhook", Fault.hang())
        outcomes = []
        thread = threading.Thread(target=lambda: outcomes.append(broken_off(sink)))
        thread.start()
        assert sink.wait(lambda: sink.ledger["webhook"].requests == 1)
        start = time.monotonic()
        sink.close()
        took = time.monotonic() - start
        thread.join()

    assert took < 2
    assert outcomes == [True]


def broken_off(sink):
    try:
        post(sink, "1")
    except httpx.TransportError:
        return True
    return False


def test_ends_when_the_process_that_started_it_dies():
    script = (
        "import os; from agent_tracking.testing import SinkProcess; sink = SinkProcess().start();"
        "print(sink.url, flush=True); os._exit(0)"
    )
    url = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, text=True
    ).stdout.strip()
    deadline = time.monotonic() + 10
    gone = False
    while not gone and time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/__wait__?seen=0&timeout=0.05", trust_env=False)
        except httpx.TransportError:
            gone = True

    assert gone


def test_says_that_it_does_not_run():
    sink = SinkProcess()
    sink.close()

    with pytest.raises(RuntimeError, match="does not run"):
        _ = sink.pid
