"""What is seen while the demo runs: each provider's requests, and the failure that is put in its way."""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

from agent_tracking.delivery.outbox import Exchange
from agent_tracking.testing import Fault, SinkProcess

__all__ = ["Outage", "Requests", "Watch"]


class Requests:
    """One provider's requests. Written by its lane alone, so it needs no lock."""

    def __init__(self) -> None:
        self.sent = 0
        self.failed = 0  #: requests that were not answered with a 2xx
        self.troubled = False  #: the newest one was not


class Watch:
    """An observer of a tracker: counts the requests of each provider."""

    def __init__(self, names: Iterable[str]) -> None:
        self.providers = {name: Requests() for name in names}

    def __call__(self, exchange: Exchange) -> None:
        """Take in one request and its answer."""
        seen = self.providers[exchange.provider]
        seen.sent += 1
        seen.troubled = exchange.verdict != "delivered"
        seen.failed += seen.troubled


class Outage:
    """One provider's backend answers 503, for a second and until at least one request met it."""

    def __init__(
        self, sink: SinkProcess, watch: Watch, provider: str, *, starts: float, seconds: float
    ) -> None:
        self.provider = provider
        self._seconds = seconds
        self._sink = sink
        self._requests = watch.providers[provider]
        self._starts = monotonic() + starts
        self._began: float | None = None
        self._ended = False

    @property
    def now(self) -> bool:
        """Whether the backend is down at this moment."""
        return self._began is not None and not self._ended

    @property
    def over(self) -> bool:
        """Whether it has been."""
        return self._ended

    def tick(self, *, at_last: bool = False) -> None:
        """Begin or end it, if it is time; ``at_last``: begin it now, or nothing would meet it."""
        now = monotonic()
        if self._began is None:
            if at_last or now >= self._starts:
                self._sink.fail(self.provider, Fault.status(503, times=None))
                self._began = now
        elif not self._ended and now - self._began >= self._seconds and self._requests.failed:
            self._sink.clear(self.provider)
            self._ended = True
