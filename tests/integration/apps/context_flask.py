"""Every way in which Flask runs an application's code, each tracking ``n`` of its request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from flask import Flask, Response, request, stream_with_context

from agent_tracking import context, identify, track
from agent_tracking.integrations.wsgi import TrackingMiddleware

app = Flask("app")
app.logger.disabled = True  # nobody reads what the test's server writes
app.wsgi_app = TrackingMiddleware(  # type: ignore[method-assign]
    app.wsgi_app,
    anonymous_id="cookie:visitor",
    session_id="header:x-session-id",
    properties=lambda environ: {"path": environ["PATH_INFO"]},
)
pool = ThreadPoolExecutor(2)


@app.before_request
def knows_who() -> None:
    if user := request.headers.get("x-user"):
        context.bind(user_id=user)


def count(step: str) -> None:
    track("step", {"n": int(request.args["n"]), "step": step})


@app.get("/ready")
def ready() -> str:
    return "yes"


@app.get("/sync")
def synchronous() -> str:
    count("before")
    time.sleep(0.002)
    n = int(request.args["n"])
    pool.submit(context.carry(track), "step", {"n": n, "step": "pool"}).result()
    return "2"


@app.get("/async")
async def asynchronous() -> str:
    await asyncio.sleep(0.002)
    count("async")
    return "1"


@app.get("/stream")
def stream() -> Response:
    def rows() -> Iterator[str]:
        for number in range(2):
            count(f"row {number}")
            time.sleep(0.002)
            yield "row\n"
        yield "3"

    count("before")
    return Response(stream_with_context(rows()))


@app.get("/background")
def closes() -> Response:
    n = int(request.args["n"])
    response = Response("1")
    response.call_on_close(lambda: track("step", {"n": n, "step": "closed"}))
    return response


@app.get("/fail")
def fail() -> str:
    count("before it fails")
    raise ZeroDivisionError


@app.get("/identify")
def known() -> str:
    if user := request.headers.get("x-user"):
        identify(user, {"n": int(request.args["n"])})
    count("identified")
    return "1"
