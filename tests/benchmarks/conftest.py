"""The benchmarks are a folder of the checkout, not an installed package."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session", autouse=True)
def _found_by_children():
    """Let the processes that measure find it, from whatever folder the tests are run."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def receiver():
    from benchmarks.receiver import Receiver

    with Receiver() as started:
        yield started
