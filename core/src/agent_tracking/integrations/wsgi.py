"""For WSGI applications: bind each request's ids, and in serverless runtimes deliver with each answer.

::

    app = TrackingMiddleware(app, anonymous_id="cookie:visitor", session_id="header:x-session-id")
    flask_app.wsgi_app = TrackingMiddleware(flask_app.wsgi_app, anonymous_id="cookie:visitor")
    application = TrackingMiddleware(get_wsgi_application(), anonymous_id="cookie:visitor")  # Django

The delivery needs it only where the process may be frozen: under servers that run on (gunicorn, waitress,
uWSGI, mod_wsgi) what waits is delivered when the process ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from agent_tracking.api import default_tracker
from agent_tracking.contexts import Steps
from agent_tracking.integrations.requests import IdFrom, PropertiesFrom, RequestContext
from agent_tracking.integrations.serverless import FLUSH_SECONDS, checked_timeout, is_serverless
from agent_tracking.tracker import Tracker

__all__ = ["TrackingMiddleware"]

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class TrackingMiddleware:
    """WSGI middleware; see the module's text.

    Args:
        app: the application.
        anonymous_id, session_id: where each request's are read: ``"cookie:NAME"``, ``"header:NAME"`` or a
            function of the environ. By default they are not.
        user_id: the same. What a client sends is no proof of who it is: name a header only if a proxy of
            yours sets it, else call ``context.bind(user_id=...)`` where the application knows the user.
        properties: a function of the environ; what every event of the request gets.
        with_context: open a context for each request, so that ``context.bind()`` works there; by default if
            one of the four is given.
        each_request: deliver with each response; by default where
            :func:`agent_tracking.integrations.serverless.is_serverless` says so.
        timeout: seconds that a response waits for that at most.
        tracker: the process-wide one by default.

    Raises:
        ConfigurationError: an argument cannot work.

    What is bound holds while the application is called, while its response is made, block by block, and while
    that is closed; it is not bound in between, when the server's thread may serve another request.

    A delivery waits twice: before the response begins, since the last block may be the last thing that the
    process can do and no block may be held back (PEP 3333), and when the response is closed, for what was
    tracked while it was made.
    """

    def __init__(
        self,
        app: App,
        *,
        anonymous_id: IdFrom | None = None,
        session_id: IdFrom | None = None,
        user_id: IdFrom | None = None,
        properties: PropertiesFrom | None = None,
        with_context: bool | None = None,
        each_request: bool | None = None,
        timeout: float = FLUSH_SECONDS,
        tracker: Tracker | None = None,
    ) -> None:
        self.app = app
        self._tracker = tracker or default_tracker()
        self._timeout = checked_timeout("TrackingMiddleware", timeout)
        self._each = is_serverless(self._tracker.environ) if each_request is None else each_request
        self._contexts = RequestContext(
            _header,
            lambda environ: environ.get("HTTP_COOKIE", ""),
            user_id=user_id,
            anonymous_id=anonymous_id,
            session_id=session_id,
            properties=properties,
        )
        self._binds = bool(self._contexts) if with_context is None else with_context

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        serve = self._deliver_with if self._each else self.app
        if not self._binds:
            return serve(environ, start_response)
        held = self._contexts.of(environ)
        steps = Steps()
        steps.run(held.__enter__)
        try:
            blocks = steps.run(serve, environ, start_response)
        except BaseException:
            steps.run(held.__exit__)
            raise
        if _needs_no_code(blocks, environ):
            steps.run(held.__exit__)
            return blocks
        return _Bound(blocks, steps, held.__exit__)

    def _deliver_with(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            blocks = self.app(environ, start_response)
        finally:
            self._tracker.flush(self._timeout)
        return _Blocks(blocks, lambda: self._tracker.flush(self._timeout))


def _header(environ: Mapping[str, Any], name: str) -> str | None:
    key = name.upper().replace("-", "_")
    value = environ.get(key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}")
    return None if value is None else str(value)


def _needs_no_code(blocks: object, environ: Mapping[str, Any]) -> bool:
    """Return whether no code of the application runs any more.

    Such a response is handed on as it is: servers look for a list of one block, whose length they know, and
    for their own wrapper of a file, which they send without reading it.
    """
    wrapper = environ.get("wsgi.file_wrapper")
    return type(blocks) in {list, tuple} or (isinstance(wrapper, type) and isinstance(blocks, wrapper))


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


class _Bound(_Blocks):
    """A response of which each block is made inside its request's context; closing it ends that."""

    def __init__(self, blocks: Iterable[bytes], steps: Steps, closed: Callable[[], object]) -> None:
        super().__init__(blocks, closed)
        self._steps = steps
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = self._steps.run(iter, self._blocks)
        return self._steps.run(next, self._iterator)

    def close(self) -> None:
        self._steps.run(super().close)
