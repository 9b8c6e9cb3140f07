"""``agent-tracking import``: what a file holds arrives, and everybody is told what came of it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from agent_tracking.testing import SinkProcess

LINES = [
    {
        "event": "order paid",
        "properties": {"total": 9.5},
        "userId": "u1",
        "timestamp": "2026-05-04T10:00:00Z",
    },
    {
        "type": "identify",
        "userId": "u1",
        "anonymousId": "a1",
        "traits": {"plan": "pro"},
        "timestamp": "2026-05-04T10:00:01Z",
    },
    {"name": "page seen", "anonymous_id": "a2", "session_id": "s1", "timestamp": 1777888800, "path": "/"},
]
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def sink():
    with SinkProcess() as sink:
        yield sink


@pytest.fixture
def got(sink):
    """Return what came to the webhook since the test began."""
    before = len(sink.events("webhook", duplicates=True))
    return lambda: sink.events("webhook", duplicates=True)[before:]


def write_json(folder, *rows, name="e.jsonl"):
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    (Path(folder) / name).write_text(text)


def write_csv(folder, *rows, name="e.csv"):
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    (Path(folder) / name).write_text(out.getvalue())


def _bare(record):
    return {key: value for key, value in record.items() if key not in {"id", "timestamp"}}


def test_json_lines_arrive_by_our_own_names_and_segments(cli, sink, got, tmp_path):
    write_json(tmp_path, *LINES)
    done = cli.run("import", "e.jsonl", **sink.environ("webhook"))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    paid, person, seen = got()
    assert _bare(paid) == {"event": "order paid", "properties": {"total": 9.5}, "userId": "u1"}
    assert _bare(person) == {
        "event": "$identify",
        "traits": {"plan": "pro"},
        "userId": "u1",
        "anonymousId": "a1",
    }
    assert _bare(seen) == {
        "event": "page seen",
        "properties": {"path": "/"},
        "anonymousId": "a2",
        "sessionId": "s1",
    }
    assert [each["timestamp"] for each in (paid, person, seen)] == [
        "2026-05-04T10:00:00.000000Z",
        "2026-05-04T10:00:01.000000Z",
        "2026-05-04T10:00:00.000000Z",
    ]
    assert "2 events and 1 identity delivered to webhook" in done.stdout.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["e.jsonl"]


def test_every_column_that_is_nothing_else_becomes_a_property_with_its_type(cli, sink, got, tmp_path):
    write_csv(
        tmp_path,
        ["event", "user_id", "timestamp", "total", "count", "zip", "big", "paid", "note", "empty", "properties"],
        ["order paid", "7", "2026-05-04T10:00:00+02:00", "9.50", "-3", "0123", "9" * 20, "true", 'a "b"\n,c', "", ""],
        ["order paid", "8", "2026-05-04", "1", "", "", "", "false", "", "", '{"total": 2, "x": [1]}'],
    )  # fmt: skip
    done = cli.run("import", "e.csv", **sink.environ("webhook"))
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = got()
    assert first["properties"] == {
        "total": 9.5,
        "count": -3,
        "zip": "0123",
        "big": "9" * 20,
        "paid": True,
        "note": 'a "b"\n,c',
    }
    assert first["userId"] == "7"
    assert first["timestamp"] == "2026-05-04T08:00:00.000000Z"
    assert second["properties"] == {"total": 2, "paid": False, "x": [1]}


def test_text_stays_text_if_asked_for(cli, sink, got, tmp_path):
    write_csv(tmp_path, ["event", "timestamp", "total", "paid"], ["e", "2026-05-04", "9.50", "true"])
    assert cli.run("import", "e.csv", "--text", **sink.environ("webhook")).returncode == 0
    assert got()[0]["properties"] == {"total": "9.50", "paid": "true"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_of_spreadsheets_is_read(cli, sink, got, tmp_path, delimiter, end):
    rows = [["event", "timestamp", "note"], ["e", "2026-05-04", "x, y"]]
    cells = [delimiter.join(f'"{cell}"' for cell in row) + end for row in rows]
    (tmp_path / "e.csv").write_bytes(b"\xef\xbb\xbf" + "".join(cells).encode())
    done = cli.run("import", "e.csv", **sink.environ("webhook"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [_bare(each) for each in got()] == [{"event": "e", "properties": {"note": "x, y"}}]


def test_columns_are_what_the_mapping_says(cli, sink, got, tmp_path):
    write_csv(
        tmp_path,
        ["what", "who", "device", "visit", "at", "key", "more", "event"],
        ["paid", "u1", "a1", "s1", "1777888800123", "order-1", '{"a": 1}', "kept"],
    )
    maps = ("name=what", "user_id=who", "anonymous_id=device", "session_id=visit", "timestamp=at:unix_ms")
    maps += ("message_id=key", "properties=more")
    arguments = [word for each in maps for word in ("--map", each)]
    done = cli.run("import", "e.csv", *arguments, **sink.environ("webhook"))
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = got()
    assert _bare(record) == {
        "event": "paid",
        "userId": "u1",
        "anonymousId": "a1",
        "sessionId": "s1",
        "properties": {"a": 1, "event": "kept"},
    }
    assert record["timestamp"] == "2026-05-04T10:00:00.123000Z"


def test_a_table_of_people_becomes_identities_as_old_as_the_file(cli, sink, got, tmp_path):
    write_csv(tmp_path, ["user_id", "name", "plan"], ["u1", "Ann", "pro"], ["", "Bob", ""])
    done = cli.run("import", "e.csv", "--identify", "--json", **sink.environ("webhook"))
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["totals"]["problems"] == [{"line": 3, "problem": "an identity without a user id"}]
    (person,) = got()
    assert person["traits"] == {"name": "Ann", "plan": "pro"}
    assert person["timestamp"].startswith(
        subprocess.run(["date", "-ur", tmp_path / "e.csv", "+%Y-%m-%dT%H:%M:%S"], capture_output=True, text=True, check=True).stdout.strip()
    )  # fmt: skip


def test_a_name_for_every_line(cli, sink, got, tmp_path):
    write_csv(tmp_path, ["user_id", "timestamp", "name"], ["u1", "2026-05-04", "Ann"])
    assert cli.run("import", "e.csv", "--name", "signed up", **sink.environ("webhook")).returncode == 0
    assert _bare(got()[0]) == {"event": "signed up", "userId": "u1", "properties": {"name": "Ann"}}


def test_compressed_files_are_read_under_any_name(cli, sink, got, tmp_path):
    text = "".join(f"{json.dumps(line)}\n" for line in LINES).encode()
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(text[:50]) + gzip.compress(text[50:]))
    (tmp_path / "no-suffix").write_bytes(gzip.compress(text))
    assert cli.run("import", "e.jsonl.gz", **sink.environ("webhook")).returncode == 0
    assert len(got()) == 3
    assert cli.run("import", "no-suffix", "--format", "jsonl", **sink.environ("webhook")).returncode == 0
    assert len(got()) == 6
    assert len({each["id"] for each in got()}) == 3


def test_standard_input_is_read_and_leaves_nothing_behind(cli, sink, got, tmp_path):
    text = gzip.compress("".join(f"{json.dumps(line)}\n" for line in LINES).encode())
    done = subprocess.run(
        [sys.executable, "-m", "agent_tracking", "import", "-", "--format", "jsonl"],
        input=text,
        env={"PATH": "", **sink.environ("webhook")},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(got()) == 3
    assert list(tmp_path.iterdir()) == []


def test_ids_are_made_of_the_lines_so_that_the_same_file_counts_once(cli, sink, got, tmp_path):
    write_json(tmp_path, *LINES, {"event": "e", "timestamp": 1, "id": "8d4a"}, LINES[0])
    (tmp_path / "f.jsonl").write_text("\n \r\n".join((tmp_path / "e.jsonl").read_text().splitlines()[::-1]))
    for name in ("e.jsonl", "f.jsonl"):
        done = cli.run("import", name, **sink.environ("webhook"))
        assert done.returncode == 0, done.stdout
        assert "1 rows have the id of a row close before them" in done.stdout
    ids = [each["id"] for each in got()]
    assert (len(ids), len(set(ids))) == (8, 4)
    assert {UUID(each).version for each in ids} == {5}


def test_identical_lines_are_different_events_if_asked_for_and_the_same_ones_again(cli, sink, got, tmp_path):
    write_json(tmp_path, LINES[0], LINES[0], LINES[0])
    for _ in range(2):
        assert cli.run("import", "e.jsonl", "--each-line", **sink.environ("webhook")).returncode == 0
    ids = [each["id"] for each in got()]
    assert (len(ids), len(set(ids))) == (6, 3)


def test_equal_rows_of_different_tables_are_different_events(cli, sink, got, tmp_path):
    row = ["u1", "2026-05-04"]
    write_csv(tmp_path, ["user_id", "timestamp"], row)
    write_csv(tmp_path, ["user_id", "timestamp"], row, name="f.csv")
    assert cli.run("import", "e.csv", "--name", "signed up", **sink.environ("webhook")).returncode == 0
    assert cli.run("import", "f.csv", "--name", "logged in", **sink.environ("webhook")).returncode == 0
    assert len({each["id"] for each in got()}) == 2


def test_an_id_of_the_events_own_wins_but_a_row_number_is_none(cli, sink, got, tmp_path):
    own = "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11"
    write_json(
        tmp_path,
        {"event": "e", "timestamp": 1, "messageId": own},
        {"event": "e", "timestamp": 1, "id": 17},
        {"event": "e", "timestamp": 1, "id": "17"},
    )
    assert cli.run("import", "e.jsonl", **sink.environ("webhook")).returncode == 0
    first, second, third = got()
    assert first["id"] == own
    assert (second["properties"], third["properties"]) == ({"id": 17}, {"id": "17"})
    mapped = cli.run("import", "e.jsonl", "--map", "message_id=id", **sink.environ("webhook"))
    assert mapped.returncode == 0, mapped.stdout + mapped.stderr
    assert got()[4]["properties"] == {}


def test_bad_lines_are_counted_and_listed_and_the_rest_is_imported(cli, sink, got, tmp_path):
    write_json(
        tmp_path,
        LINES[0],
        "{not json}",
        "[1]",
        '"text"',
        "",
        {"event": "e"},
        {"event": "e", "timestamp": "soon"},
        {"event": "e", "timestamp": 1e15 * 1e9},
        {"timestamp": 1},
        {"event": 5, "timestamp": 1},
        {"type": "page", "name": "Home", "timestamp": 1},
        {"event": "e", "timestamp": 1, "userId": ["u"]},
        {"event": "e", "timestamp": 1, "properties": "{no"},
        {"type": "identify", "userId": "anonymous"},
        LINES[2],
    )
    done = cli.run("import", "e.jsonl", "--json", **sink.environ("webhook"))
    totals = json.loads(done.stdout)["totals"]
    assert done.returncode == 1
    assert (totals["events"], totals["wrong"], totals["lines"]) == (2, 12, 15)
    assert [each["line"] for each in totals["problems"]] == [2, 3, 4, 6, 7, 8, 9, 10, 11, 12]
    texts = [each["problem"] for each in totals["problems"]]
    for text, words in zip(
        texts,
        ["no JSON", "array", "a JSON text", "no time", "'soon'", "1970 and 9999", "no event name", "is no text", "'page'", "user id"],
        strict=True,
    ):  # fmt: skip
        assert words in text
    assert len(got()) == 2
    plain = cli.run("import", "e.jsonl", "--restart", **sink.environ("webhook")).stdout
    assert "! line 2: no JSON" in plain
    assert "! and 2 more that are no records" in plain
    assert plain.splitlines()[-1].startswith("✗ 15 lines, 12 of them wrong: 2 events")


def test_a_dry_run_reads_everything_says_what_is_wrong_and_sends_nothing(cli, sink, got, tmp_path):
    write_json(tmp_path, *LINES, {**LINES[0], "context": {}}, "{", {"event": "z", "timestamp": 1})
    done = cli.run("import", "e.jsonl", "--dry-run", "--json", **sink.environ("webhook", "posthog"))
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["dry_run"] is True
    assert sorted(report["totals"]["providers"]) == ["posthog", "webhook"]
    assert report["totals"]["problems"][0]["line"] == 5
    assert (report["totals"]["events"], report["totals"]["identities"]) == (4, 1)
    assert (report["totals"]["nobody"], report["ignored"]) == (1, {"context": 1})
    assert [each["event"] for each in report["records"]] == ["order paid", "$identify", "page seen"]
    assert got() == []
    assert [path.name for path in tmp_path.iterdir()] == ["e.jsonl"]
    plain = cli.run("import", "e.jsonl", "--dry-run", **sink.environ("webhook")).stdout
    assert "nothing was sent" in plain.splitlines()[-1]
    assert '"user_id": "u1"' in plain
    assert cli.run("import", "e.jsonl", **sink.environ("webhook")).returncode == 1
    sent = got()
    assert [each["id"] for each in sent[:3]] == [each["message_id"] for each in report["records"]]
    nowhere = cli.run("import", "e.jsonl", "--dry-run").stdout
    assert "would go nowhere: no provider is active" in nowhere


def test_it_goes_to_the_chosen_providers_only_and_old_data_as_each_wants_it(cli, sink, got, tmp_path):
    write_json(tmp_path, {**LINES[0], "timestamp": "2019-01-01T00:00:00Z"})
    environ = sink.environ("webhook", "posthog", "amplitude", "mixpanel")
    done = cli.run("import", "e.jsonl", "--only", "posthog,amplitude, agent-tracking-mixpanel", **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert got() == []
    assert sink.requests("posthog")[-1].json()["historical_migration"] is True
    assert sink.events("posthog")[-1]["timestamp"] == "2019-01-01T00:00:00.000000Z"
    assert [request.path for request in sink.requests("amplitude")] == ["/batch"]
    assert sink.events("amplitude")[-1]["time"] == 1546300800000
    assert [request.path for request in sink.requests("mixpanel")] == ["/import"]
    assert sink.events("mixpanel")[-1]["properties"]["time"] == 1546300800000


def test_settings_of_the_application_do_not_get_in_the_way(cli, sink, got, tmp_path):
    write_json(
        tmp_path, *({**LINES[0], "number": number, "properties": {"n": number}} for number in range(3000))
    )
    done = cli.run(
        "import",
        "e.jsonl",
        **sink.environ("webhook"),
        AGENT_TRACKING_QUEUE_RECORDS="10",
        AGENT_TRACKING_QUEUE_BYTES="1000",
        AGENT_TRACKING_STRICT="1",
        AGENT_TRACKING_SPOOL=str(tmp_path / "spool"),
        AGENT_TRACKING_DELIVERY="relay",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(got()) == 3000
    assert not (tmp_path / "spool").exists()


def test_in_a_pipe_it_prints_plain_lines_with_rate_and_time_left(cli, sink, tmp_path):
    write_json(tmp_path, *({**LINES[0], "properties": {"n": number}} for number in range(12_000)))
    done = cli.run("import", "e.jsonl", **sink.environ("webhook"))
    assert "\x1b" not in done.stdout
    assert re.search(
        r"^ +\d+\.\d s +\d+ %  [\d,]+ lines  [\d,]+/s  \d+:\d\d left$", done.stdout, re.MULTILINE
    )
    assert re.search(r"^webhook +12,000 +0 +0$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("columns", [60, 120])
def test_on_a_terminal_a_bar_moves_and_fits_the_screen(cli, sink, tmp_path, columns):
    write_json(tmp_path, *({**LINES[0], "properties": {"n": number}} for number in range(12_000)))
    status, written = cli.on_terminal("import", "e.jsonl", columns=columns, **sink.environ("webhook"))
    assert status == 0, written
    shown = _ESCAPE.sub("", written)
    assert re.search(r"━.* +\d+% [\d,]+ lines, [\d,]+/s", shown)
    moving = [line for line in re.split(r"[\r\n]+", shown) if "━" in line]
    assert max(map(len, moving)) <= columns
    assert "12,000 events and 0 identities delivered to webhook" in shown.replace("\r\n", " ")


def test_an_empty_file_is_done_at_once(cli, sink, tmp_path):
    write_json(tmp_path)
    done = cli.run("import", "e.jsonl", **sink.environ("webhook"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 lines" in done.stdout


def test_what_cannot_be_sent_as_it_was_is_told(cli, sink, got, tmp_path):
    deep = "[" * 100 + "]" * 100
    write_json(tmp_path, f'{{"event": "e", "timestamp": 1, "properties": {{"deep": {deep}}}}}')
    done = cli.run("import", "e.jsonl", "--json", **sink.environ("webhook"))
    assert done.returncode == 0
    assert json.loads(done.stdout)["totals"]["changed"] == 1
    assert len(got()) == 1


def test_the_help_has_an_example(cli):
    done = cli.run("import", "--help")
    assert done.returncode == 0
    assert "Example: agent-tracking import events.csv.gz --map user_id=uid" in done.stdout
