"""Fixtures for pytest, loaded by name and never by themselves.

In the ``conftest.py`` of the root folder of your tests, or in a test module::

    pytest_plugins = ["agent_tracking.testing.fixtures"]

``captured_events`` captures what the test tracks (see :func:`agent_tracking.testing.capture`). ``sink`` is a
:class:`agent_tracking.testing.Sink`; ``make_tracker`` makes trackers that retry at once and are shut down in
the end. ``--conformance-report=FILE`` (from the root ``conftest.py`` only) writes what
the classes of :class:`agent_tracking.testing.ProviderConformance` have shown, as JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.testing.captured import Captured
from agent_tracking.testing.capturing import capture
from agent_tracking.testing.conformance.report import Report
from agent_tracking.testing.sink import Sink
from agent_tracking.tracker import Tracker

__all__ = ["captured_events", "make_tracker", "sink"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that asks for the report."""
    parser.getgroup("agent-tracking").addoption(
        "--conformance-report",
        metavar="FILE",
        default=None,
        help="write what the conformance classes have shown to FILE, as JSON",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the section to the terminal's summary."""
    Report.of(config)


@pytest.fixture
def captured_events() -> Iterator[Captured]:
    """What the process-wide tracker is given while the test runs; nothing of it leaves the process."""
    with capture() as events:
        yield events


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A sink in threads of this process, closed in the end."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def make_tracker() -> Iterator[Callable[..., Tracker]]:
    """A function that makes trackers: nothing is discovered, retries come at once, the end is theirs.

    It takes providers to register, and any keyword of :class:`agent_tracking.Tracker`.
    """
    made: list[Tracker] = []

    def make(*providers: object, **options: Any) -> Tracker:  # noqa: ANN401  the tracker's own
        fast = RetryPolicy(first=0.01, longest=0.05, tries=6, window=20.0)
        tracker = Tracker(**{"environ": {}, "discover": False, "retry": fast, **options})
        made.append(tracker)
        for provider in providers:
            tracker.register_provider(provider)
        return tracker

    yield make
    for tracker in made:
        tracker.shutdown(1.0)
