"""``/track?n=1`` in Starlette, FastAPI and Flask."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager

from fastapi import FastAPI
from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agent_tracking import track
from agent_tracking.integrations.asgi import tracking_lifespan


@asynccontextmanager
async def mine(app):
    yield {"state": "kept"}
    track("end", {"n": 1_000_000 + os.getpid()})


async def show(request: Request) -> PlainTextResponse:
    assert request.state.state == "kept"
    if "n" in request.query_params:
        track("request", {"n": int(request.query_params["n"])})
    return PlainTextResponse(str(os.getpid()))


starlette_app = Starlette(
    routes=[Route("/ready", show), Route("/track", show)], lifespan=tracking_lifespan(mine)
)

fastapi_app = FastAPI(lifespan=tracking_lifespan())


@fastapi_app.get("/ready")
@fastapi_app.get("/track")
def in_a_thread(n: int | None = None) -> int:
    if n is not None:
        track("request", {"n": n})
    return os.getpid()


flask_app = Flask("app")


@flask_app.get("/ready")
@flask_app.get("/track")
def flask_view() -> str:
    if number := request.args.get("n"):
        track("request", {"n": int(number)})
    return str(os.getpid())
