"""The web application of the measurements, as ASGI and as WSGI: about a millisecond of work, one ``track()``.

``BENCHMARK`` holds what to track with, as JSON. ``/on`` tracks, ``/off`` does the same work and doesn't.
``/-/cpu`` returns the process's CPU seconds, ``/-/behind`` those of all threads but the ones that answer,
``/-/finish`` waits until what was tracked is sent.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time

from benchmarks.event import NAME, PROPERTIES, USER
from benchmarks.pace import cpu_seconds
from benchmarks.senders import make
from benchmarks.vendors import Sender

__all__ = ["asgi", "wsgi"]

_ROWS = 5_000
_local = threading.local()
#: CPU clocks of the threads that have answered a request.
_clocks: list[int] = []


def _database() -> sqlite3.Connection:
    found: sqlite3.Connection | None = getattr(_local, "database", None)
    if found is None:
        if hasattr(time, "pthread_getcpuclockid"):  # macOS has none: there all CPU counts as behind
            _clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
        found = _local.database = sqlite3.connect(":memory:")
        found.execute("create table meals (id integer primary key, user text, name text, calories integer)")
        rows = [(f"user-{number % 100}", f"meal {number}", number % 900) for number in range(_ROWS)]
        found.executemany("insert into meals (user, name, calories) values (?, ?, ?)", rows)
    return found


def work() -> bytes:
    """Do what a handler does: a query over a small table, a little arithmetic, JSON."""
    rows = _database().execute(
        "select id, user, name, calories from meals where calories > ? order by name limit 100", (300,)
    )
    meals = [dict(zip(("id", "user", "name", "calories"), row, strict=True)) for row in rows]
    total = sum(meal["calories"] for meal in meals)
    return json.dumps({"meals": meals, "total": total}).encode()


def _sender() -> Sender:
    spec = json.loads(os.environ["BENCHMARK"])
    logging.disable(logging.CRITICAL)
    return make(spec["sender"], spec["url"], spec.get("folder", ""))


_made = _sender()
_track = _made.track


def handle(path: str) -> bytes:
    """Answer one request."""
    if path.startswith("/-/"):
        if path.endswith("finish"):
            _made.finish()
        answering = sum(map(time.clock_gettime, _clocks)) if path.endswith("behind") else 0.0
        return json.dumps(cpu_seconds() - answering).encode()
    body = work()
    if path == "/on":
        _track(NAME, PROPERTIES, user_id=USER)
    return body


async def asgi(scope, receive, send):
    """Serve as ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = handle(scope["path"])
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ, start_response):
    """Serve as WSGI."""
    body = handle(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
