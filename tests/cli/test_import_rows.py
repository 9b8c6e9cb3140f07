"""``agent-tracking import``: lines, rows, times and ids, whatever the file holds."""

from __future__ import annotations

import csv
import gzip
import io
import json
import time
import uuid
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_tracking import Tracker
from agent_tracking.cli.importing import files
from agent_tracking.cli.importing.delivery import Delivery
from agent_tracking.cli.importing.files import TOO_LONG, Lines, open_input
from agent_tracking.cli.importing.mapping import Choices, parse_maps
from agent_tracking.cli.importing.problems import BadInput, BadLine
from agent_tracking.cli.importing.records import Maker, derived_id
from agent_tracking.cli.importing.rows import chunks, csv_rows, json_rows, read_header
from agent_tracking.cli.importing.times import clock
from agent_tracking.counters import FlushResult

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)


class Trickle(io.RawIOBase):
    """A stream that gives out as little at a time as it likes."""

    def __init__(self, data, sizes):
        self._data, self._sizes, self._at = data, sizes, 0

    def read(self, _size=-1):
        size = next(self._sizes)
        self._at += size
        return self._data[self._at - size : self._at]


def _sizes(numbers):
    while True:
        yield from numbers


def chunk_of(form, data, choices=None, header=None):
    lines = Lines(io.BytesIO(data))
    if form == "csv":
        header, delimiter = read_header(lines)
        rows = csv_rows(lines, header, delimiter)
    else:
        rows = json_rows(lines)
    maker = Maker(choices or Choices(), 0.0, header)
    return next(chunks(rows, maker, lines, Source(), first=False))


class Source:
    def read_bytes(self):
        return 0


@given(st.binary(max_size=60), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_lines_are_those_of_the_file_however_they_are_read(data, numbers):
    lines = Lines(Trickle(data, _sizes(numbers)))
    body = data.removeprefix(b"\xef\xbb\xbf") if numbers[0] >= 3 else data
    found, positions = [], []
    for line in lines:
        found.append(line)
        positions.append(lines.position)
    assert found == [line.removesuffix(b"\n") for line in io.BytesIO(body)]
    assert lines.number == len(found)
    assert positions == sorted(positions)
    if found:
        assert positions[-1] == len(data)


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(0, 12))
def test_what_is_left_behind_a_position_is_what_was_not_taken_before_it(sizes, taken):
    data = b"".join(b"x" * size + b"\n" for size in sizes)
    first = Lines(io.BytesIO(data))
    before = [line for _, line in zip(range(taken), first, strict=False)]
    second = Lines(io.BytesIO(data))
    second.skip_to(first.position, first.number)
    assert before + list(second) == data.split(b"\n")[:-1]
    assert second.number == len(sizes)


def test_a_line_longer_than_any_record_is_left_out_and_never_held_whole(monkeypatch):
    monkeypatch.setattr(files, "_BLOCK", 10)
    monkeypatch.setattr(files, "_LONGEST", 20)
    data = b"one\n" + b"x" * 95 + b"\ntwo\n" + b"y" * 50
    lines = Lines(io.BytesIO(data))
    assert [line if line is not TOO_LONG else "long" for line in lines] == [b"one", "long", b"two", "long"]
    assert (lines.number, lines.position) == (4, len(data))


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=8))
def test_csv_rows_are_what_was_written_whatever_is_in_the_cells(rows):
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [["event", "timestamp", "a", "b", "c"], *(["e", "1", *row] for row in rows)]
    )
    chunk = chunk_of("csv", out.getvalue().encode(), Choices(each_line=True, text=True))
    assert chunk.problems == []
    expected = [{k: v for k, v in zip("abc", row, strict=True) if v} for row in rows]
    assert [record[1] for record in chunk.records.values()] == expected
    assert chunk.position == len(out.getvalue().encode())


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=6), st.sampled_from(["csv", "jsonl"]))
def test_any_bytes_are_rows_or_problems_and_never_an_error(lines, form):
    data = b"event,timestamp,x\n" + b"\n".join(lines)
    chunk = chunk_of(form, data)
    assert chunk.position == len(data)
    assert chunk.rows == chunk.wrong + len(chunk.records) + chunk.repeated


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
_KEYS = ["event", "name", "type", "id", "messageId", "userId", "anonymousId", "sessionId", "timestamp"]
_KEYS += ["properties", "traits", "context", "other"]


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(_KEYS), _JSON | st.sampled_from(["identify", "track", "page"])))
def test_any_json_object_is_a_record_or_a_problem(row):
    chunk = chunk_of("jsonl", json.dumps(row).encode())
    assert chunk.wrong + len(chunk.records) == 1
    for name, data, user_id, anonymous_id, session_id, seconds, key in chunk.records.values():
        assert name is None or isinstance(name, str)
        assert isinstance(data, dict)
        assert all(each is None or type(each) in {str, int} for each in (user_id, anonymous_id, session_id))
        assert isinstance(seconds, float)
        assert isinstance(key, str)


@pytest.mark.parametrize(
    ("row", "name", "data"),
    [
        ({"type": "identify", "userId": "u", "name": "Ann"}, None, {"name": "Ann"}),
        ({"type": "IDENTIFY", "userId": "u", "traits": {"a": 1}, "context": {}}, None, {"a": 1}),
        ({"event": "$identify", "userId": "u", "a": 1}, None, {"a": 1}),
        ({"type": "identify", "event": "$identify", "userId": "u", "version": 2}, None, {}),
        ({"type": "track", "event": "e", "a": 1, "context": {}, "integrations": {}}, "e", {"a": 1}),
        ({"event": "e", "context": "kept", "type": "premium"}, "e", {"context": "kept", "type": "premium"}),
        ({"event": "e", "type": "page"}, "e", {"type": "page"}),
        ({"event": "e", "name": "Ann", "properties": {"a": 1}}, "e", {"a": 1}),
        ({"event": "e", "properties": '{"a": 1}'}, "e", {"a": 1}),
        ({"event": "e", "properties": None, "a": 1}, "e", {"a": 1}),
        ({"event": "e", "properties": "text"}, "e", {"properties": "text"}),
    ],
)
def test_what_a_json_line_is_and_what_it_has(row, name, data):
    chunk = chunk_of("jsonl", json.dumps({**row, "timestamp": 1}).encode())
    assert chunk.problems == []
    (record,) = chunk.records.values()
    assert record[:2] == (name, data)


def test_a_mapped_type_is_track_or_identify_and_nothing_else():
    choices = Choices(columns={"type": "kind"})
    data = b"kind,user_id,event,timestamp\ntrack,u,e,1\nidentify,u,,\n,u,e,1\ncancel,u,e,1\n"
    chunk = chunk_of("csv", data, choices)
    assert [record[0] for record in chunk.records.values()] == ["e", None, "e"]
    assert chunk.problems == [(5, "its type 'cancel' is neither 'track' nor 'identify'")]


@pytest.mark.parametrize(
    "data",
    [
        b'event,timestamp\n"e,1\nf,2\n',
        b'event,timestamp\ne"x"y,1\n"e"x,2\n',
        b"event,timestamp\ne,1,2\n",
        b"event,timestamp\n\xff,1\n",
    ],
)
def test_csv_that_is_no_csv_is_a_problem_and_no_guess(data):
    chunk = chunk_of("csv", data)
    assert chunk.wrong >= 1
    assert chunk.problems[0][0] in {2, 3}


@pytest.mark.parametrize(
    ("form", "value", "seconds"),
    [
        (None, "2026-05-04T10:00:00Z", 1777888800.0),
        (None, "2026-05-04T10:00:00.5+02:00", 1777881600.5),
        (None, "2026-05-04 10:00:00", 1777888800.0),
        (None, " 2026-05-04 10:00:00 UTC ", 1777888800.0),
        (None, "2026-05-04T10:00", 1777888800.0),
        (None, "2026-05-04", 1777852800.0),
        (None, 1777888800, 1777888800.0),
        (None, 1777888800.25, 1777888800.25),
        (None, "1777888800.25", 1777888800.25),
        (None, 1777888800250, 1777888800.25),
        (None, "1777888800250", 1777888800.25),
        (None, 1777888800250000, 1777888800.25),
        (None, 1777888800250000000, 1777888800.25),
        ("unix", 5_000_000_000, 5_000_000_000.0),
        ("unix_ms", "250", 0.25),
        ("unix_us", 250, 0.00025),
        ("unix_ns", 1777888800250000000, 1777888800.25),
        ("iso", "2026-05-04", 1777852800.0),
        ("%d.%m.%Y %H:%M", "04.05.2026 10:00", 1777888800.0),
        ("%Y-%m-%dT%H:%M:%S%z", "2026-05-04T10:00:00+0200", 1777881600.0),
    ],
)
def test_times_are_read_as_they_are_written(form, value, seconds):
    assert clock(form)(value) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (None, "yesterday"),
        (None, "04.05.2026"),
        (None, "1.2.3"),
        (None, -1),
        (None, True),
        (None, ["2026-05-04"]),
        (None, float("inf")),
        (None, 10**400),
        (None, "1969-01-01T00:00:00Z"),
        ("unix", "2026-05-04"),
        ("unix", "nan"),
        ("unix_ms", None),
        ("iso", 1777888800),
        ("%d.%m.%Y", "2026-05-04"),
    ],
)
def test_what_is_no_time_is_never_guessed(form, value):
    with pytest.raises(BadLine, match="the time"):
        clock(form)(value)


@given(st.floats(0, 253_402_300_799))
def test_every_time_of_four_digit_years_comes_back(seconds):
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    for text in (moment.isoformat(), moment.isoformat(" "), moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")):
        assert clock(None)(text) == moment.timestamp()


def test_a_column_may_have_a_colon_in_its_name():
    assert parse_maps(["timestamp=a:b", "user_id=c:unix"]) == (
        {"timestamp": "a:b", "user_id": "c:unix"},
        None,
    )
    assert parse_maps(["time=a:b:unix_ms"]) == ({"timestamp": "a:b"}, "unix_ms")
    assert parse_maps(["timestamp=when:%H:%M"]) == ({"timestamp": "when"}, "%H:%M")


@given(st.binary(max_size=30))
def test_ids_are_uuid5_of_the_bytes(content):
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "agent_tracking:import")
    text = content.decode("latin1").encode()  # what uuid5() makes of text
    assert derived_id(namespace.bytes + text) == str(uuid.uuid5(namespace, content.decode("latin1")))


def test_white_space_around_a_line_is_no_part_of_its_id():
    line = b'{"event":"e","timestamp":1}'
    assert chunk_of("jsonl", line).records == chunk_of("jsonl", b"  " + line + b" \r\n").records


def test_the_same_file_has_the_same_ids_with_other_mappings_but_not_as_another_table():
    data = b"event,timestamp,a\ne,1,2\n"
    ids = [list(chunk_of("csv", data, choices).records) for choices in (Choices(), Choices(text=True))]
    assert ids[0] == ids[1]
    others = [
        list(chunk_of("csv", data, Choices(name="n")).records),
        list(chunk_of("csv", data.replace(b"a\n", b"b\n")).records),
        list(chunk_of("csv", data, Choices(each_line=True)).records),
    ]
    assert len({ids[0][0], *(each[0] for each in others)}) == 4


def test_what_cannot_be_sought_again_is_no_file_to_resume(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(gzip.compress(b"{}\n"))
    for name, known in ((str(path), True), ("/dev/null", False)):
        source = open_input(name)
        assert (source.identity is not None) is known
        source.raw.close()
    with pytest.raises(BadInput, match="cannot be read: no such file"):
        open_input("a\0b")


class Hasty(Tracker):
    """A flush may end while records are between the intake and the lanes, and finds nothing waiting then."""

    def flush(self, timeout=None):
        super().flush(0)
        return FlushResult()


class Slow:
    name = "slow"

    def __init__(self):
        self.seen = 0

    def track(self, event):
        time.sleep(0.001)
        self.seen += 1


def test_a_chunk_is_settled_when_the_counters_say_so_of_each_record():
    tracker, slow = Hasty(environ={}, discover=False), Slow()
    tracker.register_provider(slow)
    chunk = chunk_of(
        "jsonl", b"".join(b'{"event":"e","timestamp":1,"n":%d}\n' % number for number in range(300))
    )
    delivery = Delivery(tracker, ["slow"], lambda: False)
    try:
        delivery.start(chunk)
        settled = delivery.settle(lambda _part, _trouble: None)
        assert (settled.lost, settled.delivered, slow.seen) == ("", {"slow": 300}, 300)
    finally:
        tracker.shutdown(0)
