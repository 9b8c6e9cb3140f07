"""Packages of third parties, really installed: found by their entry points, guarded against, used."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from importlib_metadata import version

from agent_tracking.testing import Backend, Sink

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.timeout(300)

APP = """
from agent_tracking import identify, track

identify("u-1", {"plan": "pro"})
track("order paid", {"total": 9.5, "note": "n\\u00e4he"}, user_id="u-1")
"""


@pytest.fixture(scope="module")
def rows(installed: Any) -> Mapping[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in installed.rows():
        found.setdefault(row["name"], []).append(row)
    return found


def _row(rows: Mapping[str, list[dict[str, Any]]], name: str) -> dict[str, Any]:
    (row,) = rows[name]
    return row


def test_every_installed_package_has_a_row_and_nothing_else_has(rows):
    assert {name: len(found) for name, found in rows.items()} == {
        "exits": 1,
        "from-the-future": 1,
        "from-the-past": 1,
        "import-error": 1,
        "sample-async": 1,
        "sample-http": 1,
        "sample-older": 1,
        "sample-plain": 1,
        "sample-sqlite": 1,
        "twice": 2,
        "wrong-signature": 1,
    }


def test_a_row_names_the_distribution_its_version_and_its_entry_point(rows):
    row = _row(rows, "sample-http")
    assert (row["distribution"], row["version"]) == ("agent-tracking-sample-http", "1.2.0")
    assert row["entry_point"] == "agent_tracking_sample_http:SampleHTTPProvider"
    assert row["variables"] == ["SAMPLE_HTTP_KEY", "SAMPLE_HTTP_URL"]


def test_a_package_without_its_variables_is_inactive_and_names_them(rows):
    row = _row(rows, "sample-http")
    assert row["state"] == "inactive"
    assert "SAMPLE_HTTP_KEY" in row["reason"]
    assert "SAMPLE_HTTP_URL" in row["reason"]
    assert "SAMPLE_HTTP_KEY" in row["fix"]
    assert "SAMPLE_HTTP_URL" in row["fix"]


def test_one_variable_of_two_leaves_only_the_other_to_name(installed):
    (row,) = [row for row in installed.rows(SAMPLE_HTTP_KEY="k") if row["name"] == "sample-http"]
    assert row["state"] == "inactive"
    assert "SAMPLE_HTTP_URL" in row["reason"]
    assert "SAMPLE_HTTP_KEY" not in row["reason"]


def test_an_import_error_is_a_failed_row_that_names_the_error(rows):
    row = _row(rows, "import-error")
    assert row["state"] == "failed"
    assert "ModuleNotFoundError" in row["reason"]
    assert "a_module_that_nobody_has" in row["reason"]
    assert "agent-tracking-sample-import-error" in row["fix"]


def test_a_package_that_exits_while_it_is_imported_ends_nothing(rows):
    row = _row(rows, "exits")
    assert row["state"] == "failed"
    assert "SystemExit" in row["reason"]
    assert "agent-tracking-sample-exits" in row["fix"]


def test_a_hook_that_does_not_match_shows_both_signatures(rows):
    row = _row(rows, "wrong-signature")
    assert row["state"] == "failed"
    assert "track(event, request)" in row["reason"]
    assert "track(self, event)" in row["reason"]
    assert row["fix"]


@pytest.mark.parametrize(
    ("name", "asked", "its"), [("future", ">=99", "99.0.0"), ("past", "<0.0.5", "0.0.1")]
)
def test_a_package_for_other_versions_is_told_by_its_metadata_and_never_imported(rows, name, asked, its):
    row = _row(rows, f"from-the-{name}")
    distribution = f"agent-tracking-sample-from-the-{name}"
    assert row["state"] == "incompatible"
    for word in (f"{distribution} {its}", asked, f"this is {version('agent-tracking')}"):
        assert word in row["reason"]
    assert row["fix"] == f"pip install --upgrade {distribution} agent-tracking"


def test_two_packages_with_one_name_are_both_in_conflict_and_name_each_other(rows):
    assert [row["state"] for row in rows["twice"]] == ["conflict", "conflict"]
    for row in rows["twice"]:
        assert "agent-tracking-sample-twice-first" in row["reason"]
        assert "agent-tracking-sample-twice-second" in row["reason"]
        assert "AGENT_TRACKING_DISABLED_PROVIDERS" in row["fix"]


def test_the_fix_of_a_conflict_makes_the_other_one_active(installed):
    rows = installed.rows(AGENT_TRACKING_DISABLED_PROVIDERS="agent-tracking-sample-twice-first")
    states = {row["distribution"]: row["state"] for row in rows if row["name"] == "twice"}
    assert states == {
        "agent-tracking-sample-twice-first": "disabled",
        "agent-tracking-sample-twice-second": "active",
    }


def test_a_variable_without_its_package_says_what_to_install(installed):
    (row,) = [row for row in installed.rows(POSTHOG_API_KEY="phc_hidden") if row["name"] == "posthog"]
    assert row["state"] == "not installed"
    assert "POSTHOG_API_KEY" in row["reason"]
    assert row["fix"] == "pip install agent-tracking-posthog"


def test_the_demo_without_the_providers_says_what_to_install_and_exits_with_2(installed):
    done = installed.run("-m", "agent_tracking", "demo")
    assert done.returncode == 2
    assert "pip install agent-tracking-amplitude agent-tracking-mixpanel" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_what_a_package_prints_while_it_is_imported_stays_out_of_the_output(installed):
    done = installed.run("-m", "agent_tracking", "providers")
    assert "this provider is a script" not in done.stdout
    assert "this provider is a script" in done.stderr


def test_installed_packages_get_every_record_beside_all_the_broken_ones(installed, tmp_path):
    lines = tmp_path / "lines.jsonl"
    with Sink(backends={"sample": Backend(key="id")}) as sink:
        done = installed.run(
            "-c",
            APP,
            SAMPLE_HTTP_KEY="w-key",
            SAMPLE_HTTP_URL=f"{sink.url}/sample/in",
            SAMPLE_PLAIN_FILE=str(lines),
        )
        assert done.returncode == 0, done.stderr
        records = sink.events("sample")
        (request, *others) = sink.requests("sample")
    assert not others
    assert request.headers["authorization"] == "Key w-key"
    assert [(record["name"], record["user"], record["data"]) for record in records] == [
        ("$identify", "u-1", {"plan": "pro"}),
        ("order paid", "u-1", {"total": 9.5, "note": "nähe"}),
    ]
    (row,) = [json.loads(line) for line in lines.read_text().splitlines()]
    assert row == {
        "id": records[1]["id"],
        "name": "order paid",
        "properties": {"total": 9.5, "note": "nähe"},
    }


def test_broken_packages_cost_one_line_of_the_log_each_and_no_secret(installed, tmp_path):
    done = installed.run(
        "-c", APP, SAMPLE_PLAIN_FILE=str(tmp_path / "lines"), MIXPANEL_TOKEN="t0k3n-of-nobody"
    )
    assert done.returncode == 0
    assert "t0k3n" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line != "this provider is a script"]
    for word in ("SystemExit", "ModuleNotFoundError", ">=99", "asks for request", "MIXPANEL_TOKEN is set"):
        assert len([line for line in lines if word in line]) == 1, (word, lines)
    assert len([line for line in lines if "both provide 'twice'" in line]) in {1, 2}
    assert "Traceback" not in done.stderr


def test_the_database_sample_has_each_record_once_also_when_they_are_handed_over_twice(installed, tmp_path):
    file = tmp_path / "records.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE records (too_few)")  # what it writes fails, until this is gone
    switches = {"AGENT_TRACKING_PROVIDERS": "sample-sqlite", "SAMPLE_SQLITE_FILE": str(file)}
    done = installed.run("-c", DATABASE_APP, str(file), **switches)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "waiting 2, then True\n"
    with closing(sqlite3.connect(file)) as database:
        found = database.execute("SELECT name, user, data FROM records ORDER BY time, name").fetchall()
    assert found == [("$identify", "u-1", '{"plan":"pro"}'), ("order paid", "u-1", '{"total":9.5}')]


DATABASE_APP = """
import sqlite3, sys
from contextlib import closing
from agent_tracking import flush, identify, stats, track

identify("u-1", {"plan": "pro"}, timestamp="2026-05-04T10:00:00Z")
track("order paid", {"total": 9.5}, user_id="u-1", timestamp="2026-05-04T10:00:01Z")
assert not flush(0.3)
waiting = stats().providers["sample-sqlite"].waiting
with closing(sqlite3.connect(sys.argv[1])) as database:
    database.execute("DROP TABLE records")
print(f"waiting {waiting}, then", bool(flush(20)))
"""


class _Taker(StreamRequestHandler):
    """Takes nothing the first time, everything the second time."""

    def handle(self):
        received = self.server.received
        received.append([json.loads(line)["id"] for line in self.rfile])
        self.wfile.write(b"%d\n" % (len(received[-1]) if len(received) > 1 else 0))


def test_the_async_sample_sends_on_its_own_loop_and_again_what_was_not_taken(installed):
    app = 'from agent_tracking import track\nfor number in range(3):\n    track("step", {"number": number})'
    with ThreadingTCPServer(("127.0.0.1", 0), _Taker) as server:
        server.received = []
        Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_address[1])
        done = installed.run("-c", app, SAMPLE_ASYNC_HOST="127.0.0.1", SAMPLE_ASYNC_PORT=port)
        server.shutdown()
    assert done.returncode == 0, done.stderr
    first, second = server.received
    assert len(first) == 3
    assert first == second


def test_the_sample_for_older_hooks_gets_what_it_asks_for_which_is_nothing(installed, tmp_path):
    file = tmp_path / "number"
    app = f"{APP}\ntrack('order sent')"
    done = installed.run("-c", app, SAMPLE_OLDER_FILE=str(file))
    assert done.returncode == 0, done.stderr
    assert file.read_text() == "2"


def test_samples_of_today_go_on_when_a_hook_gains_an_argument(installed, tmp_path):
    file = tmp_path / "number"
    done = installed.run("-c", GROWN, SAMPLE_OLDER_FILE=str(file), SAMPLE_PLAIN_FILE=str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 event\n"


GROWN = """
import os
from agent_tracking.hooks import find_hooks
from agent_tracking.hookspecs import HookSpecs, hookspec
from agent_tracking_sample_older import TallyProvider
from agent_tracking_sample_plain import LineProvider

class Grown(HookSpecs):
    @hookspec
    def track(self, event, attempt):
        ...

class Event:
    message_id, name, properties = "1", "event", {}

plain = LineProvider()
find_hooks(TallyProvider(), "older", Grown).track(Event, 1)
find_hooks(plain, "plain", Grown).track(Event, 1)
print(open(os.environ["SAMPLE_OLDER_FILE"]).read(), "event" if '"event"' in plain._lines[0] else plain._lines)
"""


def test_the_http_sample_is_as_short_as_the_readme_says():
    source = Path(__file__).parents[1] / "samples/minimal_http/src/agent_tracking_sample_http/__init__.py"
    assert len(source.read_text().splitlines()) <= 40
