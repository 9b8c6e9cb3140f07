"""The list of planted faults is sound; ``python -m tests.mutations`` plants them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from tests.mutations.__main__ import ROOT, package, plant, unnoticed
from tests.mutations.planted import PLANTED

from agent_tracking.testing import ProviderConformance

IDS = [f"{fault.provider}-{fault.name}" for fault in PLANTED]


def test_there_are_at_least_25_faults_with_names_of_their_own():
    assert len(PLANTED) >= 25
    assert not [name for name, count in Counter(IDS).items() if count > 1]


@pytest.mark.parametrize("fault", PLANTED, ids=IDS)
def test_a_fault_can_be_planted_and_its_tests_exist(fault):
    source = (package(fault.provider) / fault.file).read_text()
    assert plant(fault, source) != source
    assert fault.tests
    for address in fault.tests:
        path, *names = address.split("::")
        text = Path(ROOT, path).read_text()
        if len(names) == 2:
            assert f"class {names[0]}(" in text
            assert callable(getattr(ProviderConformance, names[1]))
        else:
            assert re.search(rf"^def {names[0]}\(", text, re.MULTILINE)


def test_a_fault_whose_place_has_gone_is_refused():
    with pytest.raises(ValueError, match="stands 0 times"):
        plant(PLANTED[0], "nothing of the kind\n")


def test_a_test_counts_as_failed_by_any_of_its_cases():
    output = "FAILED a.py::T::test_one[x] - no\nFAILED a.py::T::test_two - no\n1 failed"
    assert unnoticed(["a.py::T::test_one", "a.py::T::test_two"], output) == []
    assert unnoticed(["a.py::T::test_on", "a.py::T::test_three"], output) == [
        "a.py::T::test_on",
        "a.py::T::test_three",
    ]
