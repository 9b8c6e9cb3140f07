"""Each fault does to a real client what it says."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from email.utils import parsedate_to_datetime

import httpx
import msgspec
import pytest

from agent_tracking.testing import Count, Fault, Sink


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


@pytest.fixture
def client():
    with httpx.Client(timeout=10, trust_env=False) as client:
        yield client


@pytest.fixture
def post(sink, client):
    url = sink.environ("webhook")["TRACKING_WEBHOOK_URL"]

    def post(key="1", **options):
        return client.post(url, json={"id": key}, **options)

    return post


def taken(sink, key="1"):
    return sink.ledger["webhook"][key]


def test_status_is_answered_as_often_as_said_then_all_is_normal(sink, post):
    sink.fail("webhook", Fault.status(503, times=3))

    assert [post().status_code for _ in range(4)] == [503, 503, 503, 200]
    assert taken(sink) == Count(arrived=4, accepted=1)


def test_status_carries_headers_and_any_body(sink, post):
    sink.fail("webhook", Fault.status(429, headers={"Retry-After": "1"}, body={"why": "busy"}))
    sink.fail("webhook", Fault.status(418, body="short and stout"), Fault.status(599, body=b"\x00"))

    busy, teapot, odd = post(), post(), post()

    assert (busy.status_code, busy.headers["retry-after"], busy.json()) == (429, "1", {"why": "busy"})
    assert busy.headers["content-type"] == "application/json"
    assert (teapot.status_code, teapot.text) == (418, "short and stout")
    assert (odd.status_code, odd.content) == (599, b"\x00")


def test_faults_apply_in_the_order_in_which_they_were_queued(sink, post):
    sink.fail("webhook", Fault.status(500), Fault.status(502, times=2), Fault.request_timeout())

    assert [post().status_code for _ in range(5)] == [500, 502, 502, 408, 200]


def test_fault_without_times_stays_until_it_is_cleared(sink, post):
    sink.fail("webhook", Fault.status(503, times=None))
    assert {post().status_code for _ in range(10)} == {503}

    sink.clear("webhook")

    assert post().status_code == 200


def test_clearing_one_backend_leaves_the_others_alone(sink, client, post):
    sink.fail("webhook", Fault.status(503, times=None))
    sink.fail("posthog", Fault.status(503, times=None))

    sink.clear("posthog")
    assert post().status_code == 503
    sink.clear()
    assert post().status_code == 200


def test_fault_for_a_path_lets_other_requests_pass(sink, client):
    sink.fail("webhook", Fault.status(503, match="/slow/*"), Fault.status(500, match="/exact"))

    codes = [
        client.post(f"{sink.url}/webhook{path}", json={}).status_code
        for path in ("/quick", "/exact/", "/exact", "/slow/1", "/slow/2")
    ]

    assert codes == [200, 500, 200, 503, 200]


def test_refused_status_may_keep_the_records_all_the_same(sink, post):
    sink.fail("webhook", Fault.status(500, kept=True))

    assert post().status_code == 500
    assert taken(sink) == Count(1, 1)


def test_retry_after_comes_in_seconds(sink, post):
    sink.fail("webhook", Fault.throttled(3))

    answer = post()

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")


def test_retry_after_comes_as_a_date(sink, post):
    sink.fail("webhook", Fault.throttled(30, as_date=True))

    wanted = parsedate_to_datetime(post().headers["retry-after"]).timestamp()

    assert 28 < wanted - time.time() <= 31


def test_web_page_comes_with_status_200_and_nothing_is_kept(sink, post):
    sink.fail("webhook", Fault.html())

    answer = post()

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert taken(sink) == Count(1, 0)


def test_redirect_that_is_followed_shows_in_the_sink(sink, post):
    sink.fail("webhook", Fault.redirect(), Fault.redirect(code=301), Fault.redirect("http://x.invalid/"))

    assert post().headers["location"] == "/elsewhere"
    assert sink.requests("elsewhere") == []
    assert post(follow_redirects=True).status_code == 404
    assert len(sink.requests("elsewhere")) == 1
    assert post().headers["location"] == "http://x.invalid/"


def test_poison_is_a_property_at_any_level(sink, client):
    url = sink.environ("webhook")["TRACKING_WEBHOOK_URL"]
    sink.fail("webhook", Fault.poison())

    def send(record):
        return client.post(url, json=[{"id": "1"}, record]).status_code

    assert send({"id": "2"}) == 200
    assert send({"id": "2", "poison": 1}) == 400
    assert send({"id": "2", "properties": {"deep": {"poison": None}}}) == 400


def test_poison_may_be_a_value_or_a_function(sink, client):
    url = sink.environ("webhook")["TRACKING_WEBHOOK_URL"]
    sink.fail("webhook", Fault.poison("colour", values=["red"]))
    sink.fail("webhook", Fault.poison(predicate=lambda record: record.get("n", 0) > 3))

    codes = [
        client.post(url, json=record).status_code
        for record in ({"colour": "blue"}, {"colour": "red"}, {"n": 3}, {"n": 4})
    ]

    assert codes == [200, 400, 200, 400]


def test_condition_that_does_not_hold_lets_the_next_fault_act(sink, post):
    sink.fail("webhook", Fault.poison(), Fault.too_large(10_000), Fault.status(503))

    assert [post().status_code for _ in range(2)] == [503, 200]


def test_size_limit_counts_bytes_after_decompression(sink, client):
    url = sink.environ("webhook")["TRACKING_WEBHOOK_URL"]
    sink.fail("webhook", Fault.too_large(1_000))
    packed = gzip.compress(b'{"id": "1", "text": "' + b"a" * 2_000 + b'"}')
    assert len(packed) < 200

    assert client.post(url, content=packed, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert client.post(url, json={"id": "1"}).status_code == 200


def test_delayed_answer_comes_late_and_its_records_are_kept_at_once(sink, post):
    sink.fail("webhook", Fault.delay(0.3))
    start = time.monotonic()

    assert post().status_code == 200
    assert time.monotonic() - start >= 0.3
    assert sink.requests("webhook")[0].at - start < 0.3


def test_hanging_request_is_never_answered_and_not_kept(sink, post):
    sink.fail("webhook", Fault.hang())

    with pytest.raises(httpx.ReadTimeout):
        post(timeout=0.2)
    assert taken(sink) == Count(1, 0)
    assert sink.requests("webhook")[0].status == 0


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [(Fault.hang(), "RemoteProtocolError"), (Fault.delay(60), 200), (Fault.trickle(60), 200)],
)
def test_clearing_lets_go_what_waits(sink, post, fault, outcome):
    sink.fail("webhook", fault)
    seen = []

    def send():
        try:
            seen.append(post(timeout=50).status_code)
        except httpx.TransportError as error:
            seen.append(type(error).__name__)

    start = time.monotonic()
    thread = threading.Thread(target=send)
    thread.start()
    assert sink.wait(lambda: sink.ledger["webhook"].requests == 1)
    sink.clear("webhook")
    thread.join()

    assert seen == [outcome]
    assert time.monotonic() - start < 5


def test_trickling_body_outlasts_a_timeout_that_counts_each_read(sink, client):
    sink.fail("posthog", Fault.trickle(0.05, match="/batch/"))
    start = time.monotonic()

    answer = client.post(f"{sink.url}/posthog/batch/", json={"api_key": "k", "batch": []}, timeout=0.5)

    assert answer.text == "request holds no event"
    assert time.monotonic() - start >= 0.05 * (len(answer.text) - 1)


def test_trickling_headers_come_byte_by_byte(sink, post):
    sink.fail("webhook", Fault.trickle(0.01, headers=True))
    start = time.monotonic()

    assert post(timeout=0.5).status_code == 200
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(
    ("fault", "error", "accepted"),
    [
        (Fault.reset("before"), httpx.ReadError, 0),
        (Fault.lost_answer(), httpx.ReadError, 1),
        (Fault.reset("before", kept=True), httpx.ReadError, 1),
        (Fault.reset("middle"), httpx.ReadError, 1),
        (Fault.reset("middle", kept=False), httpx.ReadError, 0),
        (Fault.disconnect(), httpx.RemoteProtocolError, 0),
        (Fault.disconnect(kept=True), httpx.RemoteProtocolError, 1),
    ],
)
def test_broken_connection_keeps_the_records_or_not(sink, post, fault, error, accepted):
    sink.fail("webhook", fault)

    with pytest.raises(error):
        post()
    assert taken(sink) == Count(1, accepted)
    assert post().status_code == 200


def test_reset_in_the_middle_comes_after_half_of_the_body(sink, client):
    sink.fail("posthog", Fault.reset("middle"))
    body = {"api_key": "k", "batch": []}

    with client.stream("POST", f"{sink.url}/posthog/batch/", json=body) as answer:
        assert answer.status_code == 400
        with pytest.raises(httpx.ReadError):
            answer.read()


@pytest.mark.parametrize("fault", [Fault.reset("after"), Fault.closed_afterwards()])
def test_connection_that_ends_after_the_answer_was_promised_to_stay(sink, post, fault):
    sink.fail("webhook", fault)

    answer = post()

    assert answer.status_code == 200
    assert "connection" not in answer.headers
    assert taken(sink) == Count(1, 1)


def test_kept_alive_connection_closed_without_notice_reads_as_end_of_file(sink):
    sink.fail("webhook", Fault.closed_afterwards())
    port = int(sink.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"POST /webhook/hook HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        answer = b"".join(iter(lambda: raw.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_huge_answer_has_as_many_bytes_as_said(sink, post):
    sink.fail("webhook", Fault.huge(3_000_001))

    assert len(post().content) == 3_000_001


def test_huge_answer_to_a_client_that_stops_reading_ends_quietly(sink, client):
    sink.fail("posthog", Fault.huge(100_000_000))
    body = {"api_key": "k", "batch": [{"event": "e", "distinct_id": "u"}]}

    with client.stream("POST", f"{sink.url}/posthog/batch/", json=body) as answer:
        assert int(answer.headers["content-length"]) > 100_000_000
        assert len(next(answer.iter_raw(65_536))) == 65_536
    assert sink.ledger["posthog"].accepted == 1


def test_gzip_bomb_is_small_on_the_wire_and_ends_with_the_real_answer(sink, client):
    sink.fail("posthog", Fault.huge(5_000_000, gzip=True))
    body = {"api_key": "k", "batch": [{"event": "e", "distinct_id": "u"}]}

    answer = client.post(f"{sink.url}/posthog/batch/", json=body)

    assert int(answer.headers["content-length"]) < 10_000
    assert len(answer.content) > 5_000_000
    assert answer.json() == {"status": "Ok"}


def test_fault_that_applies_to_no_request_is_ignored(sink, post):
    sink.fail("webhook", Fault.status(503, times=0))

    assert post().status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        Fault.status(503, times=3, match="/batch", headers={"A": "b"}, body=b"\xff", kept=True),
        Fault.poison("n", values=[1, "a"]),
        Fault.throttled(1.5, as_date=True),
        Fault.reset("middle"),
        Fault.huge(10, gzip=True, times=None),
    ],
)
def test_fault_survives_the_way_to_another_process(fault):
    assert msgspec.json.decode(msgspec.json.encode(fault), type=Fault) == fault


def test_function_cannot_go_to_another_process():
    with pytest.raises(TypeError):
        msgspec.json.encode(Fault.poison(predicate=bool))
