"""Forks and other children of multiprocessing: each delivers what it tracked."""

from __future__ import annotations

import pytest

METHODS = ["fork", "spawn", "forkserver"]

WORK = """
    import multiprocessing, os, sys
    from concurrent.futures import ProcessPoolExecutor
    from agent_tracking import track

    def work(n):
        track("child", {"n": n})
        return os.getpid()

    def leave(n):
        track("child", {"n": n})
        sys.exit(4)

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        track("parent", {"n": 0})
"""


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_process(apps, method):
    finished = apps.run(
        WORK
        + """
        children = [context.Process(target=work, args=(n,)) for n in range(1, 4)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0, 0, 0]
        track("parent", {"n": 4})
        """,
        method,
    )
    finished.check()
    assert apps.arrived() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing_child_that_exits_keeps_its_status(apps, method):
    finished = apps.run(
        WORK
        + """
        child = context.Process(target=leave, args=(1,))
        child.start()
        child.join()
        assert child.exitcode == 4
        """,
        method,
    )
    finished.check()
    assert apps.arrived() == [0, 1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("ending", ["close", "terminate"])
def test_multiprocessing_pool(apps, method, ending):
    """``with Pool()`` terminates its workers: SIGTERM."""
    finished = apps.run(
        WORK
        + """
        pool = context.Pool(2)
        pool.map(work, range(1, 21), chunksize=1)
        getattr(pool, sys.argv[2])()
        pool.join()
        """,
        method,
        ending,
    )
    finished.check()
    assert apps.arrived() == list(range(21))


@pytest.mark.parametrize("method", METHODS)
def test_pool_that_replaces_its_workers(apps, method):
    finished = apps.run(
        WORK
        + """
        pool = context.Pool(1, maxtasksperchild=1)
        pids = pool.map(work, range(1, 4), chunksize=1)
        assert len(set(pids)) == 3
        pool.close()
        pool.join()
        """,
        method,
    )
    finished.check()
    assert apps.arrived() == [0, 1, 2, 3]


@pytest.mark.parametrize("method", METHODS)
def test_process_pool_executor(apps, method):
    finished = apps.run(
        WORK
        + """
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            list(executor.map(work, range(1, 21)))
        """,
        method,
    )
    finished.check()
    assert apps.arrived() == list(range(21))
