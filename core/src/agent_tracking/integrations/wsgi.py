"""For WSGI applications in serverless runtimes: deliver with each answer.

::

    app = TrackingMiddleware(app)

Under servers that run on (gunicorn, waitress, uWSGI, mod_wsgi) it does nothing, and nothing is needed: what
waits is delivered when the process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from agent_tracking.api import default_tracker
from agent_tracking.integrations.serverless import FLUSH_SECONDS, is_serverless
from agent_tracking.tracker import Tracker

__all__ = ["TrackingMiddleware"]

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class TrackingMiddleware:
    """WSGI middleware; see the module's text.

    Args:
        app: the application.
        each_request: deliver with each response; by default where
            :func:`agent_tracking.integrations.serverless.is_serverless` says so.
        timeout: seconds that a response waits for that at most.
        tracker: the process-wide one by default.

    It waits twice: before the response begins, since the last block may be the last thing that the process
    can do and no block may be held back (PEP 3333), and when the response is closed, for what was tracked
    while it was made.
    """

    def __init__(
        self,
        app: App,
        *,
        each_request: bool | None = None,
        timeout: float = FLUSH_SECONDS,
        tracker: Tracker | None = None,
    ) -> None:
        self.app = app
        self._tracker = tracker or default_tracker()
        self._timeout = timeout
        self._each = is_serverless(self._tracker.environ) if each_request is None else each_request

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        if not self._each:
            return self.app(environ, start_response)
        try:
            blocks = self.app(environ, start_response)
        finally:
            self._tracker.flush(self._timeout)
        return _Blocks(blocks, lambda: self._tracker.flush(self._timeout))


class _Blocks:
    """A response that says when it is closed."""

    def __init__(self, blocks: Iterable[bytes], closed: Callable[[], object]) -> None:
        self._blocks = blocks
        self._closed = closed

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._blocks)

    def close(self) -> None:
        try:
            close = getattr(self._blocks, "close", None)
            if close is not None:
                close()
        finally:
            self._closed()
