"""Real servers under concurrent requests: each event carries the ids of its own request, others none."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

REQUESTS = 300
#: Every fifth request says nothing of who made it.
NOBODY = 5
PYTHON = [sys.executable, "-W", "error", "-W", "ignore:unclosed <socket"]


def _uvicorn(port, app):
    return [*PYTHON, "-m", "uvicorn", "--port", str(port), "--log-level", "critical", app]


def _gunicorn(port, app):
    options = ["-k", "gthread", "-w", "2", "--threads", "8", "--log-level", "critical"]
    return [*PYTHON, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", *options, app]


def _waitress(port, app):
    return [*PYTHON, "-m", "waitress", "--threads=8", f"--listen=127.0.0.1:{port}", app]


def _request(url, paths, number):
    """Make one request; return how many events it says that it tracked."""
    path = paths[number % len(paths)]
    request = urllib.request.Request(f"{url}/{path}?n={number}")
    if number % NOBODY:
        request.add_header("Cookie", f"theme=dark; visitor=v-{number}; other=1")
        request.add_header("X-Session-Id", f"s-{number}")
        request.add_header("X-User", f"u-{number}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.read().split()[-1].strip(b'"'))
    except urllib.error.HTTPError as error:
        error.close()
        if (path, error.code) == ("fail", 500):
            return 1
        raise


PATHS = {
    "context_fastapi:app": ["async", "sync", "stream", "background", "fail", "identify"],
    "context_flask:app": ["sync", "async", "stream", "background", "fail", "identify"],
    "context_django:wsgi_application": ["sync", "async", "stream", "fail", "identify"],
    "context_django:asgi_application": ["sync", "async", "stream", "fail", "identify"],
}


@pytest.mark.parametrize(
    ("server_of", "app"),
    [
        (_uvicorn, "context_fastapi:app"),
        (_gunicorn, "context_flask:app"),
        (_waitress, "context_flask:app"),
        (_gunicorn, "context_django:wsgi_application"),
        (_uvicorn, "context_django:asgi_application"),
    ],
    ids=lambda part: part.__name__.strip("_") if callable(part) else part.partition(":")[0],
)
def test_each_event_has_the_ids_of_its_own_request(apps, port, server_of, app):
    paths = PATHS[app]
    with apps.serving(server_of(port, app), port) as server, ThreadPoolExecutor(24) as pool:
        told = dict(enumerate(pool.map(lambda number: _request(server.url, paths, number), range(REQUESTS))))
        finished = server.stop()
        assert "agent_tracking" not in finished.err, finished.err
    records = apps.sink.events("webhook")
    events = [record for record in records if record["event"] == "step"]
    assert Counter(event["properties"]["n"] for event in events) == told
    for event in events:
        assert _ids(event) == _expected(event["properties"]["n"]), event
        number = event["properties"]["n"]
        assert event["properties"]["path"] == f"/{paths[number % len(paths)]}"
    merged = [_ids(record)[:2] for record in records if record["event"] == "$identify"]
    known = [n for n in range(REQUESTS) if n % NOBODY and paths[n % len(paths)] == "identify"]
    assert sorted(merged) == sorted((f"u-{n}", f"v-{n}") for n in known)


def _ids(record):
    return record.get("userId"), record.get("anonymousId"), record.get("sessionId")


def _expected(number):
    return (f"u-{number}", f"v-{number}", f"s-{number}") if number % NOBODY else (None, None, None)
