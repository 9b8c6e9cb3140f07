"""What is set aside, and what who looks on sees."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.unit.spool_rig import MUCH, Opened, event, text

from agent_tracking.counters import LaneCounters
from agent_tracking.names import IdPrefix
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.dead import DeadLetters
from agent_tracking.sources.spool.folder import SpoolError
from agent_tracking.sources.spool.lines import decode, encode
from agent_tracking.sources.spool.spool import Spool, SpoolSettings, retry_dead


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(files=None, **more):
        made.append(Opened(tmp_path / "spool", files, **more))
        return made[-1]

    yield make
    for each in made:
        each.spool.close()


# Records that were set aside.


def test_what_is_set_aside_is_listed_with_its_reason_and_each_record_once(opened):
    first = opened()
    for _ in range(2):
        first.source.set_aside(event("a"), "rejected")
    first.source.set_aside(event("b"), "too-large")
    letters = list(first.source._dead.read())
    assert [(letter.id, letter.provider, letter.reason) for letter in letters] == [
        ("a", "p", "rejected"),
        ("b", "p", "too-large"),
    ]
    assert letters[0].record() == event("a")
    assert "xxx" not in repr(letters[0])


def test_of_too_many_set_aside_the_oldest_go(opened):
    first = opened()
    dead = DeadLetters(first.spool.folder, most=20_000)
    gone = sum(dead.add("p", event(f"{n}", 500), "rejected") for n in range(100))
    kept = list(dead.read("p"))
    assert gone + len(kept) == 100
    assert kept[-1].id == "99"
    assert sum(path.stat().st_size for path in (Path(first.path) / "dead").iterdir()) <= 20_000


def test_those_that_are_dropped_are_forgotten_and_the_others_stay(opened):
    first = opened()
    dead = first.source._dead
    for n in range(5):
        dead.add("p", event(n), "rejected")
    dead.add("q", event(0), "rejected")
    assert dead.drop("p", {"1", "3", "77"}) == 2
    assert [letter.id for letter in dead.read("p")] == ["0", "2", "4"]
    assert dead.drop("p") == 3
    assert dead.providers() == ["q"]


def test_those_that_are_sent_again_go_to_their_provider_only_with_the_same_id(opened):
    first = opened()
    other = first.spool.source("q", LaneCounters())
    first.look()
    for n in range(3):
        first.source._dead.add("p", event(n), "rejected")
    assert retry_dead(first.path, "p", {"0", "2"}, most=10**9) == 2
    assert [letter.id for letter in first.source._dead.read("p")] == ["1"]
    assert first.take_all() == ["0", "2"]
    other.look()
    assert other.take(9, MUCH) == []


def test_sending_again_into_a_folder_that_takes_nothing_loses_nothing(opened, tmp_path):
    first = opened()
    first.source._dead.add("p", event("x"), "rejected")
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="not a folder"):
        retry_dead(str(tmp_path / "file"), "p", most=10**9)
    assert retry_dead(first.path, "p", most=10) == 0
    assert [letter.id for letter in first.source._dead.read("p")] == ["x"]


# Looking on.


def test_the_lag_is_told_for_each_provider_in_records_bytes_and_seconds(opened):
    first = opened()
    first.spool.source("q", LaneCounters())
    first.look()
    first.spool.append([encode(event(n), time.time() - 60) for n in range(100)])
    assert len(first.take_all()) == 100
    stats = first.spool.stats()
    assert (stats.providers["p"].records, stats.providers["p"].bytes, stats.providers["p"].seconds) == (
        0,
        0,
        0.0,
    )
    lag = stats.providers["q"]
    assert 90 <= lag.records <= 110
    assert lag.bytes == stats.bytes
    assert 55 < lag.seconds < 120


def test_who_looks_on_sees_all_and_changes_nothing(opened):
    first = opened()
    first.spool.append([text(n) for n in range(10)])
    first.look()
    first.source.take(4, MUCH)
    first.source.settle(4)
    first.source.set_aside(event("dead"), "rejected")
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in Path(first.path).rglob("*")
        if path.is_file()
    }
    browser = Browser(first.path)
    stats = browser.stats()
    assert browser.providers() == ["p"]
    assert (stats.providers["p"].leader, stats.providers["p"].dead) == (os.getpid(), 1)
    assert 5 <= stats.providers["p"].records <= 7
    waiting = list(browser.waiting("p"))
    assert [each.record.message_id for each in waiting] == ["4", "5", "6", "7", "8", "9"]
    assert all(abs(each.time - time.time()) < 60 for each in waiting)
    after = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in Path(first.path).rglob("*")
        if path.is_file()
    }
    assert before == after
    first.spool.close()
    assert Browser(first.path).leader("p") is None


def test_where_there_is_no_spool_one_line_says_so(tmp_path):
    with pytest.raises(SpoolError, match="there is no spool") as caught:
        Browser(str(tmp_path / "nowhere"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "nowhere").exists()


def test_bad_records_of_an_app_that_does_not_look_into_them_are_counted_by_who_delivers(opened):
    first = opened()
    first.spool.append(
        [
            b'[0,0,1.0,"",null,"u",null,null,null,null]',
            b"[1,1,1.0,null,{},null,null,null,null,null]",
            b"[]",
            b"{}",
        ]
    )
    first.spool.append([text("good")])
    assert first.take_all() == ["good"]
    stats = first.counters.snapshot()
    assert stats.dropped == {"bad-name": 1, "bad-id": 1, "unusable": 2}
    assert stats.accepted == 5


def test_records_of_another_process_keep_their_ids(opened, tmp_path):
    ids = IdPrefix()
    app = Spool(SpoolSettings(path=str(tmp_path / "spool"), delivers=False), ids.head)
    app.look()
    entry = b'[0,7,1.0,"x",null,"u",null,null,null,null]\n'
    app.append([entry])
    first = opened()
    assert first.take_all() == [ids.uuid(7)] == [decode(entry, ids).message_id]
