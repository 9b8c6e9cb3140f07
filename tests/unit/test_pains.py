"""Every row of ``pains.toml`` names a test that exists, or says why there is none."""

import ast
import importlib
import sys
from functools import cache
from pathlib import Path

import pytest

#: pytest itself brings tomli to Pythons without tomllib.
toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

TESTS = Path(__file__).parents[1]
#: How many rows each section has.
SECTIONS = {1: 9, 2: 22, 3: 12, 4: 5, 5: 9, 6: 12, 7: 9, 8: 8, 9: 8, 10: 14, 12: 4, 13: 7}
EXPECTED = [f"{section}.{row}" for section, count in SECTIONS.items() for row in range(1, count + 1)]


def rows():
    with (TESTS / "pains.toml").open("rb") as file:
        return toml.load(file)


@cache
def functions(path):
    """Return the names of a file's functions, those of classes too."""
    tree = ast.parse((TESTS / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def problems(table):
    """Return what is wrong with the table, one sentence for each row."""
    found = [f"{row}: is not in the table" for row in EXPECTED if row not in table]
    found += [f"{row}: is no row" for row in table if row not in EXPECTED]
    for row, entry in table.items():
        if set(entry) - {"rule", "tests", "reason"}:
            found.append(f"{row}: has a key that means nothing")
        if not str(entry.get("rule", "")).strip() or "\n" in entry.get("rule", ""):
            found.append(f"{row}: its rule is not one line")
        if not entry.get("tests") and len(entry.get("reason", "").split()) < 3:
            found.append(f"{row}: has neither a test nor a reason")
        for test in entry.get("tests", ()):
            path, _, name = test.partition("::")
            if not name.startswith("test_"):
                found.append(f"{row}: {test} is no test")
            elif not (TESTS / path).is_file() or name not in functions(path):
                found.append(f"{row}: there is no {test}")
    return found


def test_every_row_has_a_test_that_exists_or_a_reason():
    assert problems(rows()) == []


GOOD = {row: {"rule": "a rule", "reason": "not built yet here"} for row in EXPECTED}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"1.1": None}, "1.1: is not in the table"),
        ({"99.1": {"rule": "x", "reason": "a b c"}}, "99.1: is no row"),
        ({"1.1": {"rule": "x"}}, "1.1: has neither a test nor a reason"),
        ({"1.1": {"rule": "x", "reason": "  "}}, "1.1: has neither a test nor a reason"),
        ({"1.1": {"rule": "", "reason": "a b c"}}, "1.1: its rule is not one line"),
        ({"1.1": {"rule": "x", "tests": ["unit/test_pains.py::test_gone"]}}, "1.1: there is no unit/test_pains.py::test_gone"),
        ({"1.1": {"rule": "x", "tests": ["unit/gone.py::test_x"]}}, "1.1: there is no unit/gone.py::test_x"),
        ({"1.1": {"rule": "x", "tests": ["unit/test_pains.py::rows"]}}, "1.1: unit/test_pains.py::rows is no test"),
    ],
)  # fmt: skip
def test_the_check_notices(change, told):
    table = {row: entry for row, entry in {**GOOD, **change}.items() if entry is not None}
    assert problems(table) == [told]


def test_the_check_takes_a_table_without_a_problem():
    assert problems(GOOD) == []
