"""Several providers and processes on one folder: who gets what, in which order, and when it goes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from tests.unit.spool_rig import MUCH, Faulty, Opened, event, segments, text

from agent_tracking.counters import LaneCounters
from agent_tracking.names import IdPrefix
from agent_tracking.sources.spool import reading
from agent_tracking.sources.spool.browse import Browser
from agent_tracking.sources.spool.dead import DeadLetters
from agent_tracking.sources.spool.folder import file_name
from agent_tracking.sources.spool.lines import encode
from agent_tracking.sources.spool.spool import Spool, SpoolSettings


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(files=None, **more):
        made.append(Opened(tmp_path / "spool", files, **more))
        return made[-1]

    yield make
    for each in made:
        each.spool.close()


def writer(folder, **more):
    """Return a process that only writes."""
    spool = Spool(SpoolSettings(path=str(folder), delivers=False, **more), IdPrefix().head)
    assert spool.look()
    return spool


def lines_in(folder):
    """Return how many records stand in the segments, whose first line is their header."""
    return sum(path.read_bytes().count(b"\n") - 1 for path in segments(folder))


def aged(path, seconds):
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


# Who delivers.


def test_one_of_several_processes_delivers_what_all_of_them_write(opened):
    processes = [opened() for _ in range(4)]
    assert [each.source.leads() for each in processes] == [True, False, False, False]
    for number, each in enumerate(processes):
        each.spool.append([text(f"{number}-{n}") for n in range(5)])
    for each in processes:
        each.look()
    assert [each.take_all() for each in processes[1:]] == [[], [], []]
    assert len(processes[0].take_all()) == 20


class Reads(Faulty):
    """Remembers where lines of records were read; a header, at the start, is read with what follows it."""

    def __init__(self):
        super().__init__()
        self.offsets = []

    def read(self, fd, size, offset):
        data = super().read(fd, size, offset)
        if offset and b"xxx" in data:
            self.offsets.append(offset)
        return data


def test_what_this_process_has_just_written_its_lanes_need_not_read(opened):
    files = Reads()
    one = opened(files)
    events = [event(n) for n in range(20)]
    for half in (events[:10], events[10:]):
        assert one.spool.append([encode(each, time.time()) for each in half], half) == 10
        one.look()
    taken = one.take_records()
    assert taken == events
    assert all(mine is given for mine, given in zip(taken, events, strict=True))
    assert files.offsets == []


def test_who_did_not_write_them_reads_the_same_records_from_the_file(opened):
    files = Reads()
    one, two = opened(files), opened()
    events = [event(n) for n in range(3)]
    assert two.spool.append([encode(each, time.time()) for each in events], events) == 3
    assert one.take_records() == events
    assert len(files.offsets) == 1


def test_a_provider_that_came_after_the_last_look_gets_what_is_written_from_then_on(opened):
    first = opened()
    first.spool.append([text("before")])
    first.look()
    source = first.spool.source("later", LaneCounters())
    first.spool.append([text("after")])
    first.look()
    source.look()
    assert [record.name for record in source.take(50, MUCH)] == ["after"]


@pytest.mark.parametrize("room", [1_000, 300, 150])
def test_what_was_written_only_in_part_is_delivered_in_part(opened, room):
    files = Reads()
    one = opened(files)
    one.spool.append([text("first")], [event("first")])
    events = [event(n) for n in range(20)]
    files.room = room
    written = one.spool.append([encode(each, time.time()) for each in events], events)
    files.room = None
    assert 0 < written < 20
    assert one.take_records() == [event("first"), *events[:written]]
    assert one.spool.append([encode(each, time.time()) for each in events[written:]], events[written:])
    assert one.take_records() == events[written:]


def test_another_one_takes_over_when_it_ends_and_repeats_nothing(opened):
    first, second = opened(), opened()
    second.spool.append([text(n) for n in range(10)])
    first.look()
    first.source.take(6, MUCH)
    first.source.settle(6)
    first.spool.abandon()
    assert second.take_all() == ["6", "7", "8", "9"]


def test_it_takes_over_what_was_written_a_moment_before_the_other_one_died(opened):
    first, second = opened(), opened()
    second.look()
    first.spool.append([text("settled"), text("left")])
    first.look()
    assert len(first.source.take(1, MUCH)) == 1
    first.source.settle(1)
    first.spool.abandon()
    second.source._next_check = 0.0
    second.source.look()
    assert [record.message_id for record in second.source.take(10, MUCH)] == ["left"]


def test_who_does_not_deliver_sees_what_became_of_its_records(opened):
    first, second = opened(), opened()
    second.spool.append([text(n) for n in range(4)])
    end = second.source.end()
    assert (end, second.source.settled()) == (4, 0)
    first.look()
    first.source.take(2, MUCH)
    first.source.settle(2)
    second.look()
    assert 0 < second.source.settled() < 4
    assert len(first.take_all()) == 2
    second.look()
    assert second.source.settled() == end


def test_who_cannot_wait_makes_the_other_one_send_at_once(opened):
    first, second = opened(), opened()
    first.look()
    assert not first.source.urgent()
    second.spool.append([text("x")])
    second.source.hurry()
    first.look()
    assert first.source.urgent()
    first.take_all()
    assert not first.source.urgent()


def test_a_folder_that_is_removed_and_made_anew_has_one_who_delivers_again(opened):
    first = opened()
    assert first.source.leads()
    shutil.rmtree(first.path)
    second = opened()
    assert second.source.leads()
    first.look()
    assert not first.source.leads()
    first.look()
    assert not first.source.leads()
    first.spool.append([text("x")])
    assert second.take_all() == ["x"]


def test_each_provider_has_its_own_position(opened):
    first = opened()
    other = first.spool.source("q", LaneCounters())
    first.spool.look()
    first.spool.append([text(n) for n in range(4)])
    other.look()
    assert first.take_all() == ["0", "1", "2", "3"]
    assert len(other.take(3, MUCH)) == 3
    other.settle(3)
    first.spool.abandon()
    second = opened()
    other = second.spool.source("q", LaneCounters())
    second.look()
    other.look()
    assert second.take_all() == []
    assert [record.message_id for record in other.take(9, MUCH)] == ["3"]


def test_a_record_that_is_routed_goes_where_it_is_to_go_and_is_settled_elsewhere(opened):
    first = opened()
    records = [event("all"), event("q only"), event("not p")]
    records[1] = type(records[1])(name="b", message_id="q only", time=0.0, only=frozenset({"q"}))
    records[2] = type(records[2])(name="c", message_id="not p", time=0.0, never=frozenset({"p"}))
    other = first.spool.source("q", LaneCounters())
    first.spool.look()
    first.spool.append([encode(record, 1.0) for record in records])
    other.look()
    assert first.take_all() == ["all"]
    assert [record.message_id for record in other.take(9, MUCH)] == ["all", "q only", "not p"]
    assert first.source.settled() == 3


# Who comes, and who goes.


def test_the_first_providers_get_what_was_written_before_they_came(tmp_path):
    app = writer(tmp_path / "spool")
    app.append([text(n) for n in range(3)])
    first = Opened(tmp_path / "spool")
    assert first.take_all() == ["0", "1", "2"]
    first.spool.close()


def test_two_processes_that_start_at_once_are_both_the_first(tmp_path):
    folder = tmp_path / "spool"
    writer(folder).append([text("before")])
    spools = [Spool(SpoolSettings(path=str(folder)), IdPrefix().head) for _ in range(2)]
    one = spools[0].source("p", LaneCounters())
    spools[0].look()  # the first one knows only p so far, when the second one comes
    two = spools[1].source("q", LaneCounters())
    spools[1].look()
    for source in (one, two):
        source.look()
        assert [record.message_id for record in source.take(9, MUCH)] == ["before"]
    for spool in spools:
        spool.close()


def test_a_provider_that_comes_later_does_not_replay_the_past(opened):
    first = opened()
    first.spool.append([text(n) for n in range(3)])
    other = first.spool.source("later", LaneCounters())
    first.look()
    first.spool.append([text("new")])
    other.look()
    assert [record.message_id for record in other.take(9, MUCH)] == ["new"]
    assert first.take_all() == ["0", "1", "2", "new"]


def test_a_provider_that_comes_later_begins_behind_whole_lines(opened):
    first = opened()
    first.spool.append([text("old")])
    (path,) = segments(first.path)
    with path.open("ab", buffering=0) as file:
        line = b"%b" % text("half")
        file.write(line[:20])  # a writer is at it just now
        other = first.spool.source("later", LaneCounters())
        first.look()
    assert other.places.offsets[path.name] == path.stat().st_size - 20


def test_a_segment_goes_when_every_known_provider_is_done_with_it(opened):
    first = opened()
    other = first.spool.source("q", LaneCounters())
    first.look()
    first.spool.append([text(n) for n in range(3)])
    first.spool._writer.seal()
    assert len(first.take_all()) == 3
    first.spool._housekeeper.tidy(force=True)
    assert len(segments(first.path)) == 1
    other.look()
    other.take(9, MUCH)
    other.settle(3)
    other._next_check = 0.0
    other.look()
    first.spool._housekeeper.tidy(force=True)
    assert segments(first.path) == []


def test_a_provider_that_is_gone_does_not_keep_files_for_ever(opened):
    first = opened()
    gone = first.spool.source("gone", LaneCounters())
    first.look()
    first.spool.append([text("x")])
    gone.look()
    first.spool.forget("gone")
    first.take_all()
    aged(Path(first.path) / "gone.pos", 8 * 86_400)
    first.spool._housekeeper.tidy(force=True)
    assert (Path(first.path) / "gone.pos").exists()  # this process has just begun: gone may be about to come
    first.spool._housekeeper._since -= 3601
    first.spool._housekeeper.tidy(force=True)
    assert sorted(path.name for path in Path(first.path).glob("gone.*")) == []
    first.spool._writer.seal()
    first.take_all()
    first.spool._housekeeper.tidy(force=True)
    assert segments(first.path) == []


def test_a_provider_that_delivers_looks_alive_even_if_nothing_comes(opened):
    first = opened()
    aged(Path(first.path) / "p.pos", 1000)
    first.source.places._touched -= 60
    first.look()
    assert time.time() - (Path(first.path) / "p.pos").stat().st_mtime < 100


@pytest.mark.parametrize(
    "name", ["a/b", "..", "ü", "@folder", "x.old", "n" * 300, "a b%2F", ".", "CON", "p~q", "\n"]
)
def test_any_name_of_a_provider_is_a_name_of_a_file_in_the_folder(tmp_path, name):
    spool = Spool(SpoolSettings(path=str(tmp_path / "spool")), IdPrefix().head)
    source = spool.source(name, LaneCounters())
    spool.look()
    spool.append([text("x")])
    source.look()
    taken = source.take(9, MUCH)
    source.set_aside(taken[0], "rejected")
    source.settle(1)
    assert Browser(str(tmp_path / "spool")).providers() == [name]
    assert [letter.provider for letter in DeadLetters(spool.folder).read(name)] == [name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool"]
    spool.close()


def test_names_that_are_cut_alike_stay_apart():
    assert file_name("n" * 300) != file_name("n" * 301)


# Order.


def test_segments_are_delivered_oldest_first(opened, tmp_path):
    app = writer(tmp_path / "spool")
    for number in range(5):
        app.append([text(f"{number}-{n}") for n in range(3)])
        app._writer.seal()
    first = opened()
    assert first.take_all() == [f"{number}-{n}" for number in range(5) for n in range(3)]


def test_after_an_outage_every_fourth_batch_is_of_the_newest_so_new_records_do_not_wait_for_all(
    opened, tmp_path
):
    app = writer(tmp_path / "spool")
    for number in range(4):
        app.append([text(f"old-{number}-{n}", 10_000) for n in range(100)])
        app._writer.seal()
    app.append([text(f"new-{n}") for n in range(200)])
    first = opened()
    batches = []
    while taken := first.source.take(20, MUCH):
        first.source.settle(len(taken))
        batches.append([record.message_id for record in taken])
    assert [batch[0].startswith("new") for batch in batches[:8]] == [False, False, False, True] * 2
    old = [name for batch in batches for name in batch if name.startswith("old")]
    new = [name for batch in batches for name in batch if name.startswith("new")]
    assert old == [f"old-{number}-{n}" for number in range(4) for n in range(100)]
    assert new == [f"new-{n}" for n in range(200)]


def test_without_a_backlog_the_order_is_that_of_the_segments(opened, tmp_path):
    app = writer(tmp_path / "spool")
    for number in range(3):
        app.append([text(f"{number}-{n}") for n in range(20)])
        app._writer.seal()
    first = opened()
    found = []
    while taken := first.source.take(5, MUCH):
        first.source.settle(len(taken))
        found += [record.message_id for record in taken]
    assert found == [f"{number}-{n}" for number in range(3) for n in range(20)]


# Bounds.


def size_of(path):
    return sum(each.stat().st_size for each in segments(path))


def test_the_folder_never_holds_more_bytes_than_it_may_and_what_is_dropped_is_counted(opened):
    most = 200_000
    first = opened(most=most)
    written = 0
    for number in range(300):
        written += first.spool.append([text(f"{number}-{n}", 100) for n in range(10)])
        assert size_of(first.path) <= most
    assert written == 3000
    found = first.take_all()
    stats = first.counters.snapshot()
    assert stats.dropped == {"queue-full": 3000 - len(found)}
    assert stats.accepted == 3000
    assert found == [f"{number}-{n}" for number in range(300) for n in range(10)][-len(found) :]
    assert len(found) > 300
    assert sum("spool is full" in problem for problem in first.problems) >= 1


def test_several_writers_together_keep_the_bound(opened, tmp_path):
    most = 200_000
    apps = [writer(tmp_path / "spool", most=most) for _ in range(5)]
    for number in range(60):
        for app in apps:
            assert app.append([text(f"{number}-{n}", 100) for n in range(10)]) == 10
            assert size_of(tmp_path / "spool") <= most


def test_the_bound_holds_while_many_segments_grow_a_little_at_a_time(tmp_path):
    most = 64 * 2_000
    apps = [writer(tmp_path / "spool", most=most) for _ in range(20)]
    for n in range(1000):
        apps[0].append([text(n)])
    for number in range(30):
        for app in apps:
            assert app.append([text(number)]) == 1
            assert size_of(tmp_path / "spool") <= most


def test_what_is_dropped_before_any_provider_came_is_counted_where_it_was_written(tmp_path):
    app = writer(tmp_path / "spool", most=100_000)
    for number in range(200):
        app.append([text(f"{number}-{n}", 100) for n in range(10)])
    assert app.dropped == {"queue-full": 2000 - lines_in(tmp_path / "spool")}


@pytest.mark.parametrize("looked", [True, False], ids=["looked-before", "looked-after"])
def test_a_batch_that_is_under_way_is_not_counted_as_dropped(opened, tmp_path, looked):
    first = opened(most=100_000)
    first.spool.append([text(f"a-{n}", 100) for n in range(10)])
    first.look()
    taken = first.source.take(10, MUCH)
    for number in range(200):
        first.spool.append([text(f"{number}-{n}", 100) for n in range(10)])
    if looked:
        first.look()
        assert first.counters.snapshot().dropped == {"queue-full": 2000 - lines_in(tmp_path / "spool")}
    first.counters.deliver(len(taken))
    first.source.settle(10)
    found = first.take_all()
    assert first.counters.snapshot().dropped == {"queue-full": 2000 - len(found)}
    assert first.counters.snapshot().accepted == 2010


@pytest.mark.parametrize("looked", [True, False], ids=["looked-before", "looked-after"])
def test_a_batch_that_is_given_back_after_its_file_had_to_go_counts_as_dropped(opened, looked):
    first = opened(most=100_000)
    first.spool.append([text(f"a-{n}", 100) for n in range(10)])
    first.look()
    taken = first.source.take(10, MUCH)
    for number in range(200):
        first.spool.append([text(f"{number}-{n}", 100) for n in range(10)])
    if looked:
        first.look()
    first.source.release(taken)
    found = first.take_all()
    assert first.counters.snapshot().dropped == {"queue-full": 2010 - len(found)}
    assert first.counters.snapshot().accepted == 2010


def test_only_what_a_provider_had_not_got_counts_as_dropped_for_it(opened):
    first = opened(most=100_000)
    counters = LaneCounters()
    slow = first.spool.source("slow", counters)
    first.look()
    got = 0
    for number in range(100):
        first.spool.append([text(f"{number}-{n}", 100) for n in range(10)])
        got += len(first.take_all())
    slow.look()
    assert first.counters.snapshot().dropped == {}
    assert got == 1000
    assert counters.snapshot().dropped["queue-full"] > 100


def test_a_record_that_is_larger_than_the_whole_bound_costs_itself_only(opened):
    first = opened(most=10_000)
    assert first.spool.append([text("small"), text("large", 50_000), text("after")]) == 1
    assert first.take_all() == ["small"]


def test_what_is_too_old_is_given_up_and_counted(opened, tmp_path):
    app = writer(tmp_path / "spool")
    app.append([text(f"old-{n}") for n in range(7)])
    app._writer.seal()
    aged(segments(tmp_path / "spool")[0], 8 * 86_400)
    app.append([text("new")])
    first = opened()
    first.spool._housekeeper.tidy(force=True)
    first.spool._index.seal()
    first.spool._housekeeper.tidy(force=True)
    assert first.take_all() == ["new"]
    assert first.counters.snapshot().dropped == {"expired": 7}


def test_a_segment_is_closed_in_time_to_become_too_old(opened):
    first = opened(age=100.0)
    first.spool.append([text("a")])
    first.spool._writer._begun -= 11
    first.spool.append([text("b")])
    assert len(segments(first.path)) == 2


def test_opening_reads_no_more_of_a_large_backlog_than_of_a_small_one(tmp_path):
    class Counting(Faulty):
        bytes = 0

        def read(self, fd, size, offset):
            data = super().read(fd, size, offset)
            self.bytes += len(data)
            return data

    read = []
    for count in (10, 60):
        folder = tmp_path / str(count)
        app = writer(folder, most=10**9)
        app._writer._most = 50_000
        for number in range(count):
            app.append([text(f"{number}-{n}", 1000) for n in range(400)])
        files = Counting()
        first = Opened(folder, files)
        assert first.source.waiting() > count * 300
        assert len(first.source.take(500, MUCH)) == 500
        read.append(files.bytes)
        first.spool.close()
    headers = 50 * 9 * 4096  # each file's header is looked at
    assert read[1] < read[0] + headers


def test_of_a_backlog_only_a_little_is_in_memory(opened, tmp_path):
    app = writer(tmp_path / "spool")
    for number in range(200):
        app.append([text(f"{number}-{n}", 500) for n in range(200)])
    first = opened()
    assert first.source.waiting() > 30_000
    most = 0
    while taken := first.source.take(500, MUCH):
        most = max(most, first.source._reading.ahead())
        first.source.settle(len(taken))
    assert most <= reading.AHEAD + 2000
