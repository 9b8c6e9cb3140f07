"""A tracker that delivers from this process, now: for the commands that send something themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout

from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.delivery.outbox import Exchange, Sender
from agent_tracking.tracker import Tracker

__all__ = ["direct_environ", "direct_tracker"]

#: Settings that are an application's: what is sent by hand does not wait on a disk for another process,
#: and is told here rather than raised.
_NOT_HERE = frozenset(
    {
        "AGENT_TRACKING_DELIVERY",
        "AGENT_TRACKING_SERVERLESS",
        "AGENT_TRACKING_SPOOL",
        "AGENT_TRACKING_STATUS",
        "AGENT_TRACKING_STRICT",
    }
)


def direct_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those that have records wait for another process."""
    return {name: value for name, value in environ.items() if name not in _NOT_HERE}


@contextmanager
def direct_tracker(
    environ: Mapping[str, str],
    observe: Callable[[Exchange], None],
    *,
    sender: Callable[[], Sender] | None = None,
    retry: RetryPolicy | None = None,
) -> Iterator[Tracker]:
    """Make a tracker with every active provider, and end it; what providers print goes to standard error."""
    tracker = Tracker(environ=direct_environ(environ), observers=[observe], sender=sender, retry=retry)
    with redirect_stdout(sys.stderr):
        try:
            yield tracker
        finally:
            tracker.shutdown(0)
