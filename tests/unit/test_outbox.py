"""The outbox: every verdict does what it says, with the same bytes, and nothing is lost or sent twice."""

import gzip
import math

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_tracking import (
    Delivered,
    Drop,
    Endpoint,
    HTTPProvider,
    Payload,
    Reject,
    Request,
    Response,
    Retry,
    RetryLater,
    TrackingEvent,
)
from agent_tracking.delivery.backoff import RETRY_AFTER_LIMIT, RetryPolicy, retry_after
from agent_tracking.delivery.outbox import Outbox, Stopped
from agent_tracking.http_provider import json_array


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Backend:
    """Answers by a function of the record numbers of a request."""

    def __init__(self, answer):
        self.answer = answer
        self.bodies = []
        self.taken = []

    def send(self, request):
        body = request.body
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.bodies.append(body)
        numbers = [int(number) for number in body.strip(b"[]").split(b",")]
        result = self.answer(numbers)
        if isinstance(result, Exception):
            raise result
        return result if isinstance(result, Response) else Response(result)

    def enforce(self, now):
        pass

    def close(self):
        pass


class Provider(HTTPProvider):
    name = "test"
    endpoints = (Endpoint("only", records=100, record_bytes=100, body_bytes=10_000),)
    verdict = None

    def encode(self, record):
        return Payload(record.name.encode())

    def request(self, endpoint, batch):
        return Request("http://127.0.0.1/", body=json_array(batch))

    def judge(self, response, batch):
        return self.verdict(response, batch) if self.verdict else super().judge(response, batch)


def send(answer, count=10, *, verdict=None, provider=None, policy=None, pause=None):
    clock, backend, pauses = Clock(), Backend(answer), []

    def wait(seconds):
        pauses.append(seconds)
        clock.now += seconds
        return True if pause is None else pause(len(pauses))

    provider = provider or Provider({})
    provider.verdict = verdict
    retried = []
    outbox = Outbox(
        provider, backend, wait, policy=policy or RetryPolicy(), retried=retried.append, clock=clock
    )
    provider.bind(outbox)
    for number in range(count):
        provider.track(TrackingEvent(name=str(number), message_id=str(number), time=0.0))
    error = None
    try:
        provider.flush()
    except (RetryLater, Reject) as raised:
        error = raised
    return backend, error, pauses, sum(retried)


def numbers(body):
    return [int(number) for number in body.strip(b"[]").split(b",")]


def test_a_batch_that_is_taken_is_sent_once_in_order():
    backend, error, pauses, retried = send(lambda numbers: 200)
    assert (error, pauses, retried) == (None, [], 0)
    assert [numbers(body) for body in backend.bodies] == [list(range(10))]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
def test_what_may_pass_is_sent_again_with_the_same_bytes_after_a_pause(status):
    answers = iter([status, status, 200])
    backend, error, pauses, retried = send(lambda numbers: next(answers))
    assert error is None
    assert len(set(backend.bodies)) == 1
    assert len(backend.bodies) == 3
    assert len(pauses) == 2
    assert min(pauses) >= 0.5
    assert retried == 20


@pytest.mark.parametrize(
    "raised", [httpx.ConnectError("x"), httpx.RemoteProtocolError("x"), httpx.ReadTimeout("x"), OSError("x")]
)
def test_no_answer_is_retried(raised):
    answers = iter([raised, 200])
    backend, error, _, _ = send(lambda numbers: next(answers))
    assert error is None
    assert len(set(backend.bodies)) == 1


def test_a_batch_is_given_up_after_the_tries_and_the_time_both():
    policy = RetryPolicy(tries=10, window=300.0)
    backend, error, pauses, _ = send(lambda numbers: 503, policy=policy)
    assert isinstance(error, Reject)
    assert error.counts == {"gave-up": 10}
    assert len(backend.bodies) >= 10
    assert 300 <= sum(pauses) <= 300 + 2 * policy.longest


@pytest.mark.parametrize("poison", [0, 7, 49])
def test_one_poison_record_costs_only_itself_and_few_requests(poison):
    backend, error, _, _ = send(lambda numbers: 400 if poison in numbers else 200, count=50)
    assert error.counts == {"rejected": 1}
    assert len(backend.bodies) <= 2 * math.ceil(math.log2(50)) + 1
    delivered = [n for body in backend.bodies if poison not in numbers(body) for n in numbers(body)]
    assert sorted(delivered) == [number for number in range(50) if number != poison]
    assert delivered == sorted(delivered)


@given(poison=st.sets(st.integers(0, 63), max_size=5))
def test_a_few_poison_records_cost_only_themselves(poison):
    backend, error, _, _ = send(lambda numbers: 400 if poison & set(numbers) else 200, count=64)
    assert (error.counts if error else {}) == ({"rejected": len(poison)} if poison else {})
    delivered = [n for body in backend.bodies if not poison & set(numbers(body)) for n in numbers(body)]
    assert delivered == [number for number in range(64) if number not in poison]


def test_a_backend_that_refuses_everything_is_not_asked_for_every_record():
    backend, error, _, _ = send(lambda numbers: 400, count=100)
    assert error.counts == {"rejected": 100}
    assert len(backend.bodies) <= 6 * 8 * 2 + 1


def test_a_request_that_is_too_large_is_split_until_it_fits():
    backend, error, _, _ = send(lambda numbers: 413 if len(numbers) > 3 else 200, count=20)
    assert error is None
    assert [n for body in backend.bodies if len(numbers(body)) <= 3 for n in numbers(body)] == list(range(20))


def test_a_single_record_that_is_too_large_is_dropped_and_counted():
    _, error, _, _ = send(lambda numbers: 413, count=1)
    assert error.counts == {"too-large": 1}


def test_a_record_over_the_endpoints_limit_is_rejected_before_it_is_sent():
    provider = Provider({})
    provider.bind(Outbox(provider, Backend(lambda numbers: 200), lambda seconds: True))
    with pytest.raises(Reject) as caught:
        provider.track(TrackingEvent(name="x" * 101, message_id="1", time=0.0))
    assert caught.value.counts == {"too-large": 1}


def test_named_records_are_dropped_and_the_rest_counts_as_delivered():
    backend, error, _, _ = send(lambda numbers: 400, verdict=lambda response, batch: Drop((1, 3)))
    assert error.counts == {"rejected": 2}
    assert len(backend.bodies) == 1


def test_named_records_are_dropped_and_only_the_rest_is_sent_again_at_once():
    def verdict(response, batch):
        return Delivered() if response.status == 200 else Drop((0, 9, 99, -1), "bad", rest=Retry(after=0))

    backend, error, pauses, _ = send(lambda numbers: 400 if 0 in numbers else 200, verdict=verdict)
    assert error.counts == {"bad": 2}
    assert numbers(backend.bodies[1]) == list(range(1, 9))
    assert pauses == []


def test_throttled_records_wait_while_the_others_go_at_once():
    def verdict(response, batch):
        return Delivered() if response.status == 200 else Retry(30.0, (2,), rest=Retry(after=0))

    answers = iter([429, 200, 200])
    backend, error, pauses, _ = send(lambda numbers: next(answers), count=4, verdict=verdict)
    assert error is None
    assert [numbers(body) for body in backend.bodies] == [[0, 1, 2, 3], [0, 1, 3], [2]]
    assert pauses == [30.0]


def test_a_server_that_names_one_record_each_round_ends():
    def verdict(response, batch):
        return Drop((0,), rest=Retry(after=0)) if len(batch) > 1 else Delivered()

    backend, error, _, _ = send(lambda numbers: 400, count=100, verdict=verdict)
    assert error.counts == {"rejected": 99}
    assert len(backend.bodies) == 100


def test_stop_hands_back_everything_that_is_not_delivered():
    _, error, _, _ = send(lambda numbers: 401)
    assert isinstance(error, Stopped)
    assert len(error.records) == 10


def test_an_interrupted_pause_hands_back_what_is_left():
    answers = iter([200, 503])
    provider = Provider({})
    provider.endpoints = (Endpoint("only", records=4, record_bytes=100),)
    _, error, _, _ = send(lambda numbers: next(answers), count=8, provider=provider, pause=lambda _: False)
    assert [record.name for record in error.records] == ["4", "5", "6", "7"]
    assert not isinstance(error, Stopped)


@pytest.mark.parametrize("status", [402, 404, 405, 410, 415])
def test_what_cannot_help_is_dropped_after_one_try(status):
    backend, error, _, _ = send(lambda numbers: status)
    assert error.counts == {"rejected": 10}
    assert len(backend.bodies) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_never_followed(status):
    backend, error, _, _ = send(lambda numbers: Response(status, {"location": "http://169.254.169.254/"}))
    assert error.counts == {"redirect": 10}
    assert len(backend.bodies) == 1


def test_a_batch_is_cut_by_records_and_by_bytes():
    provider = Provider({})
    provider.endpoints = (Endpoint("only", records=7, record_bytes=100, body_bytes=12),)
    backend, error, _, _ = send(lambda numbers: 200, count=20, provider=provider)
    assert error is None
    assert all(len(numbers(body)) <= 7 and len(body) <= 14 for body in backend.bodies)
    assert [n for body in backend.bodies for n in numbers(body)] == list(range(20))


def test_retry_after_is_a_minimum_and_clamped():
    for header, least in (("3", 3.0), ("86400", RETRY_AFTER_LIMIT), ("0", 0.5)):
        answers = iter([Response(429, {"retry-after": header}), 200])
        _, _, pauses, _ = send(lambda numbers, answers=answers: next(answers))
        assert least <= pauses[0] <= RETRY_AFTER_LIMIT


class Big(Provider):
    endpoints = (Endpoint("only", records=1000, gzip=True),)

    def encode(self, record):
        return Payload(record.name.encode() * 40)


def test_bodies_are_compressed_where_the_endpoint_takes_it_and_not_once_it_refused():
    seen = []

    class Refusing(Backend):
        def send(self, request):
            seen.append(request.headers.get("content-encoding"))
            return Response(415 if seen[-1] else 200)

    provider = Big({})
    outbox = Outbox(provider, Refusing(None), lambda seconds: True)
    provider.bind(outbox)
    for _ in range(2):
        for number in range(100):
            provider.track(TrackingEvent(name=str(number), message_id="1", time=0.0))
        provider.flush()
    assert seen == ["gzip", None, None]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("", None), ("5", 5.0), (" 5 ", 5.0), ("0", 0.0), ("-5", None), ("nan", None), ("inf", None),
        ("1_0", None), ("١٢", None), ("1.5", None), ("1000000000000", 60.0), ("9" * 400, 60.0), ("59", 59.0),
        ("60", 60.0), ("61", 60.0), ("tomorrow", None), ("Tue, 99 Nov 2026 00:00:00 GMT", None),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 30.0), ("Thu, 01 Jan 1970 00:00:30", 30.0),
        ("Fri, 02 Jan 1970 00:00:00 GMT", 60.0), ("Wed, 31 Dec 1969 23:59:59 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_strictly_in_both_forms(header, seconds):
    assert retry_after(header, now=lambda: 0.0) == seconds


@given(st.text(max_size=40))
def test_retry_after_never_raises_and_stays_within_the_clamp(header):
    seconds = retry_after(header)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_LIMIT


def test_a_hundred_lanes_that_fail_together_spread_over_the_whole_window():
    policy = RetryPolicy()
    for tries in (1, 3, 6, 20):
        most = min(policy.longest, policy.first * 2**tries)
        delays = sorted(policy.delay(tries) for _ in range(100))
        assert policy.first <= delays[0] <= delays[-1] <= most
        assert delays[-1] - delays[0] > (most - policy.first) * 0.5
