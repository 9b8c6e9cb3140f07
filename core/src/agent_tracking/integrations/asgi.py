"""For ASGI servers: bind each request's ids; deliver when the server shuts down, or freezes the process.

As middleware around any ASGI application, or added to one of Starlette's or FastAPI's::

    app = TrackingMiddleware(app, anonymous_id="cookie:visitor", session_id="header:x-session-id")
    app.add_middleware(TrackingMiddleware, anonymous_id="cookie:visitor")

or as the lifespan of Starlette and FastAPI, also around one of your own::

    app = FastAPI(lifespan=tracking_lifespan())
    app = FastAPI(lifespan=tracking_lifespan(my_lifespan))

When the delivery needs it: ``uvicorn --workers 2`` and the like. There the server's handler of SIGTERM is in
place before the application is imported, and after its shutdown the worker raises the signal again, which
ends it without any exit hook. Under one uvicorn worker, gunicorn and hypercorn everything arrives without it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from agent_tracking.api import default_tracker
from agent_tracking.integrations.requests import IdFrom, PropertiesFrom, RequestContext
from agent_tracking.integrations.serverless import FLUSH_SECONDS, checked_timeout, is_serverless
from agent_tracking.tracker import Tracker

__all__ = ["TrackingMiddleware", "tracking_lifespan"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def tracking_lifespan(lifespan: Lifespan | None = None, *, tracker: Tracker | None = None) -> Lifespan:
    """Return a lifespan for Starlette and FastAPI that delivers what waits when the server shuts down.

    Args:
        lifespan: one of the application's own, which ends before: what it tracks at its end is delivered.
        tracker: the process-wide one by default.
    """

    @asynccontextmanager
    async def delivering(app: Any) -> AsyncIterator[Any]:  # noqa: ANN401  whatever the framework passes
        try:
            if lifespan is None:
                yield None
            else:
                async with lifespan(app) as state:
                    yield state
        finally:
            await (tracker or default_tracker()).adrain()

    return delivering


class TrackingMiddleware:
    """Pure ASGI middleware; see the module's text.

    Args:
        app: the application.
        anonymous_id, session_id: where each request's are read: ``"cookie:NAME"``, ``"header:NAME"`` or a
            function of the scope. By default they are not.
        user_id: the same. What a client sends is no proof of who it is: name a header only if a proxy of
            yours sets it, else call ``context.bind(user_id=...)`` where the application knows the user.
        properties: a function of the scope; what every event of the request gets.
        with_context: open a context for each request, so that ``context.bind()`` works there; by default if
            one of the four is given.
        each_request: deliver before each response ends; by default where
            :func:`agent_tracking.integrations.serverless.is_serverless` says so.
        timeout: seconds that a response waits for that at most.
        tracker: the process-wide one by default.

    Raises:
        ConfigurationError: an argument cannot work.

    What is bound holds for the whole request or WebSocket, with streaming and Starlette's background tasks,
    and ends with it.

    An application that knows no lifespan events gets them answered here, as the specification lets servers
    go on without (https://asgi.readthedocs.io/en/latest/specs/lifespan.html).
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
        self._serve = self._deliver_with if self._each else app
        self._contexts = RequestContext(
            _header,
            _cookies,
            user_id=user_id,
            anonymous_id=anonymous_id,
            session_id=session_id,
            properties=properties,
        )
        self._binds = bool(self._contexts) if with_context is None else with_context

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await _Lifespan(self, receive, send).run(scope)
        elif self._binds:
            with self._contexts.of(scope):
                await self._serve(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _deliver_with(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            # The runtime may freeze the process as soon as the response is complete.
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await self._tracker.aflush(self._timeout)
            await send(message)

        try:
            await self.app(scope, receive, send_last)
        finally:
            await self._tracker.aflush(self._timeout)  # background tasks; at once when nothing waits

    async def drain(self) -> None:
        """Deliver what waits."""
        await self._tracker.adrain()


def _header(scope: Mapping[str, Any], name: str) -> str | None:
    wanted = name.lower().encode("latin-1", "replace")
    for key, value in scope.get("headers", ()):
        if key.lower() == wanted:
            return bytes(value).decode("latin-1")
    return None


def _cookies(scope: Mapping[str, Any]) -> str:
    """Return all that was sent: HTTP/2 may split it over several headers."""
    headers = scope.get("headers", ())
    return "; ".join(bytes(value).decode("latin-1") for key, value in headers if key.lower() == b"cookie")


class _Lifespan:
    """One run of the lifespan protocol."""

    def __init__(self, middleware: TrackingMiddleware, receive: Receive, send: Send) -> None:
        self._middleware = middleware
        self._receive = receive
        self._send = send
        self._received: set[str] = set()
        self._sent = False

    async def run(self, scope: MutableMapping[str, Any]) -> None:
        try:
            await self._middleware.app(scope, self._listen, self._tell)
        except Exception:
            if self._sent:
                raise
        if not self._sent:
            await self._answer()

    async def _listen(self) -> Message:
        message = await self._receive()
        self._received.add(message["type"])
        return message

    async def _tell(self, message: Message) -> None:
        self._sent = True
        if message["type"].startswith("lifespan.shutdown."):
            await self._middleware.drain()
        await self._send(message)

    async def _answer(self) -> None:
        """Stand in for an application that does not know the protocol."""
        if "lifespan.startup" not in self._received:
            await self._listen()
        await self._tell({"type": "lifespan.startup.complete"})
        while (await self._listen())["type"] != "lifespan.shutdown":
            pass
        await self._tell({"type": "lifespan.shutdown.complete"})
