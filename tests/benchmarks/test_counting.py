"""What the benchmark's sink counts is what arrived: by the sink's own look at the bytes, never by a sender's word."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import threading
import time
import zlib
from collections import Counter
from urllib.parse import quote_plus, urlsplit

import pytest
from benchmarks.counting import Counts, Tally
from benchmarks.event import NAME, PROPERTIES, USER, properties_of
from benchmarks.vendors import VENDORS

from agent_tracking import Tracker
from agent_tracking.testing import Sink


def post(url, path, body, **headers):
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def tracked(environ, count, properties=PROPERTIES):
    tracker = Tracker(environ=environ)
    for number in range(count):
        tracker.track(NAME, {**properties, "n": number}, user_id=USER)
    assert tracker.flush(30)
    tracker.shutdown()


def test_the_counts_of_the_same_requests_are_those_of_the_ledger_though_each_came_twice(receiver):
    run = receiver.run()
    with Sink() as sink:
        tracked(sink.environ(), 230)
        for provider in ("posthog", "mixpanel", "amplitude", "webhook"):
            for number, request in enumerate(sink.requests(provider)):
                body = gzip.compress(request.body, 1) if number % 2 else request.body
                for _ in range(2):
                    post(receiver.url, f"/{run}/{provider}{request.path}", body)
        ledgers = {name: (ledger.requests, ledger.counted) for name, ledger in sink.ledger.items()}
    counts = receiver.counts(run)
    assert {name: (count.requests / 2, count.delivered) for name, count in counts.items()} == ledgers
    assert {count.arrived for count in counts.values()} == {460}


def test_all_four_providers_take_the_sinks_answers_for_delivered(receiver):
    from benchmarks.senders import TRACKED, environ_of

    run = receiver.run()
    tracked(environ_of(receiver.address(run), TRACKED["four"]), 130)
    assert {name: count.delivered for name, count in receiver.counts(run).items()} == dict.fromkeys(
        TRACKED["four"], 130
    )


def record(number):
    return {"event": NAME, "messageId": f"id-{number}", "properties": PROPERTIES, "userId": USER}


def mixpanel(number):
    return {"event": NAME, "properties": {**PROPERTIES, "$insert_id": f"id{number}", "time": 1}}


def snowplow(number):
    hidden = base64.b64encode(json.dumps({"data": {"name": NAME, **PROPERTIES}}).encode()).decode()
    return {"e": "ue", "eid": f"0-{number}", "ue_px": hidden}


BODIES = {
    "segment": json.dumps({"batch": [record(number) for number in range(3)]}).encode(),
    "rudderstack": gzip.compress(json.dumps({"batch": [record(number) for number in range(3)]}).encode()),
    "posthog": zlib.compress(
        json.dumps({"batch": [{"event": NAME, "uuid": f"u{n}"} for n in range(3)]}).encode()
    ),
    "mixpanel": f"data={quote_plus(json.dumps([mixpanel(number) for number in range(3)]))}&verbose=1".encode(),
    "amplitude": json.dumps(
        {"events": [{"event_type": NAME, "insert_id": f"i{n}"} for n in range(3)]}
    ).encode(),
    "snowplow": json.dumps({"data": [snowplow(number) for number in range(3)]}).encode(),
    "otel": b"\n\x0b".join([b"", *[NAME.encode()] * 3]),
    "floor-2": b'[{"id":"1","record":["meal.logged"]},{"id":"2","record":["meal.logged"]},'
    b'{"id":"3","record":["meal.logged"]}]',
}


@pytest.mark.parametrize("backend", BODIES)
def test_events_are_counted_in_the_words_of_every_sender(backend):
    tally = Tally(backend)
    tally.add(BODIES[backend])
    assert tally.counts() == Counts(1, 3, 3)


@pytest.mark.parametrize("backend", sorted(BODIES.keys() - {"otel"}))
def test_an_event_that_comes_again_arrived_twice_and_was_delivered_once(backend):
    tally = Tally(backend)
    tally.add(BODIES[backend])
    tally.add(BODIES[backend])
    assert tally.counts() == Counts(2, 6, 3)


def test_there_is_a_way_to_count_for_every_vendor_that_is_measured():
    counted = {name.partition("-")[0] for name in BODIES}
    assert {name.partition("-")[0] for name in VENDORS} - {"three"} <= counted


def test_each_measurement_has_an_account_of_its_own(receiver):
    first, second = receiver.run(), receiver.run()
    post(receiver.url, f"/{second}/segment/v1/batch", BODIES["segment"])
    post(receiver.url, f"/{first}/segment/v1/batch", BODIES["rudderstack"])
    assert receiver.counts(first) == receiver.counts(second) == {"segment": Counts(1, 3, 3)}
    assert receiver.counts(first, forget=True)
    assert receiver.counts(first) == {}


def test_a_body_in_pieces_and_two_requests_in_one_piece_are_read(receiver):
    run, body = receiver.run(), BODIES["segment"]
    one = b"POST /%s/segment/v1/batch HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (
        run.encode(),
        len(body),
        body,
    )
    connection = http.client.HTTPConnection(urlsplit(receiver.url).netloc, timeout=20)
    connection.connect()
    connection.sock.sendall(one + one + one[:50])
    got = b""
    while got.count(b"HTTP/1.1 200 OK") < 2:
        got += connection.sock.recv(65536)
    connection.sock.sendall(one[50:90])
    connection.sock.sendall(one[90:])
    while got.count(b"HTTP/1.1 200 OK") < 3:
        got += connection.sock.recv(65536)
    connection.close()
    assert receiver.counts(run) == {"segment": Counts(3, 9, 3)}


def test_while_it_is_held_the_sink_keeps_what_comes_and_answers_nothing(receiver):
    run, answered = receiver.run(), threading.Event()

    def send():
        post(receiver.url, f"/{run}/segment/v1/batch", BODIES["segment"])
        answered.set()

    with receiver.held():
        thread = threading.Thread(target=send)
        thread.start()
        deadline = time.monotonic() + 20
        while not receiver.counts(run) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert receiver.counts(run) == {"segment": Counts(1, 3, 3)}
        assert not answered.is_set()
    assert answered.wait(20)
    thread.join(20)


def test_a_sink_that_loses_answers_yes_and_forgets_every_nth_request(receiver):
    run = receiver.run()
    receiver.lose(3)
    try:
        statuses = [post(receiver.url, f"/{run}/otel/v1/logs", BODIES["otel"])[0] for _ in range(9)]
    finally:
        receiver.lose(0)
    assert Counter(statuses) == {200: 9}
    assert receiver.counts(run) == {"otel": Counts(6, 18, 18)}


@pytest.mark.parametrize("size", [200, 1_000, 10_000, 100_000])
def test_events_of_a_size_have_about_that_size(size):
    assert len(json.dumps(properties_of(size), separators=(",", ":"))) == pytest.approx(size, rel=0.25)
