"""The sink itself: what it keeps, how it waits, how it ends."""

from __future__ import annotations

import gc
import gzip
import os
import socket
import ssl
import threading
import time
import warnings

import httpx
import pytest

from agent_tracking.testing import (
    Answer,
    Backend,
    Count,
    Fault,
    Sink,
    Totals,
    refused_url,
    tls_sink,
    unresolvable_url,
)


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


@pytest.fixture
def client():
    with httpx.Client(timeout=10, trust_env=False) as client:
        yield client


def hook(sink):
    return sink.environ("webhook")["TRACKING_WEBHOOK_URL"]


def sink_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tracking-sink")]


def test_environment_points_all_four_providers_at_the_sink(sink):
    environ = sink.environ()

    assert set(environ) == {
        "POSTHOG_API_KEY",
        "POSTHOG_HOST",
        "MIXPANEL_TOKEN",
        "MIXPANEL_HOST",
        "AMPLITUDE_API_KEY",
        "AMPLITUDE_HOST",
        "TRACKING_WEBHOOK_URL",
    }
    assert environ["POSTHOG_API_KEY"].startswith("phc_test")
    assert environ["POSTHOG_HOST"] == f"{sink.url}/posthog"
    assert sink.environ("webhook") == {"TRACKING_WEBHOOK_URL": f"{sink.url}/webhook/hook"}


def test_request_is_in_the_ledger_by_the_time_its_sender_has_the_answer(sink, client):
    before = time.monotonic()
    client.post(
        f"{hook(sink)}?a=1&b=", json=[{"id": "1", "n": 1}, {"id": "2", "n": 2}], headers={"X-Mine": "yes"}
    )

    (received,) = sink.requests("webhook")
    assert (received.provider, received.method, received.path) == ("webhook", "POST", "/hook")
    assert received.query == {"a": "1", "b": ""}
    assert received.headers["x-mine"] == "yes"
    assert received.json() == [{"id": "1", "n": 1}, {"id": "2", "n": 2}]
    assert received.status == 200
    assert received.keys == received.kept == ["1", "2"]
    assert before <= received.at <= time.monotonic()
    assert sink.seen == sink.ledger["webhook"].requests == 1


def test_body_is_decompressed_and_its_size_on_the_wire_is_kept(sink, client):
    body = b'{"id": "1", "text": "' + b"a" * 5000 + b'"}'
    packed = gzip.compress(body)

    client.post(hook(sink), content=packed, headers={"Content-Encoding": "gzip"})

    (received,) = sink.requests("webhook")
    assert received.body == body
    assert received.raw_size == len(packed)


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_body_that_cannot_be_decompressed_is_refused(sink, client, encoding):
    answer = client.post(hook(sink), content=b'{"id": "1"}', headers={"Content-Encoding": encoding})

    assert answer.status_code == 400
    assert sink.ledger["webhook"].accepted == 0


def test_same_key_twice_is_accepted_twice_and_counted_once(sink, client):
    for _ in range(2):
        client.post(hook(sink), json={"id": "1", "n": 1})
    client.post(hook(sink), json={"id": "2", "n": 1})

    ledger = sink.ledger["webhook"]
    assert ledger["1"] == Count(arrived=2, accepted=2)
    assert ledger["never"] == Count(0, 0)
    assert (ledger.arrived, ledger.accepted, ledger.counted) == (3, 3, 2)
    assert sink.totals("webhook") == ledger.totals() == Totals(requests=3, arrived=3, accepted=3, counted=2)
    assert sink.totals("nothing-came") == Totals()
    assert ledger.accepted_keys() == ["1", "2"]
    assert ledger.accepted_twice() == ledger.arrived_twice() == ["1"]
    assert [event["id"] for event in sink.events("webhook")] == ["1", "2"]
    assert [event["id"] for event in sink.events("webhook", duplicates=True)] == ["1", "1", "2"]


def test_record_that_came_under_two_keys_shows_in_the_events(sink, client):
    for key in ("1", "2"):
        client.post(hook(sink), json={"id": key, "n": 7})

    assert [event["n"] for event in sink.events("webhook")] == [7, 7]
    assert sink.ledger["webhook"].accepted_twice() == []


def test_refused_records_have_arrived_and_are_not_accepted(sink, client):
    sink.fail("webhook", Fault.status(400))
    client.post(hook(sink), json={"id": "1"})

    ledger = sink.ledger["webhook"]
    assert ledger["1"] == Count(1, 0)
    assert ledger.refused_keys() == ["1"]
    assert sink.events("webhook") == []
    assert sink.requests("webhook")[0].fault == "status"


def test_events_and_requests_can_be_had_by_path(sink, client):
    client.post(f"{sink.url}/webhook/one", json={"id": "1"})
    client.post(f"{sink.url}/webhook/two/", json={"id": "2"})

    assert [event["id"] for event in sink.events("webhook", "/two")] == ["2"]
    assert [received.keys for received in sink.requests("webhook", "/one")] == [["1"]]


def test_without_keep_only_the_numbers_are_kept(client):
    with Sink(keep=False) as sink:
        client.post(hook(sink), json={"id": "1"})

        assert sink.ledger["webhook"].counted == 1
        assert sink.requests("webhook") == sink.events("webhook") == []


def test_unknown_providers_get_404_and_are_on_record(sink, client):
    assert client.post(f"{sink.url}/nobody/x", json={}).status_code == 404

    assert sink.requests("nobody")[0].path == "/x"
    assert sink.requests("nothing-came") == []
    with pytest.raises(KeyError, match="there are: amplitude"):
        sink.events("nothing-came")
    with pytest.raises(KeyError, match="no backend 'nobody'"):
        sink.fail("nobody", Fault.hang())


def test_wait_returns_as_soon_as_the_request_came(sink):
    thread = threading.Thread(target=lambda: httpx.post(hook(sink), json={"id": "1"}, trust_env=False))
    thread.start()

    assert sink.wait(lambda: sink.ledger["webhook"].counted == 1, timeout=10)
    thread.join()


def test_wait_gives_up_at_its_deadline(sink):
    start = time.monotonic()

    assert not sink.wait(lambda: sink.ledger["webhook"].counted == 1, timeout=0.05)
    assert 0.05 <= time.monotonic() - start < 2


def test_many_connections_at_once_lose_nothing(sink):
    def send(worker):
        with httpx.Client(trust_env=False) as client:
            for number in range(20):
                client.post(hook(sink), json={"id": f"{worker}-{number}"}).raise_for_status()

    threads = [threading.Thread(target=send, args=(worker,)) for worker in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sink.ledger["webhook"].counted == 320
    assert sink.ledger["webhook"].accepted_twice() == []


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (b"POST /webhook/hook HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
        (b"POST /webhook/hook HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /webhook/hook HTTP/1.1\r\nContent-Length: 999999999999\r\n\r\n", 413),
        (b"POST /webhook/hook HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"POST /webhook/hook HTTP/1.1\r\nx: " + b"y" * 400_000, 431),
    ],
)
def test_what_is_no_readable_request_is_refused_and_the_connection_ends(sink, request_text, status):
    with socket.create_connection(("127.0.0.1", int(sink.url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(request_text)
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))

    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert sink.seen == 0


def test_request_that_is_cut_off_never_arrived(sink):
    with socket.create_connection(("127.0.0.1", int(sink.url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(b"POST /webhook/hook HTTP/1.1\r\nContent-Length: 100\r\n\r\n{}")
        raw.shutdown(socket.SHUT_WR)

        assert raw.recv(100) == b""
    assert sink.seen == 0


def test_requests_on_one_connection_may_be_sent_without_waiting(sink):
    one = b'POST /webhook/hook HTTP/1.1\r\nContent-Length: 11\r\n\r\n{"id": "%d"}'
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with socket.create_connection(("127.0.0.1", int(sink.url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(one % 1 + one % 2 + last % 3)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))

    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert sink.ledger["webhook"].accepted_keys() == ["1", "2", "3"]


def test_curl_like_senders_are_told_to_continue(sink):
    with socket.create_connection(("127.0.0.1", int(sink.url.rpartition(":")[2])), timeout=10) as raw:
        raw.sendall(b"POST /webhook/hook HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")

        assert raw.recv(100).startswith(b"HTTP/1.1 100 ")


def test_third_parties_say_how_their_bodies_are_read_and_answered(sink, client):
    def answer(incoming, reading):
        if incoming.headers.get("x-acme-key") != "k":
            return Answer(401, b"who are you?")
        return Answer.json(202, {"taken": 1}, kept=[1])

    backend = Backend(
        read=lambda incoming: incoming.json()["items"],
        key="ref",
        answer=answer,
        environ={"ACME_URL": "{url}/in"},
    )
    sink.add_backend("acme", backend)
    url = sink.environ("acme")["ACME_URL"]
    assert url == f"{sink.url}/acme/in"

    assert client.post(url, json={"items": [{"ref": "0"}]}).text == "who are you?"
    taken = client.post(url, json={"items": [{"ref": "1"}, {"ref": "2"}]}, headers={"X-Acme-Key": "k"})

    assert (taken.status_code, taken.json()) == (202, {"taken": 1})
    assert sink.ledger["acme"].accepted_keys() == ["2"]
    assert sink.ledger["acme"].refused_keys() == ["0", "1"]


@pytest.mark.parametrize(
    "fault", [Fault.poison(), Fault.too_large(20), Fault.unauthorized(), Fault.throttled(2)]
)
def test_faults_work_for_third_parties_without_code(sink, client, fault):
    sink.add_backend("acme", Backend())
    sink.fail("acme", fault)

    answer = client.post(f"{sink.url}/acme", json=[{"id": "1", "data": {"poison": True}}])

    assert answer.status_code in {400, 401, 413, 429}
    assert sink.ledger["acme"].accepted == 0


def test_record_without_a_key_gets_a_stable_digest(sink, client):
    sink.add_backend("acme", Backend())
    client.post(f"{sink.url}/acme", content=b'{"a": 1, "b": 2}')
    client.post(f"{sink.url}/acme", content=b'{"b": 2, "a": 1}')

    assert len(sink.ledger["acme"].accepted_twice()) == 1


def test_backend_that_raises_costs_a_500_and_is_reported(sink, client):
    sink.add_backend("acme", Backend(answer=lambda incoming, reading: 1 / 0))

    answer = client.post(f"{sink.url}/acme", json={"id": "1"})

    assert answer.status_code == 500
    assert "ZeroDivisionError" in answer.text
    assert isinstance(sink.errors[0], ZeroDivisionError)


def test_backend_that_keeps_what_was_not_sent_is_reported(sink, client):
    sink.add_backend("acme", Backend(answer=lambda incoming, reading: Answer(kept=[1])))

    assert client.post(f"{sink.url}/acme", json={"id": "1"}).status_code == 500
    assert "kept" in str(sink.errors[0])
    assert sink.ledger["acme"].accepted == 0


def test_closing_ends_hanging_connections_and_threads_within_a_second(client):
    with Sink() as sink:
        sink.fail("webhook", Fault.hang(times=None))
        results = []
        threads = [threading.Thread(target=lambda: results.append(outcome_of(hook(sink)))) for _ in range(5)]
        for thread in threads:
            thread.start()
        idle = socket.create_connection(("127.0.0.1", int(sink.url.rpartition(":")[2])))
        assert sink.wait(lambda: sink.ledger["webhook"].requests == 5)
        start = time.monotonic()
    took = time.monotonic() - start
    for thread in threads:
        thread.join()
    idle.close()

    assert took < 1
    assert set(results) <= {"RemoteProtocolError", "ReadError"}
    assert len(results) == 5
    assert sink_threads() == []
    gc.collect()  # a socket left open would be a ResourceWarning, and that an error


def outcome_of(url, **options):
    try:
        return httpx.post(url, json={"id": "1"}, timeout=30, trust_env=False, **options).status_code
    except httpx.TransportError as error:
        return type(error).__name__


def test_closed_sink_can_be_closed_again_and_still_be_read(client):
    with Sink() as sink:
        client.post(hook(sink), json={"id": "1"})
    sink.close()

    assert sink.ledger["webhook"].counted == 1
    with pytest.raises(httpx.ConnectError):
        client.post(hook(sink), json={"id": "1"})


def test_sink_that_was_never_started_says_so():
    sink = Sink()

    with pytest.raises(RuntimeError, match="with statement"):
        _ = sink.url
    sink.close()


def test_forked_child_neither_serves_nor_disturbs_the_parents_connections(sink, client):
    client.post(hook(sink), json={"id": "1"})  # a connection that is kept alive over the fork
    release, wait = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12: forking with threads
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(wait)
            read = sink.ledger["webhook"].counted == 1 and sink.wait(lambda: True, timeout=1)
            sink.close()
            os.read(release, 1)
            status = 0 if read and not sink_threads() else 2
        finally:
            os._exit(status)
    os.close(release)

    assert client.post(hook(sink), json={"id": "2"}).status_code == 200
    sink.fail("webhook", Fault.disconnect())
    assert outcome_of(hook(sink)) == "RemoteProtocolError"  # the child holds no copy that keeps it open
    sink.close()
    with pytest.raises(httpx.ConnectError):
        httpx.post(hook(sink), json={"id": "3"}, trust_env=False)
    os.close(wait)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_nobody_listens_at_the_refused_address():
    with pytest.raises(httpx.ConnectError):
        httpx.get(refused_url(), trust_env=False)
    assert refused_url() == refused_url()


def test_unresolvable_address_has_a_reserved_name():
    assert httpx.URL(unresolvable_url()).host.endswith(".invalid")


def test_nobody_trusts_the_tls_sink():
    with tls_sink() as sink:
        assert sink.url.startswith("https://127.0.0.1:")
        with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
            httpx.post(hook(sink), json={"id": "1"}, trust_env=False)

        assert sink.seen == 0


def test_tls_sink_serves_those_who_are_told_to_trust_its_certificate():
    trusting = ssl.create_default_context(cadata=Sink.certificate)
    with tls_sink() as sink:
        assert outcome_of(hook(sink), verify=trusting) == 200
        sink.fail("webhook", Fault.reset("before"))
        reset = outcome_of(hook(sink), verify=trusting)

        assert reset in {"ReadError", "RemoteProtocolError"}  # OpenSSL reports an RST as an end of file
        assert sink.ledger["webhook"]["1"] == Count(2, 1)


def test_closing_does_not_wait_for_a_tls_handshake_that_never_comes():
    with tls_sink() as sink, socket.create_connection(("127.0.0.1", int(sink.url.rpartition(":")[2]))):
        start = time.monotonic()
        sink.close()

        assert time.monotonic() - start < 1
