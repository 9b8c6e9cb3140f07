"""capture() and its fixture in test suites of applications, as pytest runs them: a sink sees what leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from agent_tracking.testing import Sink

APP = """
import threading
from concurrent.futures import ThreadPoolExecutor

from agent_tracking import flush, shutdown, track

pool = ThreadPoolExecutor(2)

def pay(total):
    track("order paid", {"total": total}, user_id="u-1")

def pay_in_background(total):
    pool.submit(pay, total).result(30)
"""


@pytest.fixture
def suite(tmp_path: Path, sink: Sink) -> Callable[..., str]:
    """Runs pytest, in a process of its own, over the files given; providers' variables are set."""

    def run(*options: str, expect: str, variables: dict[str, str] | None = None, **files: str) -> str:
        for name, text in {"app": APP, **files}.items():
            (tmp_path / f"{name}.py").write_text(dedent(text))
        kept = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "TMPDIR") if name in os.environ
        }
        environ = {**kept, "HOME": str(tmp_path), **sink.environ("webhook"), **(variables or {})}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
            cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        assert expect in done.stdout, done.stdout + done.stderr
        return done.stdout

    return run


PLUGIN = 'pytest_plugins = ["agent_tracking.testing.fixtures"]\n'
AUTOUSE = """
import pytest
from agent_tracking.testing import capture

@pytest.fixture(autouse=True)
def captured_events():
    with capture() as events:
        yield events
"""


def test_without_capture_a_suite_sends_where_variables_are_set(suite, sink):
    suite(test_it="from app import pay\ndef test_pay(): pay(9.5)\n", expect="1 passed")
    assert sink.ledger["webhook"].counted == 1


def test_with_the_variable_that_disables_everything_a_suite_sends_nothing_and_captures_still(suite, sink):
    test = """
    from app import pay
    from agent_tracking.testing import capture

    def test_pay(): pay(9.5)

    def test_captured():
        with capture() as events:
            pay(9.5)
        events.assert_tracked("order paid", {"total": 9.5})
    """
    suite(test_it=test, expect="2 passed", variables={"AGENT_TRACKING_DISABLED": "1"})
    assert sink.ledger["webhook"].requests == 0


def test_the_fixture_captures_the_tests_that_ask_for_it_each_for_itself(suite, sink):
    test = """
    import asyncio, threading
    import pytest
    from app import flush, pay, pay_in_background, shutdown

    def test_first(captured_events):
        pay(1)
        captured_events.one("order paid")

    def test_second(captured_events):
        captured_events.assert_nothing_tracked()
        pay_in_background(2)
        captured_events.assert_tracked("order paid", {"total": 2}, user_id="u-1")
        assert flush()
        assert shutdown()
        assert not [t for t in threading.enumerate() if t.name.startswith("agent_tracking")]

    @pytest.mark.anyio
    async def test_third(captured_events):
        pay(3)
        await asyncio.to_thread(pay, 4)
        await asyncio.gather(*(asyncio.create_task(asyncio.to_thread(pay, 5)) for _ in range(3)))
        assert [event.properties["total"] for event in captured_events] == [3, 4, 5, 5, 5]

    @pytest.fixture(scope="module")
    def anyio_backend():
        return "asyncio"

    @pytest.fixture(scope="module")
    async def opened(anyio_backend):
        yield 1

    @pytest.mark.anyio
    async def test_fourth_in_a_loop_that_is_older_than_its_capture(opened, captured_events):
        pay(6)
        assert [event.properties["total"] for event in captured_events] == [6]
    """
    suite(conftest=PLUGIN, test_it=test, expect="4 passed")
    assert sink.ledger["webhook"].requests == 0


def test_a_fixture_for_all_tests_in_the_conftest_lets_nothing_out_either(suite, sink):
    test = """
    from app import pay
    from agent_tracking.testing import capture

    def test_without_asking(): pay(1)
    def test_asking(captured_events):
        pay(2)
        assert captured_events.one("order paid").properties == {"total": 2}
    def test_inside():
        with capture() as events:
            pay(3)
        assert len(events) == 1
    """
    suite(conftest=AUTOUSE, test_it=test, expect="3 passed")
    suite("-o", "usefixtures=captured_events", conftest=PLUGIN, test_it=test, expect="3 passed")
    assert sink.ledger["webhook"].requests == 0


def test_tests_that_a_runner_starts_in_threads_see_their_own(suite, sink):
    test = """
    import threading
    import pytest
    from app import pay
    from agent_tracking.testing import capture

    together = threading.Barrier(4)

    def one_test(number, wrong):
        together.wait(30)
        for turn in range(100):
            with capture() as events:
                pay(number)
                pay(turn)
            totals = [event.properties["total"] for event in events]
            if totals != [number, turn]:
                wrong.append(totals)

    def test_in_threads():
        wrong = []
        threads = [threading.Thread(target=one_test, args=(n, wrong)) for n in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert wrong == []
    """
    suite(conftest=AUTOUSE, test_it=test, expect="1 passed")
    assert sink.ledger["webhook"].requests == 0


def test_a_failing_assertion_shows_what_is_different_and_not_our_code(suite):
    test = """
    from app import pay

    def test_pay(captured_events):
        pay(8.0)
        captured_events.assert_tracked("order paid", {"total": 9.5}, user_id="u-1")
    """
    out = suite(conftest=AUTOUSE, test_it=test, expect="1 failed")
    assert "properties['total']: expected 9.5, is 8.0" in out
    assert "captured.py" not in out


def test_nothing_is_loaded_by_itself(suite):
    out = suite("--fixtures", test_it="def test_it(): pass\n", expect="tests ran")
    assert "captured_events" not in out
