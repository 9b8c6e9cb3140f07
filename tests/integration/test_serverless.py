"""Handlers whose process freezes once they have answered: what they tracked is delivered before."""

import asyncio
import time

import pytest

from agent_tracking import ConfigurationError, Tracker
from agent_tracking.integrations.serverless import flush_after, is_serverless
from agent_tracking.testing import Fault, Sink


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


@pytest.fixture
def tracker(sink):
    tracker = Tracker(environ={**sink.environ("webhook"), "AGENT_TRACKING_PROVIDERS": "webhook"})
    yield tracker
    tracker.shutdown(1)


def test_a_function_returns_after_its_records_are_delivered(sink, tracker):
    @flush_after(tracker=tracker, timeout=20)
    def handler(event, *, extra):
        """Answer."""
        tracker.track("order paid")
        return event, extra

    assert handler(1, extra=2) == (1, 2)
    assert sink.ledger["webhook"].counted == 1
    assert (handler.__name__, handler.__doc__) == ("handler", "Answer.")


def test_a_function_that_raises_delivers_first(sink, tracker):
    @flush_after(tracker=tracker, timeout=20)
    def handler():
        tracker.track("order failed")
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        handler()
    assert sink.ledger["webhook"].counted == 1


def test_an_async_function_returns_after_its_records_are_delivered(sink, tracker):
    @flush_after(tracker=tracker, timeout=20)
    async def handler(event):
        tracker.track("order paid")
        await asyncio.sleep(0)
        return event

    assert asyncio.run(handler(5)) == 5
    assert sink.ledger["webhook"].counted == 1


def test_a_backend_that_hangs_holds_the_answer_no_longer_than_the_timeout_and_the_record_stays(sink, tracker):
    sink.fail("webhook", Fault.hang(times=None))

    @flush_after(tracker=tracker, timeout=0.2)
    def handler():
        tracker.track("order paid")

    start = time.monotonic()
    handler()
    assert time.monotonic() - start < 5
    assert tracker.stats().providers["webhook"].waiting == 1


def test_the_decorator_without_arguments_goes_to_the_process_wide_tracker():
    @flush_after
    def handler():
        return "answer"

    assert handler() == "answer"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: flush_after(5), "flush_after wraps a function, not int"),
        (lambda: flush_after(timeout="5"), "timeout should be a number of seconds"),
        (lambda: flush_after(timeout=-1), "timeout should be a number of seconds"),
        (lambda: flush_after(timeout=5)(None), "flush_after wraps a function, not NoneType"),
    ],
)
def test_what_would_make_each_invocation_fail_is_refused_at_once(make, told):
    with pytest.raises(ConfigurationError, match=told):
        make()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, True),
        ({"K_SERVICE": "s"}, True),
        ({"K_SERVICE": "s", "AGENT_TRACKING_SERVERLESS": "0"}, False),
        ({"AGENT_TRACKING_SERVERLESS": "on"}, True),
        ({"AGENT_TRACKING_SERVERLESS": "perhaps"}, False),
    ],
)
def test_what_counts_as_serverless(environ, expected):
    assert is_serverless(environ) is expected
