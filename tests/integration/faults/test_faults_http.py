"""What goes wrong on a connection: closed, slow, huge, compressed, shared with a child, or not ours."""

from __future__ import annotations

import ssl
import threading
import time
import tracemalloc

import httpx
import pytest

from agent_tracking import Request
from agent_tracking.delivery.http import BODY_LIMIT, HTTPSender
from agent_tracking.testing import Answer, Fault, tls_sink

CLOSING = {
    "after each answer": (Fault.closed_afterwards(times=None),),
    "on the next request": (Fault.delay(0), Fault.disconnect(), Fault.delay(0), Fault.disconnect()),
}


@pytest.mark.parametrize("when", CLOSING)
def test_a_kept_connection_that_the_server_closes_loses_nothing(rig, sink, when):
    one = rig(environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    one.fail(*CLOSING[when])
    for batch in range(4):
        one.track(100, start=100 * batch)
        assert one.tracker.flush(20)
    for name in one.names:
        account = one.account(name)
        assert (account.delivered, account.dropped) == (400, {})
        assert sink.totals(name).counted == 400


@pytest.mark.parametrize("headers", [False, True])
def test_an_answer_byte_by_byte_ends_at_the_requests_total_deadline(rig, sink, headers):
    seen = []
    one = rig(("posthog",), total=0.5, observers=[seen.append])
    one.fail(Fault.trickle(0.2, headers=headers))
    one.track(20)
    assert one.tracker.flush(20)
    assert [exchange.verdict for exchange in seen] == ["retry", "delivered"]
    # Headers are ended from another thread, a second later at the earliest.
    assert seen[0].seconds < (0.5 + 1.0 + 1.0 if headers else 0.5 + 0.9)


@pytest.mark.parametrize("headers", [False, True])
def test_the_total_deadline_holds_under_tls_too(headers):
    with tls_sink() as sink:
        trusted = ssl.create_default_context(cadata=sink.certificate)
        sender = HTTPSender(total=0.3, tls=lambda: trusted)
        request = Request(f"{sink.url}/posthog/batch/", body=b"{}")
        assert sender.send(request).body  # and the connection is kept
        sink.fail("posthog", Fault.trickle(0.1, headers=headers))
        ended = threading.Event()

        def enforce():
            while not ended.wait(0.05):
                sender.enforce(time.monotonic())

        watch = threading.Thread(target=enforce)
        watch.start()
        began = time.monotonic()
        try:
            with pytest.raises((httpx.TransportError, OSError)):
                sender.send(request)
        finally:
            ended.set()
            watch.join()
            sender.close()
        assert time.monotonic() - began < 0.3 + 1.0 + 1.0


@pytest.mark.parametrize("compressed", [False, True])
def test_an_answer_is_read_to_64_kib_and_never_inflated(sink, compressed):
    sender = HTTPSender(total=10)
    sink.fail("webhook", Fault.huge(50_000_000, gzip=compressed))
    tracemalloc.start()
    try:
        response = sender.send(Request(f"{sink.url}/webhook/hook", body=b'{"id":"1"}'))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        sender.close()
    assert peak < 10_000_000
    assert len(response.body) <= BODY_LIMIT
    assert sink.requests("webhook")[0].headers["accept-encoding"] == "identity"
    if compressed:
        assert response.body[:2] == b"\x1f\x8b"


def test_a_warm_tls_connection_is_not_shared_with_a_forked_child(kit, tmp_path):
    source = """
        import os, sys
        from agent_tracking import track, flush, stats
        for number in range(3):
            track("order paid", {"n": number})
        assert flush(20)
        for child in range(1, 4):
            pid = os.fork()
            if pid == 0:
                for number in range(3):
                    track("order paid", {"n": 100 * child + number})
                ok = bool(flush(20)) and stats().providers["webhook"].retried == 0
                os._exit(0 if ok else 1)
            track("order paid", {"n": 1000 + child})
            assert flush(20)
            assert os.waitpid(pid, 0)[1] == 0
        assert stats().providers["webhook"].retried == 0
    """
    with tls_sink() as sink:
        trusted = tmp_path / "ca.pem"
        trusted.write_text(sink.certificate)
        environ = {
            **sink.environ("webhook"),
            "AGENT_TRACKING_PROVIDERS": "webhook",
            "SSL_CERT_FILE": str(trusted),
        }
        finished = kit.python(source, {**environ, "PYTHONWARNINGS": "ignore"})
        assert finished.returncode == 0, finished.stderr
        serials = sorted(kit.serial(event) for event in sink.events("webhook", duplicates=True))
    children = [100 * child + number for child in (1, 2, 3) for number in range(3)]
    assert serials == [0, 1, 2, *children, 1001, 1002, 1003]


@pytest.mark.parametrize("status", [400, 415])
def test_a_receiver_that_cannot_inflate_gets_the_body_once_more_uncompressed_and_never_compressed_again(
    rig, sink, status
):
    backend = sink._desk.backends["posthog"]
    usual = backend.answer
    backend.answer = lambda incoming, reading: (
        Answer(status) if incoming.headers.get("content-encoding") else usual(incoming, reading)
    )
    one = rig(("posthog",), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    for _ in range(3):
        one.track(100)
        assert one.tracker.flush(20)
    encodings = [request.headers.get("content-encoding") for request in sink.requests("posthog")]
    assert encodings == ["gzip", None, None, None]
    assert one.account("posthog").delivered == 300


def test_a_receiver_that_inflates_and_refuses_a_record_is_not_sent_uncompressed_bodies_from_then_on(
    rig, sink
):
    one = rig(("posthog",), environ={"AGENT_TRACKING_FLUSH_AT": "100000"})
    one.fail(Fault.poison())
    one.track(100, [0])
    one.tracker.flush(20)
    one.track(100)
    assert one.tracker.flush(20)
    big = [request for request in sink.requests("posthog") if len(request.body) > 2048]
    assert [request.headers.get("content-encoding") for request in big].count(None) == 1
    assert big[-1].raw_size < len(big[-1].body)


NOT_OURS = {
    "a web page": Fault.html(times=2),
    "nothing": Fault.status(200, body=b"", times=2),
    "an empty object": Fault.status(200, body={}, times=2),
    "somebody else's yes": Fault.status(200, body={"ok": True}, times=2),
    "half an answer": Fault.status(200, body=b'{"status":', times=2),
}


@pytest.mark.parametrize("provider", ["posthog", "mixpanel", "amplitude"])
@pytest.mark.parametrize("answer", NOT_OURS)
def test_a_200_that_is_not_the_backends_own_is_no_delivery(rig, sink, provider, answer):
    one = rig((provider,))
    one.fail(NOT_OURS[answer])
    one.track(40)
    assert one.tracker.flush(20)
    account = one.account(provider)
    assert account.faults >= 2
    assert account.retried
    assert (account.delivered, account.lost & set(range(40)), account.twice) == (40, set(), [])


def test_without_records_there_is_no_request(rig, sink):
    one = rig(environ={"AGENT_TRACKING_FLUSH_INTERVAL": "0.02"})
    one.tracker.track("order paid", {"n": 0}, user_id="u")
    assert one.tracker.flush(20)
    seen = sink.seen
    assert one.tracker.flush(20)
    assert not sink.wait(lambda: sink.seen > seen, 0.6)  # thirty intervals, two looks of the dispatcher


def test_when_a_processor_drops_all_there_is_no_request(rig, sink):
    one = rig(environ={"AGENT_TRACKING_FLUSH_INTERVAL": "0.02"}, processors=[lambda record: None])
    one.track(100)
    assert not one.tracker.flush(20).waiting
    assert not sink.wait(lambda: sink.seen, 0.6)
    assert one.tracker.stats().dropped == {"processor": 100}
