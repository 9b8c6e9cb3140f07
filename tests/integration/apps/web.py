"""The same application for every kind of server: ``/track?n=1`` tracks and answers with its pid."""

from __future__ import annotations

import os
from urllib.parse import parse_qs

from agent_tracking import track
from agent_tracking.integrations import asgi, wsgi

if os.environ.get("TRACK_AT_IMPORT"):
    track("import", {"n": 1_000_000 + os.getpid()})


def answer(path: str, query: str) -> bytes:
    """Track what the request asks for."""
    for number in parse_qs(query).get("n", []) if path == "/track" else []:
        track("request", {"n": int(number)})
    return str(os.getpid()).encode()


def wsgi_app(environ, start_response):
    body = answer(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi_app(scope, receive, send):
    """Knows no lifespan."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    body = answer(scope["path"], scope["query_string"].decode())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


asgi_with_helper = asgi.TrackingMiddleware(asgi_app)
wsgi_with_helper = wsgi.TrackingMiddleware(wsgi_app)
