"""SIGTERM and SIGINT: what was tracked before arrives, and the process ends as it would without us."""

from __future__ import annotations

import signal
import time

import pytest

from agent_tracking.testing import Fault

WAITS = """
    import os, sys, threading, time
    from agent_tracking import track
    for n in range(20):
        track("x", {"n": n})
    os.write(1, b"ready\\n")
    while True:
        time.sleep(0.02)  # a signal just before a long sleep would be seen after it
"""


def _signalled(apps, source, *numbers, environ=None, first="ready\n"):
    """Run a script, send it signals once it says so, and return its status, output, errors and seconds."""
    process = apps.script(source, environ=environ)
    assert process.stdout.readline() == first, process.communicate()
    began = time.monotonic()
    for number in numbers:
        process.send_signal(number)
    out, err = process.communicate(timeout=40)
    return process.returncode, out, err, time.monotonic() - began


def test_sigterm_delivers_and_ends_by_sigterm(apps):
    status, _, err, _ = _signalled(apps, WAITS, signal.SIGTERM)
    assert (status, err) == (-signal.SIGTERM, "")
    assert apps.arrived() == list(range(20))


def test_sigint_delivers_and_ends_as_keyboard_interrupt(apps):
    status, _, err, _ = _signalled(apps, WAITS, signal.SIGINT)
    assert status == -signal.SIGINT
    assert err.endswith("KeyboardInterrupt\n")
    assert err.count("Traceback") == 1
    assert apps.arrived() == list(range(20))


def test_interrupt_that_the_application_showed_itself_changes_no_status(apps):
    source = """
        import os, sys
        from agent_tracking import track
        track("x", {"n": 1})

        def shows():
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                sys.last_type, sys.last_value, sys.last_traceback = sys.exc_info()

        shows()
        os.write(1, b"ready\\n")
        sys.exit(3)
    """
    assert _signalled(apps, source)[0] == 3
    assert apps.arrived() == [1]


def test_sigterm_where_only_another_thread_tracks(apps):
    """That thread cannot set a handler."""
    source = """
        import os, threading, time
        from agent_tracking import track

        def work():
            for n in range(20):
                track("x", {"n": n})

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        os.write(1, b"ready\\n")
        while True:
            time.sleep(0.02)
    """
    status, _, err, _ = _signalled(apps, source, signal.SIGTERM)
    assert (status, err) == (-signal.SIGTERM, "")
    assert apps.arrived() == list(range(20))


def test_sigterm_where_the_package_was_imported_on_another_thread(apps):
    source = """
        import os, threading, time
        thread = threading.Thread(target=lambda: __import__("agent_tracking"))
        thread.start()
        thread.join()
        from agent_tracking import track
        track("x", {"n": 1})
        os.write(1, b"ready\\n")
        while True:
            time.sleep(0.02)
    """
    status, _, err, _ = _signalled(apps, source, signal.SIGTERM)
    assert (status, err) == (-signal.SIGTERM, "")
    assert apps.arrived() == [1]


def test_sigterm_right_after_the_first_record(apps):
    """Discovery is under way; nothing has been sent or even prepared."""
    source = """
        import os, signal
        from agent_tracking import track
        track("x", {"n": 1})
        os.write(1, b"ready\\n")
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            pass
    """
    status, _, err, _ = _signalled(apps, source)
    assert (status, err) == (-signal.SIGTERM, "")
    assert apps.arrived() == [1]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("ending", ["sys.exit(7)", "flag"])
def test_handler_of_the_application_runs_and_its_status_stays(apps, when, ending):
    source = """
        import os, signal, sys, time
        running = True

        def handler(number, frame):
            global running
            os.write(1, b"handled\\n")
            if "ENDING" == "flag":
                running = False
            else:
                sys.exit(7)

        if "WHEN" == "before":
            signal.signal(signal.SIGTERM, handler)
        from agent_tracking import track
        if "WHEN" == "after":
            signal.signal(signal.SIGTERM, handler)
        for n in range(20):
            track("x", {"n": n})
        os.write(1, b"ready\\n")
        while running:
            time.sleep(0.01)
        track("x", {"n": 20})
    """.replace("WHEN", when).replace("ENDING", ending)
    status, out, err, _ = _signalled(apps, source, signal.SIGTERM)
    assert (status, out, err) == (0 if ending == "flag" else 7, "handled\n", "")
    assert apps.arrived() == list(range(21 if ending == "flag" else 20))


def test_handler_that_is_installed_later_wins(apps):
    source = """
        import os, signal
        import agent_tracking
        def handler(number, frame): pass
        signal.signal(signal.SIGTERM, handler)
        agent_tracking.track("x", {"n": 1})
        assert signal.getsignal(signal.SIGTERM) is handler
        os.write(1, b"ready\\n")
    """
    assert _signalled(apps, source)[0] == 0


def test_handler_that_calls_the_one_it_replaced_still_decides_the_status(apps):
    source = """
        import os, signal, sys, time
        from agent_tracking import track

        def handler(number, frame):
            if callable(before):
                before(number, frame)
            sys.exit(5)

        before = signal.signal(signal.SIGTERM, handler)
        track("x", {"n": 1})
        os.write(1, b"ready\\n")
        while True:
            time.sleep(0.02)
    """
    status, _, err, _ = _signalled(apps, source, signal.SIGTERM)
    assert (status, err) == (5, "")
    assert apps.arrived() == [1]


def test_handler_that_puts_the_old_one_back_and_raises_again(apps):
    """What uvicorn does."""
    source = """
        import os, signal, time
        from agent_tracking import track
        caught = []
        before = signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
        for n in range(20):
            track("x", {"n": n})
        os.write(1, b"ready\\n")
        while not caught:
            time.sleep(0.01)
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
    """
    status, _, err, _ = _signalled(apps, source, signal.SIGTERM)
    assert (status, err) == (-signal.SIGTERM, "")
    assert apps.arrived() == list(range(20))


def test_asyncio_signal_handler_still_runs(apps):
    source = """
        import asyncio, os, signal

        async def main():
            ended = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
            from agent_tracking import track
            track("x", {"n": 1})
            os.write(1, b"ready\\n")
            await ended.wait()
            track("x", {"n": 2})

        asyncio.run(main())
    """
    status, _, err, _ = _signalled(apps, source, signal.SIGTERM)
    assert (status, err) == (0, "")
    assert apps.arrived() == [1, 2]


def test_delivery_begins_at_the_signal_where_an_older_handler_decides_about_the_end(apps):
    """Under ``uvicorn --workers`` without the helper: nobody waits for it, and the interval is 10 s."""
    source = """
        import os, signal, time
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        from agent_tracking import track
        for n in range(20):
            track("x", {"n": n})
        os.write(1, b"ready\\n")
        while True:
            time.sleep(0.02)
    """
    process = apps.script(source)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert apps.sink.wait(lambda: apps.sink.ledger["webhook"].counted == 20, 8)
    assert process.poll() is None


def test_ignored_sigterm_stays_ignored(apps):
    source = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        from agent_tracking import track
        track("x", {"n": 1})
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        os.write(1, b"ready\\n")
        time.sleep(0.3)
    """
    status, _, err, _ = _signalled(apps, source, signal.SIGTERM)
    assert (status, err) == (0, "")
    assert apps.arrived() == [1]


def test_other_signals_are_left_alone(apps):
    source = """
        import os, signal
        before = {number: signal.getsignal(number) for number in signal.valid_signals()}
        import agent_tracking
        agent_tracking.track("x", {"n": 1})
        changed = {n for n in before if signal.getsignal(n) is not before[n]}
        assert changed == {signal.SIGTERM}, changed
        os.write(1, b"ready\\n")
    """
    assert _signalled(apps, source)[0] == 0


def test_dead_backend_holds_up_sigterm_no_longer_than_the_deadline(apps, silent_port):
    environ = {
        "TRACKING_WEBHOOK_URL": f"http://127.0.0.1:{silent_port}",
        "AGENT_TRACKING_SHUTDOWN_TIMEOUT": "1",
    }
    status, _, err, seconds = _signalled(apps, WAITS, signal.SIGTERM, environ=environ)
    assert status == -signal.SIGTERM
    assert seconds < 4
    assert err.count("\n") == 1
    assert "webhook: 20" in err


def test_second_sigterm_does_not_cut_the_delivery_short(apps):
    """systemd signals the master and its workers, and the master its workers: each gets it twice."""
    process = apps.script(WAITS)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)  # two at once are one; the delivery takes longer, its modules are not even imported
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (-signal.SIGTERM, "")
    assert apps.arrived() == list(range(20))


def test_sigint_ends_the_wait_after_sigterm(apps, silent_port):
    environ = {
        "TRACKING_WEBHOOK_URL": f"http://127.0.0.1:{silent_port}",
        "AGENT_TRACKING_SHUTDOWN_TIMEOUT": "30",
    }
    process = apps.script(WAITS, environ=environ)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(Exception, match="timed out"):
        process.communicate(timeout=0.5)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate(timeout=40)
    assert process.returncode == -signal.SIGTERM
    assert time.monotonic() - began < 5


def test_sigterm_during_the_drain_of_a_normal_exit_waits_for_it(apps):
    apps.sink.fail("webhook", Fault.delay(1.0))
    source = """
        import atexit, os
        from agent_tracking import track
        for n in range(20):
            track("x", {"n": n})
        atexit.register(lambda: os.write(1, b"ready\\n"))
    """
    process = apps.script(source)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=40)
    assert process.returncode in {0, -signal.SIGTERM}
    assert err == ""
    assert apps.arrived() == list(range(20))


def test_handler_that_exits_during_the_drain_of_a_normal_exit_does_not_end_it(apps):
    """billiard's does so in a child that Celery ends while it delivers."""
    source = """
        import os, signal, sys, time
        from agent_tracking import register_provider, track

        class Slow:
            name = "slow"
            def track(self, event):
                os.write(1, b"ready\\n")
                time.sleep(0.5)
                os.write(1, b"delivered\\n")

        register_provider(Slow())
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(5))
        track("x")
    """
    environ = {"AGENT_TRACKING_PROVIDERS": "none"}
    status, out, err, _ = _signalled(apps, source, signal.SIGTERM, environ=environ)
    assert (status, out, err) == (0, "delivered\n", "")


def test_signal_handler_that_tracks_while_the_main_thread_tracks(apps):
    source = """
        import os, signal, time
        from agent_tracking import flush, track
        numbers = iter(range(1_000_000, 2_000_000))
        handled = []

        def handler(number, frame):
            n = next(numbers)
            track("handler", {"n": n})
            handled.append(n)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        end = time.monotonic() + 1.0
        n = 0
        while time.monotonic() < end:
            track("main", {"n": n})
            n += 1
            if n % 100 == 0:
                time.sleep(0.001)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert flush(30)
        print(n, len(handled))
    """
    finished = apps.run(source)
    assert (finished.status, finished.err) == (0, "")
    mine, handled = map(int, finished.out.split())
    assert handled > 10
    assert apps.arrived() == [*range(mine), *range(1_000_000, 1_000_000 + handled)]


def test_flush_inside_a_signal_handler(apps):
    source = """
        import os, signal, sys, time
        from agent_tracking import flush, track

        def handler(number, frame):
            track("x", {"n": 1})
            sys.exit(0 if flush(10) else 1)

        signal.signal(signal.SIGTERM, handler)
        os.write(1, b"ready\\n")
        while True:
            time.sleep(0.02)
    """
    status, _, err, _ = _signalled(apps, source, signal.SIGTERM)
    assert (status, err) == (0, "")
    assert apps.arrived() == [1]


def test_sigterm_while_the_main_thread_holds_a_lock_of_ours(apps):
    """The drain comes to a halt, the process does not."""
    source = """
        import os, time
        from agent_tracking import api, track
        track("x", {"n": 1})
        tracker = api.default_tracker()
        lane = None
        while lane is None:
            lane = dict(tracker.dispatcher()._registry.lanes).get("webhook")
            time.sleep(0.01)
        with lane.counters._lock:
            os.write(1, b"ready\\n")
            while True:
                time.sleep(0.02)
    """
    status, _, _, seconds = _signalled(
        apps, source, signal.SIGTERM, environ={"AGENT_TRACKING_SHUTDOWN_TIMEOUT": "1"}
    )
    assert status == -signal.SIGTERM
    assert seconds < 8


def test_first_process_of_a_container_goes_on_as_without_us(apps):
    """The kernel spares pid 1 the default action: it must not lose its handler or its tracker."""
    source = """
        import os, signal
        real = os.getpid()
        from agent_tracking import track
        track("x", {"n": 1})
        from agent_tracking import sigterm
        sigterm.os = type("os", (), {"getpid": staticmethod(lambda: 1), "kill": None})
        handler = signal.getsignal(signal.SIGTERM)
        os.kill(real, signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is handler
        track("x", {"n": 2})
        os.write(1, b"ready\\n")
    """
    status, _, err, _ = _signalled(apps, source)
    assert (status, err) == (0, "")
    assert apps.arrived() == [1, 2]
    assert len(apps.sink.requests("webhook")) == 2


def test_process_that_is_terminated_by_its_parent(apps):
    """``multiprocessing.Process.terminate()`` and ``with Pool()`` send SIGTERM."""
    finished = apps.run("""
        import multiprocessing, os, sys
        from agent_tracking import track

        def work(pipe):
            track("x", {"n": 1})
            pipe.send("tracked")
            pipe.recv()

        if __name__ == "__main__":
            ours, theirs = multiprocessing.Pipe()
            child = multiprocessing.get_context("spawn").Process(target=work, args=(theirs,))
            child.start()
            ours.recv()
            child.terminate()
            child.join()
            print(child.exitcode)
    """)
    assert (finished.status, finished.err) == (0, "")
    assert int(finished.out) == -signal.SIGTERM
    assert apps.arrived() == [1]
