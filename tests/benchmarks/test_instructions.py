"""Instruction counts: cut apart rightly, the same each time, and a change is noticed."""

from __future__ import annotations

import json
import shutil

import pytest
from benchmarks import instructions
from benchmarks.instructions import FLOOR, NoValgrindError, compare, count, pieces_of

BUILD = {"python": "3.11.7", "orjson": "3.13.0"}
KEPT = {"build": BUILD, "instructions": {FLOOR: 8_000.0, "track": 24_000.0}}


def dump(total):
    return f"events: Ir\nsummary: {total}\n\nfn=(1) a\n1 5\ntotals: {total}\n"


def test_every_second_piece_is_one_that_was_asked_for():
    dumps = [dump(total) for total in (900_000, 1_000, 77, 3_000)]
    assert pieces_of(dumps, ["a", "b"], 10) == {"a": 100.0, "b": 300.0}


def test_a_mark_too_many_or_too_few_is_noticed():
    with pytest.raises(NoValgrindError, match="3 pieces were counted, 4 are expected"):
        pieces_of([dump(1)] * 3, ["a", "b"], 10)


@pytest.mark.parametrize(
    ("now", "said"), [(25_100, ""), (25_300, "5.4% more"), (22_900, ""), (22_700, "5.4% less")]
)
def test_five_percent_are_noticed_on_the_same_build(now, said):
    found = compare({FLOOR: 8_000.0, "track": now}, KEPT, BUILD)
    assert (said in found[0]) if said else not found


def test_on_another_build_multiples_of_the_floor_are_compared():
    other = {**BUILD, "python": "3.11.9"}
    assert compare({FLOOR: 16_000.0, "track": 48_000.0}, KEPT, other) == []
    assert compare({FLOOR: 10_000.0, "track": 24_000.0}, KEPT, other) == []
    (said,) = compare({FLOOR: 8_000.0, "track": 30_000.0}, KEPT, other)
    assert "3.75 times the floor, 25.0% more than 3" in said


def test_with_nothing_kept_there_is_nothing_to_compare():
    assert compare({"track": 1.0}, None, BUILD) == []


def test_without_valgrind_it_says_that_nothing_was_counted(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert instructions.main(["--check"]) == 0
    assert "SKIPPED, nothing was counted: valgrind is not installed" in capsys.readouterr().err


def test_what_is_kept_is_of_the_pythons_that_are_supported():
    kept = json.loads(instructions.KEPT.read_text())
    assert list(kept) == ["3.10", "3.11", "3.12", "3.13"]
    for each in kept.values():
        assert each["instructions"].keys() >= {FLOOR, "track, nine properties, user id"}


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_counts_are_the_same_each_time():
    first, second = count(), count()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert second[name] == pytest.approx(value, rel=0.02), name
