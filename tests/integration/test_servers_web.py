"""Real servers: what requests tracked before SIGTERM arrives, and the server ends as it would without us."""

from __future__ import annotations

import signal
import sys

import pytest

NUMBERS = range(20)
#: gunicorn leaves its listening sockets open at the end of a worker.
PYTHON = [sys.executable, "-W", "error", "-W", "ignore:unclosed <socket"]


def _quiet(finished, status):
    assert finished.status == status, finished.err
    for word in ("Traceback", "Warning", "agent_tracking"):
        assert word not in finished.err, finished.err
        assert word not in finished.out, finished.out


def _gunicorn(port, *options, app="web:wsgi_app"):
    return [*PYTHON, "-m", "gunicorn", "-b", f"127.0.0.1:{port}", *options, app]


def _uvicorn(port, *options, app="web:asgi_app"):
    return [*PYTHON, "-m", "uvicorn", "--port", str(port), *options, app]


def _hypercorn(port, *options, app="web:asgi_app"):
    return [*PYTHON, "-m", "hypercorn", "-b", f"127.0.0.1:{port}", *options, app]


@pytest.mark.parametrize(
    "options",
    [
        ["-w", "1"],
        ["-w", "2"],
        ["-k", "gthread", "-w", "2", "--threads", "2"],
        ["-w", "2", "--preload"],
        ["-k", "gthread", "-w", "2", "--threads", "2", "--preload"],
        ["-k", "gevent", "-w", "1"],  # gunicorn 27: one that is told to stop while it starts never does
    ],
    ids=" ".join,
)
def test_gunicorn(apps, port, options):
    with apps.serving(_gunicorn(port, *options), port) as server:
        server.track(NUMBERS)
        _quiet(server.stop(), 0)
    assert apps.arrived() == list(NUMBERS)


def test_gunicorn_preload_where_the_master_tracks_before_it_forks(apps, port):
    command = _gunicorn(port, "-w", "2", "--preload")
    with apps.serving(command, port, {"TRACK_AT_IMPORT": "1"}) as server:
        server.track(NUMBERS)
        _quiet(server.stop(), 0)
    assert apps.arrived() == [*NUMBERS, 1_000_000 + server.process.pid]


@pytest.mark.parametrize("kind", ["sync", "gthread"])
def test_gunicorn_that_recycles_its_workers(apps, port, kind):
    command = _gunicorn(port, "-w", "1", "-k", kind, "--threads", "2", "--max-requests", "4")
    if kind == "sync":
        del command[command.index("--threads") : command.index("--threads") + 2]
    with apps.serving(command, port) as server:
        assert len(set(server.track(NUMBERS))) > 2
        _quiet(server.stop(), 0)
    assert apps.arrived() == list(NUMBERS)


def test_gunicorn_with_the_worker_of_uvicorn(apps, port):
    command = _gunicorn(port, "-w", "2", "-k", "uvicorn_worker.UvicornWorker", app="web:asgi_app")
    with apps.serving(command, port) as server:
        server.track(NUMBERS)
        assert server.stop().status == 0
    assert apps.arrived() == list(NUMBERS)


@pytest.mark.parametrize("app", ["web:asgi_app", "web:asgi_with_helper", "frameworks:fastapi_app"])
def test_uvicorn_with_one_worker(apps, port, app):
    """Needs no helper: its own handler gives way to ours before it raises the signal again."""
    with apps.serving(_uvicorn(port, app=app), port) as server:
        server.track(NUMBERS)
        _quiet(server.stop(), -signal.SIGTERM)
    assert apps.arrived() == list(NUMBERS)


@pytest.mark.parametrize("app", ["web:asgi_with_helper", "frameworks:fastapi_app"])
def test_uvicorn_with_several_workers_and_the_helper(apps, port, app):
    with apps.serving(_uvicorn(port, "--workers", "2", app=app), port) as server:
        server.track(NUMBERS)
        _quiet(server.stop(), 0)
    assert apps.arrived() == list(NUMBERS)


def test_lifespan_of_the_application_ends_before_the_delivery(apps, port):
    with apps.serving(_uvicorn(port, "--workers", "2", app="frameworks:starlette_app"), port) as server:
        pids = set(server.track(NUMBERS))
        _quiet(server.stop(), 0)
    *requests, first, second = apps.arrived()
    assert requests == list(NUMBERS)
    assert pids <= {first - 1_000_000, second - 1_000_000}


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("app", ["web:asgi_app", "web:asgi_with_helper", "frameworks:starlette_app"])
def test_hypercorn(apps, port, workers, app):
    with apps.serving(_hypercorn(port, "-w", workers, app=app), port) as server:
        server.track(NUMBERS)
        _quiet(server.stop(), 0)
    assert [n for n in apps.arrived() if n < 1_000_000] == list(NUMBERS)


def _waitress(port, app):
    return [*PYTHON, "-m", "waitress", f"--listen=127.0.0.1:{port}", app]


@pytest.mark.parametrize("app", ["web:wsgi_app", "frameworks:flask_app"])
def test_waitress(apps, port, app):
    """Sets no handler, and tracks on threads that cannot set one."""
    with apps.serving(_waitress(port, app), port) as server:
        server.track(NUMBERS)
        _quiet(server.stop(), -signal.SIGTERM)
    assert apps.arrived() == list(NUMBERS)


def test_waitress_and_ctrl_c(apps, port):
    with apps.serving(_waitress(port, "web:wsgi_app"), port) as server:
        server.track(NUMBERS)
        finished = server.stop(signal.SIGINT)
    assert finished.status in {0, 1, -signal.SIGINT}
    assert apps.arrived() == list(NUMBERS)


@pytest.mark.parametrize("server_name", ["uvicorn", "uvicorn 2", "hypercorn", "gunicorn"])
def test_dead_backend_holds_up_a_server_no_longer_than_the_deadline(apps, port, silent_port, server_name):
    """Lifespan, signal and ``atexit`` together: none of them gets a deadline of its own."""
    command = {
        "uvicorn": _uvicorn(port, app="web:asgi_with_helper"),
        "uvicorn 2": _uvicorn(port, "--workers", "2", app="web:asgi_with_helper"),
        "hypercorn": _hypercorn(port, app="web:asgi_with_helper"),
        "gunicorn": _gunicorn(port),
    }[server_name]
    environ = {
        "TRACKING_WEBHOOK_URL": f"http://127.0.0.1:{silent_port}",
        "AGENT_TRACKING_SHUTDOWN_TIMEOUT": "3",
    }
    with apps.serving(command, port, environ) as server:
        pids = server.track(NUMBERS)
        finished = server.stop()
    assert finished.seconds < 5.5
    assert finished.err.count("shutting down was over") == len(set(pids)), finished.err


@pytest.mark.parametrize("app", ["web:wsgi_app", "web:asgi_app"])
def test_nothing_is_sent_before_the_end_so_that_these_tests_show_something(apps, port, app):
    command = _waitress(port, app) if "wsgi" in app else _uvicorn(port, app=app)
    with apps.serving(command, port) as server:
        server.track(NUMBERS)
        assert apps.arrived() == []
        server.process.kill()
    assert apps.arrived() == []


# Serverless


@pytest.mark.parametrize("variable", ["AGENT_TRACKING_SERVERLESS", "AWS_LAMBDA_FUNCTION_NAME", "K_SERVICE"])
@pytest.mark.parametrize("app", ["web:wsgi_with_helper", "web:asgi_with_helper"])
def test_serverless_middleware_delivers_before_the_answer_is_complete(apps, port, variable, app):
    command = _gunicorn(port, app=app) if "wsgi" in app else _uvicorn(port, app=app)
    with apps.serving(command, port, {variable: "1"}) as server:
        for number in range(3):
            server.track([number])
            assert apps.arrived() == list(range(number + 1))
        server.process.kill()
    assert apps.arrived() == [0, 1, 2]


def test_serverless_can_be_switched_off(apps, port):
    environ = {"K_SERVICE": "app", "AGENT_TRACKING_SERVERLESS": "0"}
    with apps.serving(_uvicorn(port, app="web:asgi_with_helper"), port, environ) as server:
        server.track([1])
        assert apps.arrived() == []
        server.process.kill()
