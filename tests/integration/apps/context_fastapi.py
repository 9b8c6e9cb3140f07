"""Every way in which FastAPI runs an application's code, each tracking ``n`` of its request.

The anonymous id and the session id come with the request; who it is, only a dependency knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import StreamingResponse

from agent_tracking import context, identify, track
from agent_tracking.integrations.asgi import TrackingMiddleware


def knows_who(request: Request) -> None:
    """A sync dependency, which runs in a thread."""
    if user := request.headers.get("x-user"):
        context.bind(user_id=user)


app = FastAPI(dependencies=[Depends(knows_who)])
app.add_middleware(
    TrackingMiddleware,
    anonymous_id="cookie:visitor",
    session_id="header:x-session-id",
    properties=lambda scope: {"path": scope["path"]},
)


def count(n: int, step: str) -> None:
    track("step", {"n": n, "step": step})


@app.get("/ready")
def ready() -> str:
    return "yes"


@app.get("/async")
async def asynchronous(n: int) -> int:
    async def part(step: str) -> None:
        await asyncio.sleep(0.002 * (n % 5))
        count(n, step)

    await asyncio.gather(part("gather 1"), part("gather 2"))
    await asyncio.to_thread(count, n, "to_thread")
    return 3


@app.get("/sync")
def synchronous(n: int) -> int:
    count(n, "before")
    time.sleep(0.002 * (n % 5))
    count(n, "after")
    return 2


@app.get("/stream")
def stream(n: int) -> StreamingResponse:
    def rows() -> Iterator[str]:
        for number in range(2):
            count(n, f"row {number}")
            time.sleep(0.002)
            yield "row\n"
        yield "3"

    count(n, "before")
    return StreamingResponse(rows())


@app.get("/background")
async def background(n: int, tasks: BackgroundTasks) -> int:
    def later() -> None:
        time.sleep(0.01)
        count(n, "background")

    tasks.add_task(later)
    count(n, "before")
    return 2


@app.get("/fail")
async def fail(n: int) -> int:
    count(n, "before it fails")
    raise ZeroDivisionError


@app.get("/identify")
async def known(n: int, request: Request) -> int:
    if user := request.headers.get("x-user"):
        identify(user, {"n": n})
    count(n, "identified")
    return 1
