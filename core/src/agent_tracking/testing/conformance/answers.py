"""``judge``: what an answer of the backend means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent_tracking.http_provider import (
    Delivered,
    Drop,
    HTTPProvider,
    Payload,
    Response,
    Retry,
    Split,
    Stop,
    Verdict,
)
from agent_tracking.testing.conformance.base import Kit, needs
from agent_tracking.testing.conformance.bench import Bench

__all__ = ["AnswerTests"]

#: Bodies that say nothing about any record.
_EMPTY = [b"", b"null", b"[]", b"<!doctype html><html><body>please sign in</body></html>"]
#: Bodies that have broken readers of answers.
_ODD = [
    *_EMPTY, b"{}", b"{", b"\xff\xfe\x00", b"NaN", b"1", b"0", b"true", b'"text"', b'{"code":200}',
    b'{"status":1}', b'{"status":"Ok"}', b'{"error":null}', b'{"error":{"a":[1]}}', b'{"errors":"all"}',
    b'{"errors":[{"index":"x"}]}', b"[" * 2_000,
    b'{"failed_records":[{"index":99},{"index":-1},{"index":null},{"index":true},3]}',
    b'{"events_with_invalid_fields":{"time":[0,99,-1,"1",null,true]}}', b'{"a":' * 500, b"x" * 65_536,
]  # fmt: skip
_STATUSES = [
    200, 201, 202, 204, 206, 301, 302, 304, 307, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 412,
    413, 414, 415, 422, 425, 426, 429, 431, 451, 499, 500, 501, 502, 503, 504, 520, 599,
]  # fmt: skip
_PASSING = [408, 429, 500, 502, 503, 504]


class AnswerTests(Kit):
    """The verdict on an answer."""

    def _verdicts(
        self, bench: Bench, statuses: list[int], bodies: list[bytes]
    ) -> Iterator[tuple[str, Verdict, list[Payload]]]:
        provider: HTTPProvider = bench.provider()
        for _, batch in bench.batches(provider):
            for status in statuses:
                for body in bodies:
                    what = f"judge() of {status} with {body[:40]!r}"
                    try:
                        verdict = provider.judge(Response(status, {"content-type": "text/html"}, body), batch)
                    except Exception as error:  # noqa: BLE001  an author's code
                        self.hold(False, f"{what} raises {type(error).__name__}")
                    yield what, verdict, batch

    @needs("http")
    def test_every_answer_has_a_verdict(self, bench: Bench) -> None:
        """Whatever was answered, ``judge`` returns a verdict about records that are in the batch.

        If it fails: expect any body, also one that is no JSON, or JSON of another shape. Read
        ``response.json()``, which is ``None`` then.
        """
        for what, given, batch in self._verdicts(bench, _STATUSES, _ODD):
            verdict: object = given
            while isinstance(verdict, Drop | Retry):
                named = list(verdict.indexes or ())
                sound = all(type(index) is int and 0 <= index < len(batch) for index in named)
                self.hold(sound, f"{what} names records that are not in the batch")
                verdict = verdict.rest
            self.hold(isinstance(verdict, Delivered | Split | Stop), f"{what} returns {verdict!r}")

    @needs("http")
    def test_a_refusal_is_no_delivery(self, bench: Bench) -> None:
        """An answer that is not 2xx delivers nothing unless its body says so.

        If it fails: return ``Drop()``, ``Split()`` or ``Retry()``, so that the loss is counted.
        """
        for what, verdict, _ in self._verdicts(bench, [s for s in _STATUSES if s >= 300], _EMPTY):
            self.hold(not isinstance(verdict, Delivered), f"{what} says that all was delivered")

    @needs("http", "retry")
    @pytest.mark.parametrize("status", _PASSING)
    def test_a_passing_failure_is_retried(self, bench: Bench, status: int) -> None:
        """After 408, 429 and 5xx the same request may succeed: all of the batch is sent again.

        If it fails: return ``Retry()``, or leave it to ``super().judge()``.
        """
        for what, verdict, _ in self._verdicts(bench, [status], _EMPTY):
            again = isinstance(verdict, Retry) and verdict.indexes is None
            self.hold(again, f"{what} is {verdict!r}, not a retry")

    @needs("http")
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 401, 402, 404, 405, 410])
    def test_what_no_retry_changes_is_not_retried(self, bench: Bench, status: int) -> None:
        """A wrong key, a wrong address, a redirect stay what they are.

        If it fails: return ``Stop(reason)`` for a wrong key, ``Drop()`` for the others.
        """
        for what, verdict, _ in self._verdicts(bench, [status], _EMPTY):
            self.hold(not isinstance(verdict, Retry), f"{what} is retried")

    @needs("http", "split")
    def test_a_request_that_is_too_large_is_split(self, bench: Bench) -> None:
        """413 for several records halves them; for one it drops that one.

        If it fails: return ``Split("too-large")``, or leave it to ``super().judge()``.
        """
        for what, verdict, batch in self._verdicts(bench, [413], _EMPTY):
            split = isinstance(verdict, Split) or (len(batch) == 1 and isinstance(verdict, Drop))
            self.hold(split, f"{what} is {verdict!r}")

    @needs("http", "own_answers")
    def test_a_success_in_other_words_is_no_delivery(self, bench: Bench) -> None:
        """A 200 that is not the backend's own (a captive portal, a proxy, an empty body) is retried.

        If it fails: read ``response.json()`` and believe what only the backend says. If its successes
        cannot be told, declare ``Capabilities(own_answers=False)``.
        """
        for what, verdict, _ in self._verdicts(bench, [200], _EMPTY):
            self.hold(isinstance(verdict, Retry), f"{what} is {verdict!r}, not a retry")
