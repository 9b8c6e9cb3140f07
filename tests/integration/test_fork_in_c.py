"""Forks in C, as uWSGI does them: no hook of Python's runs."""

from __future__ import annotations

import pytest

HIDDEN = """
    import ctypes, os, sys, time, types
    sys.modules["uwsgi"] = uwsgi = types.ModuleType("uwsgi")
    uwsgi.opt = {"enable-threads": True}
    from agent_tracking import flush, providers, stats, track
    fork = ctypes.PyDLL(None).fork  # holds the GIL, as uWSGI does
"""


@pytest.mark.parametrize("ending", ["flush", "exit"])
@pytest.mark.parametrize("before", ["empty", "waiting", "delivered"])
def test_child_forked_in_c_begins_empty_and_works(apps, before, ending):
    finished = apps.run(
        HIDDEN
        + """
    before, ending = sys.argv[1:]
    providers()  # a fork in the middle of an import leaves it unfinished, and in C nothing can wait for it
    if before != "empty":
        for n in range(10):
            track("parent", {"n": n})
    if before == "delivered":
        assert flush(10)
    while stats().intake:
        time.sleep(0.01)
    time.sleep(0.1)  # a thread that asks for the GIL while C forks leaves a child that waits for it
    if not (pid := fork()):
        for n in range(10, 20):
            track("child", {"n": n})
        if ending == "flush":
            os._exit(0 if flush(10) and stats().tracked == 10 else 1)
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """,
        before,
        ending,
    )
    finished.check()
    assert apps.arrived() == list(range(10 if before == "empty" else 0, 20))


def test_child_forked_in_c_that_tracks_nothing_sends_nothing(apps):
    finished = apps.run(
        HIDDEN
        + """
    for n in range(10):
        track("parent", {"n": n})
    if not (pid := fork()):
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """
    )
    finished.check()
    assert apps.arrived() == list(range(10))


@pytest.mark.parametrize("ending", ["ctypes.PyDLL(None).exit(6)", "sys.exit(6)"])
@pytest.mark.parametrize("moment", [0.0, 1.0])
def test_process_that_ends_in_c_before_python_does(apps, moment, ending):
    """As workers of uWSGI do: by then OpenSSL must not be gone, or the process crashes."""
    finished = apps.run(
        HIDDEN
        + """
    uwsgi.worker_id = lambda: 1
    for n in range(20):
        track("x", {"n": n})
    time.sleep(float(sys.argv[1]))
    """
        + ending,
        str(moment),
    )
    finished.check(6)
    assert apps.arrived() == list(range(20))


def test_no_thread_is_started_before_uwsgi_forks(apps):
    """One that runs at that moment can leave workers that wait for ever."""
    finished = apps.run(
        HIDDEN
        + """
    role = 0
    uwsgi.worker_id = lambda: role
    track("master", {"n": 0})
    assert len(os.listdir("/proc/self/task")) == 1
    assert flush(10)  # on this thread
    track("master", {"n": 1})
    track("master", {"n": 2})
    if not (pid := fork()):
        role = 1
        track("worker", {"n": 10})
        ctypes.PyDLL(None).exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    """
    )
    assert finished.status == 0
    assert finished.err.count("postfork") == 1
    assert finished.err.count("\n") == 1
    assert apps.arrived() == [0, 1, 2, 10]


@pytest.mark.parametrize("options", [{}, {"enable-threads": True}, {b"threads": b"4"}])
def test_uwsgi_without_threads_is_told_the_option(apps, options):
    finished = apps.run(f"""
        import sys, types
        sys.modules["uwsgi"] = uwsgi = types.ModuleType("uwsgi")
        uwsgi.opt = {options!r}
        from agent_tracking import flush, track
        track("x", {{"n": 1}})
        assert flush(10)
        track("x", {{"n": 2}})
    """)
    assert finished.status == 0
    assert finished.err.count("--enable-threads") == (0 if options else 1)
    assert finished.err.count("\n") == (0 if options else 1)
    assert apps.arrived() == [1, 2]
