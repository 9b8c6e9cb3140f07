"""However a script ends, what it tracked arrives once, with its own status and nothing on stderr."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace

import pytest

from agent_tracking.testing import Fault, Sink, refused_url


def test_script_whose_last_line_tracks(apps):
    apps.run("import agent_tracking; agent_tracking.track('done', {'n': 1})").check()
    assert apps.arrived() == [1]


def test_identity_on_the_last_line(apps):
    apps.run("import agent_tracking; agent_tracking.identify('u-1', {'n': 1})").check()
    assert apps.sink.ledger["webhook"].counted == 1


def test_sys_exit_keeps_its_status(apps):
    finished = apps.run("""
        import sys
        from agent_tracking import track
        for n in range(20):
            track("x", {"n": n})
        sys.exit(3)
    """)
    finished.check(3)
    assert apps.arrived() == list(range(20))


def test_unhandled_exception_prints_only_its_own_traceback(apps):
    finished = apps.run("""
        from agent_tracking import track
        track("x", {"n": 1})
        raise LookupError("mine")
    """)
    assert finished.status == 1
    assert finished.err.startswith("Traceback (most recent call last):")
    assert finished.err.endswith("LookupError: mine\n")
    assert finished.err.count("Traceback") == 1
    assert apps.arrived() == [1]


@pytest.mark.parametrize("registered", ["before", "after"])
def test_only_track_is_in_an_atexit_handler(apps, registered):
    finished = apps.run(
        """
        import atexit, sys

        def late():
            for n in range(3):
                agent_tracking.track("late", {"n": n})

        if sys.argv[1] == "before":
            atexit.register(late)
        import agent_tracking
        if sys.argv[1] == "after":
            atexit.register(late)
        """,
        registered,
    )
    finished.check()
    assert apps.arrived() == [0, 1, 2]


def test_atexit_handlers_on_both_sides_of_the_drain(apps):
    finished = apps.run("""
        import atexit
        atexit.register(lambda: agent_tracking.track("last", {"n": 3}))
        import agent_tracking
        atexit.register(lambda: agent_tracking.track("first", {"n": 2}))
        agent_tracking.track("body", {"n": 1})
    """)
    finished.check()
    assert apps.arrived() == [1, 2, 3]


def test_late_handler_has_its_time_although_the_drain_is_long_over(apps):
    finished = apps.run(
        """
        import atexit, time

        def late():
            time.sleep(1.5)
            agent_tracking.track("late", {"n": 2})

        atexit.register(late)
        import agent_tracking
        agent_tracking.track("body", {"n": 1})
        """,
        environ={"AGENT_TRACKING_SHUTDOWN_TIMEOUT": "1.2"},
    )
    finished.check()
    assert apps.arrived() == [1, 2]


def test_many_records_in_late_handlers_arrive_each(apps):
    """None may slip past because the dispatcher told callers that it is looking anyway."""
    finished = apps.run("""
        import atexit
        atexit.register(lambda: [agent_tracking.track("late", {"n": n}) for n in range(200)])
        import agent_tracking
    """)
    finished.check()
    assert apps.arrived() == list(range(200))


def test_daemon_threads_that_go_on_tracking(apps):
    finished = apps.run("""
        import threading, time
        from agent_tracking import track

        accepted = []

        def work(base):
            n = base
            while True:
                track("x", {"n": n})
                accepted.append(n)
                n += 1
                time.sleep(0.001)

        for number in range(4):
            threading.Thread(target=work, args=(number * 1_000_000,), daemon=True).start()
        time.sleep(0.3)
        print(",".join(map(str, list(accepted))))
    """)
    finished.check()
    before = [int(number) for number in finished.out.split(",")]
    assert len(before) > 20
    assert set(before) <= set(apps.arrived())


def test_threads_that_outlive_the_main_one(apps):
    finished = apps.run("""
        import threading, time
        from agent_tracking import track

        def work(base):
            for n in range(10):
                time.sleep(0.02)
                track("x", {"n": base + n})

        for number in range(4):
            threading.Thread(target=work, args=(number * 10,)).start()
    """)
    finished.check()
    assert apps.arrived() == list(range(40))


def test_first_track_on_a_thread_that_outlives_the_main_one(apps):
    finished = apps.run("""
        import threading, time
        from agent_tracking import track

        def work():
            threading.main_thread().join()
            track("x", {"n": 1})

        threading.Thread(target=work).start()
    """)
    finished.check()
    assert apps.arrived() == [1]


def test_concurrent_futures_still_working_at_the_end(apps):
    finished = apps.run("""
        import time
        from concurrent.futures import ThreadPoolExecutor
        from agent_tracking import track

        def work(n):
            time.sleep(0.02)
            track("x", {"n": n})

        pool = ThreadPoolExecutor(2)
        for n in range(20):
            pool.submit(work, n)
    """)
    finished.check()
    assert apps.arrived() == list(range(20))


def test_async_provider_delivers_at_the_end_to_a_host_name(apps):
    """``loop.getaddrinfo`` would use the default executor, which is gone by then on every Python."""
    finished = apps.run(
        """
        import asyncio, os
        from urllib.parse import urlsplit
        import agent_tracking

        class Posts:
            name = "posts"
            async def track(self, event):
                parts = urlsplit(os.environ["TRACKING_WEBHOOK_URL"])
                reader, writer = await asyncio.open_connection("localhost", parts.port)
                body = b'[{"id": "%s", "properties": {"n": 1}}]' % event.message_id.encode()
                writer.write(
                    b"POST %s HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: %d\\r\\n"
                    b"Content-Type: application/json\\r\\nConnection: close\\r\\n\\r\\n%s"
                    % (parts.path.encode(), len(body), body)
                )
                await writer.drain()
                await reader.read()
                writer.close()
                await writer.wait_closed()

        agent_tracking.register_provider(Posts())
        agent_tracking.track("x")
        """,
        environ={"AGENT_TRACKING_PROVIDERS": "none"},
    )
    finished.check()
    assert apps.arrived() == [1]


def test_asyncio_run_ends_with_its_loop_before_the_drain(apps):
    finished = apps.run("""
        import asyncio
        from agent_tracking import track

        async def main():
            for n in range(20):
                track("x", {"n": n})
                await asyncio.sleep(0)

        asyncio.run(main())
    """)
    finished.check()
    assert apps.arrived() == list(range(20))


def test_provider_registered_on_the_last_line(apps):
    finished = apps.run(
        """
        import agent_tracking

        class Prints:
            name = "prints"
            def track(self, event):
                print(event.name, flush=True)

        agent_tracking.track("x", {"n": 1})
        agent_tracking.register_provider(Prints())
        agent_tracking.track("y", {"n": 2})
        """
    )
    finished.check()
    assert apps.arrived() == [1, 2]
    assert finished.out.splitlines()[-1] == "y"


def test_flush_sends_on_the_callers_thread_where_no_thread_can_start(apps):
    """Sub-interpreters of mod_wsgi refuse daemon threads; a process may be out of threads."""
    finished = apps.run("""
        import _thread, threading

        def refuse(*arguments, **options):
            raise RuntimeError("can't start new thread")

        threading._start_new_thread = threading._start_joinable_thread = refuse
        from agent_tracking import flush, track
        for n in range(3):
            track("x", {"n": n})
        assert flush(5)
        track("x", {"n": 3})
    """)
    assert finished.status == 0, finished.err
    assert apps.arrived() == [0, 1, 2, 3]


GEVENT = """
    from gevent import monkey
    monkey.patch_all()
    import os, signal, sys, threading, time
    from agent_tracking import flush, track
"""


@pytest.mark.parametrize("ending", ["last line", "sys.exit", "flush", "thread", "fork", "SIGTERM"])
def test_process_patched_by_gevent(apps, ending):
    import gevent  # noqa: F401  it has to be here: a missing one is no reason to skip

    if sys.version_info[:2] == (3, 12) and ending != "flush":
        pytest.skip("3.12 refuses new threads at the end, and gevent resolves names on one: call flush()")
    endings = {
        "last line": "",
        "sys.exit": "sys.exit(3)",
        "flush": "assert flush(10)\n    os._exit(0)",
        "thread": "threading.Thread(target=lambda: (time.sleep(0.1), track('x', {'n': 20}))).start()",
        "fork": "(os.waitpid(pid, 0) if (pid := os.fork()) else (track('x', {'n': 20}), sys.exit(0)))",
        "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(20)",
    }
    finished = apps.run(
        GEVENT
        + f"""
    for n in range(20):
        track("x", {{"n": n}})
    {endings[ending]}
    """
    )
    finished.check({"sys.exit": 3, "SIGTERM": -signal.SIGTERM}.get(ending, 0))
    assert apps.arrived() == list(range(21 if ending in {"thread", "fork"} else 20))


def test_a_pytest_session(apps):
    (apps.folder / "test_app.py").write_text(
        "from agent_tracking import track\n"
        "def test_one(): track('x', {'n': 1})\n"
        "def test_two(): track('x', {'n': 2})\n"
    )
    finished = apps.run(
        "import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-W', 'error', '.']))"
    )
    finished.check()
    assert apps.arrived() == [1, 2]


def test_tls_connection_left_open_at_the_end_is_no_noise(apps, tmp_path):
    """The interpreter may collect the sockets: no ``ResourceWarning``, no exception in a finalizer."""
    with Sink(tls=True) as sink:
        bundle = tmp_path / "ca.pem"
        bundle.write_text(sink.certificate)
        over_tls = replace(apps, sink=sink)
        finished = over_tls.run(
            """
            from agent_tracking import flush, track
            track("x", {"n": 1})
            assert flush(10)
            track("x", {"n": 2})
            """,
            environ={"SSL_CERT_FILE": str(bundle)},
        )
        finished.check()
        assert over_tls.arrived() == [1, 2]


# A backend that is down.


def _down(apps, kind, silent_port, **environ):
    url = refused_url() if kind == "refused" else f"http://127.0.0.1:{silent_port}"
    return {"TRACKING_WEBHOOK_URL": url, **environ}


@pytest.mark.parametrize("kind", ["refused", "black hole"])
def test_dead_backend_holds_up_the_end_no_longer_than_the_deadline(apps, kind, silent_port):
    finished = apps.run(
        """
        import sys, time
        from agent_tracking import track
        for n in range(20):
            track("x", {"n": n})
        print(time.time())
        """,
        environ=_down(apps, kind, silent_port, AGENT_TRACKING_SHUTDOWN_TIMEOUT="1"),
    )
    ended = time.time()
    assert finished.status == 0
    assert ended - float(finished.out) < 4
    lines = finished.err.splitlines()
    assert [line for line in lines if "20" in line and "shutting down" in line] == lines[-1:]
    assert "Traceback" not in finished.err


def test_two_dead_backends_share_the_deadline(apps, silent_port):
    finished = apps.run(
        """
        import time
        from agent_tracking import track
        track("x", {"n": 1})
        print(time.time())
        """,
        environ={
            "TRACKING_WEBHOOK_URL": f"http://127.0.0.1:{silent_port}",
            "POSTHOG_API_KEY": "phc_1",
            "POSTHOG_HOST": f"http://127.0.0.1:{silent_port}",
            "AGENT_TRACKING_PROVIDERS": "webhook,posthog",
            "AGENT_TRACKING_SHUTDOWN_TIMEOUT": "1.5",
        },
    )
    assert finished.status == 0
    assert time.time() - float(finished.out) < 4
    assert finished.err.count("shutting down") == 1


@pytest.mark.skipif(
    (3, 12) <= sys.version_info[:3] < (3, 12, 2),
    reason="refuses new threads as soon as the main one ends, so providers share the dispatcher's",
)
def test_dead_backend_costs_the_other_provider_nothing_at_the_end(apps, silent_port):
    finished = apps.run(
        "from agent_tracking import track\nfor n in range(20): track('x', {'n': n})",
        environ={
            "POSTHOG_API_KEY": "phc_1",
            "POSTHOG_HOST": f"http://127.0.0.1:{silent_port}",
            "AGENT_TRACKING_PROVIDERS": "webhook,posthog",
            "AGENT_TRACKING_SHUTDOWN_TIMEOUT": "1.5",
        },
    )
    assert finished.status == 0
    assert "posthog: 20" in finished.err
    assert "webhook" not in finished.err
    assert apps.arrived() == list(range(20))


def test_late_records_after_a_deadline_that_has_passed_return_at_once(apps, silent_port):
    finished = apps.run(
        """
        import atexit, time

        def late():
            began = time.monotonic()
            for n in range(1000):
                agent_tracking.track("late", {"n": n})
            print(time.monotonic() - began)

        atexit.register(late)
        import agent_tracking
        agent_tracking.track("x", {"n": 1})
        """,
        environ=_down(apps, "black hole", silent_port, AGENT_TRACKING_SHUTDOWN_TIMEOUT="1"),
    )
    assert finished.status == 0
    assert float(finished.out) < 1


def test_shutdown_interrupts_a_wait_that_the_backend_asked_for(apps):
    apps.sink.fail("webhook", Fault.status(503, times=100, headers={"Retry-After": "300"}))
    finished = apps.run(
        """
        import time
        from agent_tracking import flush, shutdown, track
        track("x", {"n": 1})
        flush(0.7)
        began = time.monotonic()
        result = shutdown(1)
        print(time.monotonic() - began, bool(result))
        """
    )
    seconds, result = finished.out.split()
    assert float(seconds) < 2
    assert result == "False"


@pytest.mark.parametrize("level", ["configured", "not configured"])
def test_failing_backend_leaves_no_fatal_error_behind(apps, level, silent_port):
    """A daemon thread that logs while the interpreter ends can hit the lock of stderr."""
    source = """
        import logging, sys
        if sys.argv[1] == "configured":
            logging.basicConfig(level=logging.DEBUG)
        from agent_tracking import track
        for n in range(60):
            track("x", {"n": n})
    """
    for _ in range(5):
        finished = apps.run(
            source,
            level,
            environ={"TRACKING_WEBHOOK_URL": refused_url(), "AGENT_TRACKING_SHUTDOWN_TIMEOUT": "0.2"},
        )
        assert finished.status == 0
        assert "Fatal" not in finished.err
        assert "Traceback" not in finished.err


def test_stopped_in_the_middle_of_a_request(apps):
    """A serverless runtime may freeze the process: nothing is sent twice when it goes on."""
    process = apps.script(
        """
        from agent_tracking import flush, track
        for n in range(20):
            track("x", {"n": n})
        print("tracked", flush=True)
        assert flush(20)
        """
    )
    assert process.stdout.readline() == "tracked\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (0, "")
    assert apps.arrived() == list(range(20))
