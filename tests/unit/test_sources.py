"""What every source promises to its lane, whatever stands behind it: one suite for all of them.

A new source adds a rig to ``RIGS``: how records get in, and, where they outlive the process, how a later one
opens it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_tracking import Identity, TrackingEvent
from agent_tracking.counters import LaneCounters
from agent_tracking.names import IdPrefix
from agent_tracking.sources import MemorySource, Source
from agent_tracking.sources.protocol import weight
from agent_tracking.sources.spool.lines import encode
from agent_tracking.sources.spool.spool import Spool, SpoolSettings

MUCH = 10**9


def event(name: object, size: int = 2, **more) -> TrackingEvent:
    data = b'{"d":"%s"}' % (b"x" * max(0, size - 8)) if size > 8 else b"{}"
    return TrackingEvent(name=str(name), message_id=str(name), time=0.0, properties_json=data, **more)


def names(records: Sequence[TrackingEvent | Identity]) -> list[str]:
    return [record.message_id for record in records]


class Memory:
    """Records in memory."""

    durable = False

    def __init__(self, folder) -> None:
        self.source = MemorySource(100_000, MUCH)
        self.counters = LaneCounters()

    def put(self, *records) -> None:
        self.counters.accept(len(records))
        self.source.put(records, sum(map(weight, records)))
        self.source.look()

    def close(self) -> None:
        self.source.close()


class Spooled:
    """Records on disk."""

    durable = True

    def __init__(self, folder) -> None:
        self.folder = folder
        self.open()

    def open(self) -> None:
        self.counters = LaneCounters()
        self.problems: list[str] = []
        self.spool = Spool(
            SpoolSettings(path=str(self.folder / "spool")),
            IdPrefix().head,
            lambda _provider, _kind, text, _count: self.problems.append(text),
        )
        self.source = self.spool.source("p", self.counters)
        self.look()
        self.spool.founded()

    def look(self) -> None:
        assert self.spool.look()
        self.source.look()

    def put(self, *records) -> None:
        assert self.spool.append([encode(record, time.time()) for record in records]) == len(records)
        self.look()

    def die(self) -> None:
        """End as by ``kill -9``: nothing is written any more, the kernel closes the files."""
        self.spool.abandon()

    def close(self) -> None:
        assert self.problems == []
        self.spool.close()


RIGS = {"memory": Memory, "spool": Spooled}


@pytest.fixture(params=RIGS)
def rig(request, tmp_path):
    rig = RIGS[request.param](tmp_path)
    yield rig
    rig.close()


@pytest.fixture(params=[name for name, kind in RIGS.items() if kind.durable])
def durable(request, tmp_path):
    rig = RIGS[request.param](tmp_path)
    yield rig
    rig.close()


def test_it_has_every_method_of_the_protocol(rig):
    wanted = {name for name in vars(Source) if not name.startswith("_")}
    assert wanted <= set(dir(rig.source))


def test_an_empty_one_has_nothing_to_take(rig):
    assert rig.source.take(10, MUCH) == []
    assert (rig.source.waiting(), rig.source.since(), rig.source.end(), rig.source.settled()) == (
        0,
        None,
        0,
        0,
    )


def test_records_come_out_as_they_went_in_and_in_their_order(rig):
    given = [
        TrackingEvent(
            name="ünïcode \U0001f600",
            message_id="1",
            time=1.5,
            user_id="u",
            anonymous_id="a",
            session_id="s",
            properties_json=b'{"a":[1,{"b":null}],"c":"\\n\xc3\xa9"}',
        ),
        Identity(message_id="2", time=2.5, user_id="u", traits_json=b'{"plan":"pro"}'),
        event("3", only=frozenset({"p", "q"}), never=frozenset({"r"})),
    ]
    rig.put(*given)
    assert rig.source.take(10, MUCH) == given


def test_a_batch_is_bounded_in_records_and_bytes_but_holds_at_least_one(rig):
    rig.put(*[event(number, 1000) for number in range(20)])
    assert names(rig.source.take(3, MUCH)) == ["0", "1", "2"]
    rig.source.settle(3)
    assert names(rig.source.take(100, 1)) == ["3"]
    rig.source.settle(1)
    assert 2 <= len(rig.source.take(100, 5_000)) <= 5


def test_what_is_taken_is_not_taken_again(rig):
    rig.put(*map(event, range(10)))
    assert names(rig.source.take(4, MUCH)) == ["0", "1", "2", "3"]
    rig.source.settle(4)
    assert names(rig.source.take(100, MUCH)) == ["4", "5", "6", "7", "8", "9"]


def test_what_is_given_back_comes_first_again_in_its_order(rig):
    rig.put(*map(event, range(6)))
    taken = rig.source.take(4, MUCH)
    rig.source.release(taken)
    assert names(rig.source.take(100, MUCH)) == ["0", "1", "2", "3", "4", "5"]


def test_what_is_left_of_a_batch_can_be_given_back(rig):
    rig.put(*map(event, range(6)))
    taken = rig.source.take(4, MUCH)
    left = [taken[3], taken[1]]
    rig.source.settle(2, left)
    rig.source.release([taken[1], taken[3]])
    assert names(rig.source.take(100, MUCH)) == ["1", "3", "4", "5"]


def test_the_end_is_reached_when_everything_is_settled_and_not_before(rig):
    rig.put(*map(event, range(5)))
    end = rig.source.end()
    assert end == 5
    taken = rig.source.take(5, MUCH)
    assert rig.source.settled() < end
    rig.source.settle(4, taken[:1])
    assert rig.source.settled() < end
    rig.source.settle(1)
    assert rig.source.settled() == end == rig.source.end()


def test_a_record_that_is_left_holds_the_position_though_later_ones_are_settled(rig):
    rig.put(*map(event, range(3)))
    end = rig.source.end()
    rig.put(*map(event, range(3, 9)))
    taken = rig.source.take(9, MUCH)
    rig.source.settle(8, [taken[1]])
    assert rig.source.settled() < end
    rig.source.settle(1)
    assert rig.source.settled() == rig.source.end()


def test_a_later_record_does_not_move_an_earlier_end(rig):
    rig.put(*map(event, range(3)))
    end = rig.source.end()
    rig.put(event("later"))
    rig.source.take(3, MUCH)
    rig.source.settle(3)
    assert rig.source.settled() == end < rig.source.end()


def test_waiting_and_since_tell_whether_there_is_something(rig):
    before = time.monotonic()
    rig.put(*map(event, range(3)))
    assert rig.source.waiting() == 3
    assert before <= rig.source.since() <= time.monotonic()
    rig.source.take(2, MUCH)
    assert rig.source.waiting() == 1
    rig.source.settle(2)
    rig.source.take(2, MUCH)
    assert (rig.source.waiting(), rig.source.since()) == (0, None)


def test_who_delivers_here_leads(rig):
    rig.put(event("x"))
    assert rig.source.leads()
    rig.source.hurry()


def test_every_record_is_accepted_once_however_often_it_is_taken(rig):
    rig.put(*map(event, range(4)))
    rig.source.release(rig.source.take(4, MUCH))
    rig.source.release(rig.source.take(2, MUCH))
    rig.source.take(4, MUCH)
    assert rig.counters.snapshot().accepted == 4


def test_notes_about_what_is_handed_over_change_nothing(rig):
    rig.put(*map(event, range(4)))
    taken = rig.source.take(4, MUCH)
    assert not rig.source.hand_over(taken)
    assert rig.source.hand_over_one(taken[0], 2)
    rig.source.excuse()
    rig.source.handed_over()
    rig.source.set_aside(taken[3], "rejected")
    rig.source.settle(1, taken[:3])
    assert rig.source.settled() < rig.source.end()
    rig.source.release(taken[:3])
    assert names(rig.source.take(4, MUCH)) == ["0", "1", "2"]


def test_closing_twice_is_fine_and_nothing_is_taken_after_it(rig):
    rig.put(event("x"))
    rig.source.close()
    rig.source.close()
    if rig.durable:
        assert rig.source.take(10, MUCH) == []
        rig.source.settle(0)


def test_readers_of_numbers_on_other_threads_disturb_nobody(rig):
    ended = threading.Event()
    errors = []

    def read():
        while not ended.is_set():
            try:
                rig.source.waiting()
                rig.source.since()
                assert rig.source.settled() <= rig.source.end()
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    got = []
    for number in range(60):
        rig.put(*[event(number * 100 + n) for n in range(20)])
        taken = rig.source.take(15, MUCH)
        rig.source.settle(len(taken) - 2, taken[:2])
        rig.source.settle(2)
        got += taken
    while taken := rig.source.take(500, MUCH):
        rig.source.settle(len(taken))
        got += taken
    ended.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert names(got) == [str(number * 100 + n) for number in range(60) for n in range(20)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 30)),
        st.tuples(st.just("take"), st.integers(1, 20), st.sampled_from(["all", "some", "none"])),
        st.just(("die",)),
    ),
    max_size=12,
)


@pytest.mark.parametrize("kind", RIGS.values(), ids=RIGS)
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_whatever_happens_each_record_is_settled_once_and_none_is_forgotten(tmp_path_factory, kind, steps):
    rig = kind(tmp_path_factory.mktemp("source"))
    put = 0
    settled = []
    repeated = set()
    for step in steps:
        if step[0] == "put":
            rig.put(*map(event, range(put, put + step[1])))
            put += step[1]
        elif step[0] == "take":
            taken = rig.source.take(step[1], MUCH)
            left = {"all": [], "some": taken[::2], "none": taken}[step[2]]
            rig.source.settle(len(taken) - len(left), left)
            settled += [int(record.message_id) for record in taken if record not in left]
            rig.source.release(left)
        elif kind.durable:
            rig.die()
            rig.open()
            # What was settled behind something that was not may come again: rather twice than never.
            first = min(set(range(put)) - set(settled), default=put)
            repeated |= {number for number in settled if number > first}
    while taken := rig.source.take(7, MUCH):
        settled += map(int, names(taken))
        rig.source.settle(len(taken))
    assert set(settled) == set(range(put))
    assert {number for number in settled if settled.count(number) > 1} <= repeated
    rig.close()


def test_a_later_process_gets_what_was_not_settled_and_only_that(durable):
    durable.put(*map(event, range(10)))
    durable.source.take(4, MUCH)
    durable.source.settle(4)
    taken = durable.source.take(4, MUCH)
    durable.source.settle(2, taken[2:])
    durable.die()
    durable.open()
    assert names(durable.source.take(100, MUCH)) == ["6", "7", "8", "9"]


def test_a_position_never_passes_a_record_that_is_not_settled(durable):
    durable.put(*map(event, range(6)))
    taken = durable.source.take(6, MUCH)
    durable.source.settle(4, [taken[4], taken[1]])
    durable.die()
    durable.open()
    assert names(durable.source.take(100, MUCH)) == ["1", "2", "3", "4", "5"]


def test_starting_again_five_times_repeats_nothing(durable):
    durable.put(*map(event, range(10)))
    durable.source.take(10, MUCH)
    durable.source.settle(10)
    for _ in range(5):
        durable.die()
        durable.open()
        assert durable.source.take(100, MUCH) == []
        assert durable.source.waiting() == 0


def test_what_a_lane_that_went_wrong_has_not_settled_comes_again(durable):
    durable.put(*map(event, range(4)))
    durable.source.take(3, MUCH)
    assert names(durable.source.take(9, MUCH)) == ["0", "1", "2", "3"]
    durable.source.settle(4)
    assert durable.counters.snapshot().accepted == 4


def test_what_was_leased_when_it_was_closed_is_kept(durable):
    durable.put(*map(event, range(10)))
    durable.source.take(4, MUCH)
    assert durable.source.close() == 4
    durable.die()
    durable.open()
    assert len(durable.source.take(100, MUCH)) == 10


def test_a_record_that_three_processes_died_of_is_set_aside_and_no_other(durable):
    durable.put(*map(event, range(10)))
    deaths = 0
    while True:
        taken = durable.source.take(100, MUCH)
        careful = durable.source.hand_over(taken)
        survived = []
        for record in taken:
            if id(record) in careful and not durable.source.hand_over_one(record, 2):
                assert record.message_id == "6"
                continue
            if record.message_id == "6":
                break
            survived.append(record)
        else:
            durable.source.handed_over()
            durable.source.settle(len(taken))
            break
        durable.die()
        deaths += 1
        durable.open()
    assert deaths == 3
    assert names(survived) == ["0", "1", "2", "3", "4", "5", "7", "8", "9"]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_kill_at_any_other_moment_blames_nobody(durable, moment):
    durable.put(*map(event, range(10)))
    for _ in range(10):
        taken = durable.source.take(100, MUCH)
        if moment != "before":
            assert not durable.source.hand_over(taken)
            durable.source.handed_over()
        if moment == "after":
            durable.source.settle(1, taken[1:])
            durable.put(event("more"))
        durable.die()
        durable.open()
    taken = durable.source.take(100, MUCH)
    assert not durable.source.hand_over(taken)


def test_a_hook_that_waits_is_excused(durable):
    durable.put(*map(event, range(3)))
    for _ in range(10):
        taken = durable.source.take(100, MUCH)
        careful = durable.source.hand_over(taken)
        assert all(durable.source.hand_over_one(record, 2) for record in taken if id(record) in careful)
        durable.source.excuse()
        durable.die()
        durable.open()
    assert len(durable.source.take(100, MUCH)) == 3
