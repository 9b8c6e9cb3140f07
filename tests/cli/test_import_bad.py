"""``agent-tracking import``: what cannot begin is told in one line, with exit status 2 and nothing sent."""

from __future__ import annotations

import gzip
import json
import os

import pytest

from agent_tracking.testing import SinkProcess

LINE = '{"event": "e", "timestamp": 1}\n'
CSV = "event,timestamp,uid\ne,2026-05-04,u1\n"


@pytest.fixture(scope="module")
def sink():
    with SinkProcess() as sink:
        yield sink


@pytest.fixture
def refused(cli, sink, tmp_path):
    """Run the command; it must refuse in one line that has these words, and send nothing."""

    def refused(*arguments, words, environ=None):
        before = sink.totals("webhook").requests
        done = cli.run("import", *arguments, **(sink.environ("webhook") if environ is None else environ))
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stdout == ""
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1, done.stderr
        for word in words:
            assert word in done.stderr, done.stderr
        assert sink.totals("webhook").requests == before
        return done

    return refused


def test_a_file_that_cannot_be_read(refused, tmp_path):
    refused("nowhere.jsonl", words=["'nowhere.jsonl'", "No such file"])
    (tmp_path / "folder.csv").mkdir()
    refused("folder.csv", words=["'folder.csv'", "Is a directory"])
    refused("x\x1b[31m.jsonl", words=["No such file"])
    refused("missing", words=["'missing'", "No such file"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(refused, tmp_path):
    (tmp_path / "e.jsonl").touch(mode=0)
    refused("e.jsonl", words=["Permission denied"])


def test_a_name_that_tells_no_format(refused, tmp_path):
    (tmp_path / "e.txt").write_text(LINE)
    refused("e.txt", words=["'e.txt'", "--format jsonl or --format csv"])
    refused("-", words=["standard input", "--format"])


def test_what_is_not_gzip_although_it_says_so(refused, tmp_path):
    (tmp_path / "e.jsonl.gz").write_text(LINE)
    refused("e.jsonl.gz", words=["'e.jsonl.gz'", "not gzip"])


def test_a_compressed_file_that_is_damaged_from_the_beginning(refused, tmp_path):
    (tmp_path / "e.csv.gz").write_bytes(gzip.compress(CSV.encode())[:12])
    refused("e.csv.gz", words=["'e.csv.gz'", "its first line"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("user_id", ["TARGET=COLUMN"]),
        ("user_id=", ["TARGET=COLUMN"]),
        ("user=uid", ["there is no 'user'", "'user_id' is meant?"]),
        ("colour=uid", ["there is no 'colour'", "anonymous_id"]),
        ("user_id=nobody", ["user_id=nobody", "no such column", "'uid'"]),
    ],
)
def test_a_mapping_that_makes_no_sense(refused, tmp_path, given, words):
    (tmp_path / "e.csv").write_text(CSV)
    refused("e.csv", "--map", given, words=["--map", *words])


def test_a_target_that_has_two_columns(refused, tmp_path):
    (tmp_path / "e.csv").write_text(CSV)
    refused("e.csv", "--map", "name=event", "--map", "event=uid", words=["has a column already"])


def test_a_mapped_column_that_no_line_has(refused, tmp_path):
    (tmp_path / "e.jsonl").write_text(LINE * 30)
    refused("e.jsonl", "--map", "user_id=uid", words=["'uid'", "is not in any of the first 30 rows"])


def test_a_pattern_that_no_time_fits(refused, tmp_path):
    (tmp_path / "e.csv").write_text(CSV)
    for pattern in ("%d.%m.%Y", "%", "%!"):
        refused("e.csv", "--map", f"timestamp=timestamp:{pattern}", words=["'2026-05-04'", f"'{pattern}'"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["names no columns"]),
        ("\n", ["names no columns"]),
        ("uid,when\nu1,2026-05-04\n", ["event's name", "--map name=COLUMN or --name NAME", "'uid', 'when'"]),
        ("event,when\ne,2026-05-04\n", ["time", "--map timestamp=COLUMN"]),
        ("event,timestamp,event\ne,1,f\n", ["two columns are called 'event'"]),
        ("event,timestamp\ne\n", ["the only row", "line 2", "1 cells, the header has 2"]),
    ],
)
def test_a_header_that_does_not_do(refused, tmp_path, text, words):
    (tmp_path / "e.csv").write_text(text)
    refused("e.csv", words=["'e.csv'", *words])


def test_a_header_that_is_not_utf8(refused, tmp_path):
    (tmp_path / "e.csv").write_bytes("event,timestamp,größe\n".encode("latin1"))
    refused("e.csv", words=["not UTF-8", "iconv"])


def test_people_without_a_user_id(refused, tmp_path):
    (tmp_path / "e.csv").write_text("name,plan\nAnn,pro\n")
    refused("e.csv", "--identify", words=["user id", "--map user_id=COLUMN"])


def test_a_file_in_which_nothing_is_a_record(refused, tmp_path):
    (tmp_path / "e.jsonl").write_text(json.dumps([{"event": "e"}], indent=1))
    refused("e.jsonl", words=["line 1", "JSON array", "jq -c '.[]'"])
    (tmp_path / "e.jsonl").write_text("no\n" * 20)
    refused("e.jsonl", words=["any of the first 20 rows", "line 1: no JSON"])
    assert [path.name for path in tmp_path.iterdir()] == ["e.jsonl"]


def test_an_empty_name(refused, tmp_path):
    (tmp_path / "e.csv").write_text(CSV)
    refused("e.csv", "--name", " ", words=["--name"])


def test_no_provider_that_is_active(refused, tmp_path):
    (tmp_path / "e.jsonl").write_text(LINE)
    refused("e.jsonl", environ={}, words=["no provider is active", "agent-tracking providers"])
    assert [path.name for path in tmp_path.iterdir()] == ["e.jsonl"]


def test_everything_switched_off(refused, sink, tmp_path):
    (tmp_path / "e.jsonl").write_text(LINE)
    off = {**sink.environ("webhook"), "AGENT_TRACKING_DISABLED": "1"}
    refused("e.jsonl", environ=off, words=["no provider is active"])


def test_a_provider_that_is_not_there_or_not_ready(refused, tmp_path):
    (tmp_path / "e.jsonl").write_text(LINE)
    refused("e.jsonl", "--only", "webhok", words=["--only", "'webhok'", "webhook"])
    refused("e.jsonl", "--only", "webhook,posthog", words=["posthog is inactive", "POSTHOG_API_KEY"])


def test_a_provider_that_is_meant_but_wrong(refused, sink, tmp_path):
    (tmp_path / "e.jsonl").write_text(LINE)
    wrong = {**sink.environ("webhook"), "POSTHOG_API_KEY": "phx_personal"}
    done = refused("e.jsonl", environ=wrong, words=["posthog is failed", "personal key", "--only"])
    assert "phx_personal" not in done.stderr


def test_a_state_that_cannot_be_written_or_is_none(refused, tmp_path):
    (tmp_path / "e.jsonl").write_text(LINE)
    refused("e.jsonl", "--state", "no/where", words=["'no/where'", "cannot be written", "--state"])
    (tmp_path / "mine").write_text("precious")
    for more in ((), ("--restart",)):
        refused("e.jsonl", "--state", "mine", *more, words=["'mine'", "no state of an import"])
    assert (tmp_path / "mine").read_text() == "precious"
    refused("-", "--format", "jsonl", "--state", "x", words=["standard input", "--state"])
