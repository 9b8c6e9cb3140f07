"""The spool's files when they are damaged, or of another version: never an exception, never a record invented,
and what is damaged costs itself only."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.spool_rig import MUCH, Opened, event, segments, text

from agent_tracking import Identity, TrackingEvent
from agent_tracking.counters import LaneCounters
from agent_tracking.names import IdPrefix
from agent_tracking.sources.spool.folder import Folder
from agent_tracking.sources.spool.lines import (
    VERSION,
    Header,
    decode,
    encode,
    frames,
    read_header,
    text_of,
    time_of,
)
from agent_tracking.sources.spool.position import NewerError, Position, PositionFile, load_position


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(files=None, **more):
        made.append(Opened(tmp_path / "spool", files, **more))
        return made[-1]

    yield make
    for each in made:
        each.spool.close()


# Lines.


@given(
    st.one_of(
        st.builds(
            TrackingEvent,
            name=st.text(min_size=1, max_size=20).map(lambda t: t.encode("utf-8", "replace").decode()),
            message_id=st.uuids().map(str),
            time=st.floats(0, 4e9),
            user_id=st.none() | st.text("abc\n\r\u2028", max_size=9),
            session_id=st.none() | st.text("abc", max_size=9),
            properties_json=st.sampled_from([b"{}", b'{"a": [1, 2.5, null]}', b'{\n"a":\r\n"\xc3\xa9"}']),
            only=st.none() | st.frozensets(st.sampled_from("pqr")),
            never=st.frozensets(st.sampled_from("pqr")),
        ),
        st.builds(
            Identity,
            message_id=st.uuids().map(str),
            time=st.floats(0, 4e9),
            user_id=st.text("abc", min_size=1),
            anonymous_id=st.none() | st.text("abc"),
            traits_json=st.just(b'{"a":1}'),
        ),
    )
)
def test_a_record_comes_out_of_its_line_as_it_went_in(record):
    (line,) = frames([encode(record, 123.5)])
    assert line.count(b"\n") == 1
    found = decode(text_of(line[:-1]), IdPrefix())
    assert type(found) is type(record)
    for name in ("message_id", "time", "user_id", "anonymous_id", "only", "never"):
        assert getattr(found, name) == getattr(record, name)
    assert (found.properties if isinstance(found, TrackingEvent) else found.traits) == (
        record.properties if isinstance(record, TrackingEvent) else record.traits
    )
    assert time_of(line) == 123.5


@pytest.mark.parametrize("data", [b"", b"{", b"no json", b'{"a":\xff}', b"[" * 5000])
def test_a_record_whose_data_is_no_json_has_no_line(data):
    assert encode(TrackingEvent(name="x", message_id="x", time=0.0, properties_json=data), 1.0) is None


@given(st.binary(max_size=200))
def test_no_bytes_are_taken_for_a_record_that_were_not_written_as_one(data):
    found = text_of(data)
    assert found is None or (found == data[9:] and int(data[:8], 16) == crc32(found))
    assert time_of(data) is None or isinstance(time_of(data), float)


@given(st.binary(max_size=400), st.text(max_size=20))
@example(b"agent-tracking-spool 1 ", "x")
@example(b"agent-tracking-spool 1 00000000 {}\n", "x")
def test_any_start_of_a_file_gives_a_header(data, name):
    header = read_header(data, name)
    assert header.version in {0, VERSION}
    assert 0 <= header.size <= len(data)
    assert IdPrefix(header.ids).uuid(1)


def test_a_damaged_header_costs_no_record_and_their_ids_stay_the_same_for_everybody(opened):
    first = opened()
    assert (
        first.spool.append([b'[0,%d,1.5,"e",{"n":%d},"u",null,null,null,null]\n' % (n, n) for n in range(5)])
        == 5
    )
    first.spool.close()
    (path,) = segments(first.path)
    data = bytearray(path.read_bytes())
    data[40] ^= 4
    path.write_bytes(data)
    second = opened()
    other = second.spool.source("q", LaneCounters())
    ids = second.take_all()
    assert len(set(ids)) == 5
    assert all(len(each) == 36 for each in ids)
    assert read_header(bytes(data), path.name) == read_header(bytes(data), path.name)
    assert other is not None


# A newer version's files.


def test_a_newer_versions_segment_is_left_alone_and_reported(opened, tmp_path):
    first = opened()
    first.spool.append([text("mine")])
    newer = Path(first.path) / "0000000000001-1-0.seg"
    content = Header(ids="x", version=VERSION + 1).line() + b"something else entirely\n" * 5
    newer.write_bytes(content)
    assert first.take_all() == ["mine"]
    assert newer.read_bytes() == content
    assert any("newer version" in problem and newer.name in problem for problem in first.problems)
    assert first.counters.snapshot().dropped == {}
    assert first.spool.stats().segments == 1


def test_a_newer_versions_position_is_left_alone_and_reported(opened, tmp_path):
    first = opened()
    first.spool.append([text("mine")])
    first.take_all()
    first.spool.close()
    path = Path(first.path) / "p.pos"
    folder = Folder(first.path)
    PositionFile(folder, str(path)).save(Position(provider="p", version=99))
    before = path.read_bytes()
    second = opened()
    second.spool.append([text("more")])
    assert second.take_all() == []
    assert path.read_bytes() == before
    assert any("newer version" in problem for problem in second.problems)


# Damage.


#: A place in a file, as a part of its length, which is not always the same.
PLACES = st.floats(0, 1, exclude_max=True)


@settings(max_examples=150, deadline=None)
@given(hits=st.lists(st.tuples(PLACES, st.integers(0, 255)), max_size=3), cut=st.none() | PLACES)
def test_damage_in_segments_costs_the_lines_that_it_hits_and_nothing_else(tmp_path_factory, hits, cut):
    first = Opened(tmp_path_factory.mktemp("spool"))
    first.spool.append([text(n, n * 5) for n in range(12)])
    first.spool.close()
    (path,) = segments(first.path)
    content = bytearray(path.read_bytes())
    lines = content.split(b"\n")
    starts = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines))]
    hit = set()
    for part, value in hits:
        place = int(part * len(content))
        content[place] = value
        line = max(n for n in range(len(lines)) if starts[n] <= place)
        hit |= {line, line + 1}  # a newline that is hit joins its line with the next
    if cut is not None:
        content = content[: int(cut * len(content))]
        hit |= {n for n in range(len(lines)) if starts[n] + len(lines[n]) + 1 > len(content)}
    path.write_bytes(content)
    second = Opened(first.path)
    records = second.take_records()
    found = [record.message_id for record in records]
    assert {str(n) for n in range(12) if n + 1 not in hit} <= set(found) <= {str(n) for n in range(12)}
    assert found == sorted(found, key=int)
    assert records == [event(name, int(name) * 5) for name in found]
    assert second.problems == [] or second.counters.snapshot().dropped
    second.spool.close()


NAMES = ["0.seg", "@folder.lock", "@founding.lock", "p.lock", "p.pos", "p.try", "p.jsonl"]
STRANGE = st.sampled_from(["9-9-9.seg", "q.pos", "q.lost", "p.lost", "x.seg.new"])


@settings(max_examples=100, deadline=None)
@given(
    hits=st.lists(
        st.tuples(st.sampled_from(NAMES), PLACES, st.integers(0, 20), st.binary(max_size=30)), max_size=4
    ),
    strange=st.dictionaries(STRANGE, st.binary(max_size=60), max_size=2),
)
def test_damage_anywhere_in_the_folder_raises_nothing_and_invents_nothing(tmp_path_factory, hits, strange):
    first = Opened(tmp_path_factory.mktemp("spool"))
    first.spool.append([text(n) for n in range(12)])
    first.look()
    taken = first.source.take(6, MUCH)
    first.source.hand_over(taken)
    first.source.set_aside(taken[0], "rejected")
    first.source.settle(6)
    first.spool.abandon()
    folder = Path(first.path)
    for name, part, count, put in hits:
        (path,) = folder.rglob(name.replace("0.seg", "*.seg"))
        content = bytearray(path.read_bytes())
        place = int(part * len(content))
        content[place : place + count] = put
        path.write_bytes(content)
    for name, content in strange.items():
        (folder / name).write_bytes(content)
    second = Opened(first.path)
    second.spool.append([text("more")])
    records = second.take_records()
    found = [record.message_id for record in records]
    assert set(found) <= {*map(str, range(12)), "more"}
    assert records == [event(name) for name in found]
    assert "more" in found or second.problems
    assert all(letter.id == "0" for letter in second.source._dead.read())
    second.spool.stats()
    second.spool.close()


def test_a_line_without_an_end_is_skipped_in_pieces_of_bounded_size(opened):
    first = opened()
    first.spool.append([text("before")])
    first.spool.close()
    (path,) = segments(first.path)
    with path.open("ab") as file:
        file.write(b"x" * (9 * 1024 * 1024) + b"\n" + frames([text("after")])[0])
    second = opened()
    assert second.take_all() == ["before", "after"]
    assert 1 <= second.counters.snapshot().dropped["corrupt"] <= 4


def test_a_tail_that_a_dead_writer_left_unfinished_is_counted_once_and_passed(opened):
    first = opened()
    first.spool.append([text("whole")])
    first.spool.abandon()
    (path,) = segments(first.path)
    with path.open("ab") as file:
        file.write(frames([text("torn")])[0][:-5])
    second = opened()
    assert second.take_all() == ["whole"]
    assert second.counters.snapshot().dropped == {"corrupt": 1}
    second.spool.append([text("next")])
    assert second.take_all() == ["next"]
    second.spool.close()
    assert segments(second.path) == []


def test_a_tail_that_a_living_writer_has_not_finished_is_waited_for(opened):
    first, second = opened(), opened()
    second.spool.append([text("whole")])
    (path,) = segments(first.path)
    (whole,) = frames([text("slow")])
    with path.open("ab", buffering=0) as file:
        file.write(whole[:30])
        assert first.take_all() == ["whole"]
        assert first.source.waiting() == 0
        file.write(whole[30:])
    assert first.take_all() == ["slow"]
    assert first.counters.snapshot().dropped == {}


def test_a_position_is_the_old_or_the_new_one_wherever_its_writing_stops(tmp_path):
    folder = Folder(str(tmp_path))
    path = str(tmp_path / "p.pos")
    file = PositionFile(folder, path)
    position = Position(provider="p", segments={"a.seg": 1})
    file.save(position)
    for turn in range(2, 5):
        known = position.segments
        before = Path(path).read_bytes()
        position.segments = {"a.seg": turn, "b.seg": turn}
        file.save(position)
        after = Path(path).read_bytes()
        changed = [n for n in range(len(after)) if before[n] != after[n]]
        for stop in range(changed[0], changed[-1] + 2):
            Path(path).write_bytes(after[:stop] + before[stop:])
            assert load_position(folder, path).segments in (known, position.segments)
    file.close()


def test_a_position_of_many_segments_gets_the_room_that_it_needs(tmp_path):
    folder = Folder(str(tmp_path))
    path = str(tmp_path / "p.pos")
    file = PositionFile(folder, path)
    position = Position(provider="p")
    for n in range(200):
        position.segments = {f"{k}.seg": n for k in range(n * 3)}
        file.save(position)
        assert load_position(folder, path).segments == position.segments
    file.close()


def test_a_position_without_a_whole_half_means_from_the_start(opened):
    first = opened()
    first.spool.append([text(n) for n in range(3)])
    assert len(first.take_all()) == 3
    first.spool.abandon()
    (Path(first.path) / "p.pos").write_bytes(b"rubbish")
    assert opened().take_all() == ["0", "1", "2"]


def test_newer_is_told_from_damaged(tmp_path):
    folder = Folder(str(tmp_path))
    path = str(tmp_path / "p.pos")
    assert load_position(folder, path) is None
    PositionFile(folder, path).save(Position(provider="p", version=2))
    with pytest.raises(NewerError):
        load_position(folder, path)
