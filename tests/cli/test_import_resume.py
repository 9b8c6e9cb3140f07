"""``agent-tracking import``: however it ends, the same command goes on; nothing is lost or counted twice."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from uuid import NAMESPACE_URL, uuid5

import pytest

from agent_tracking.testing import Fault, SinkProcess

#: A million for the full size: IMPORT_LINES=1000000 pytest tests/cli/test_import_resume.py -k kill
LINES = int(os.environ.get("IMPORT_LINES", "60000"))
STATE = "e.jsonl.import-state"
#: Gives a chunk up after two tries, which otherwise takes a quarter of an hour.
HASTY = """
import sys
from agent_tracking.cli import main
from agent_tracking.cli.importing import delivery
from agent_tracking.delivery.backoff import RetryPolicy
delivery.POLICY = RetryPolicy(first=0.01, longest=0.02, tries=2, window=0.0)
main()
"""


@pytest.fixture
def sink():
    with SinkProcess(keep=False) as sink:
        yield sink


class Imports:
    """Starts the command in a folder; what still runs in the end is ended."""

    def __init__(self, folder, sink):
        self.folder, self.sink = folder, sink
        self.running = []

    def start(self, *arguments, providers=("webhook",), code=("-m", "agent_tracking"), **environ):
        own = {"PATH": os.environ["PATH"], **self.sink.environ(*providers), **environ}
        process = subprocess.Popen(
            [sys.executable, *code, "import", *arguments],
            env=own,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def run(self, *arguments, **more):
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=1000)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def imports(tmp_path, sink):
    imports = Imports(tmp_path, sink)
    yield imports
    for process in imports.running:
        process.kill()
        process.communicate()


def write(folder, count, name="e.jsonl"):
    with open(folder / name, "w") as file:
        for number in range(count):
            file.write(
                f'{{"event":"order paid","userId":"u-{number % 997}","timestamp":{1700000000 + number},'
                f'"properties":{{"number":{number},"currency":"CHF","note":"{"x" * 60}"}}}}\n'
            )


def ids_of(path):
    """Return the ids that the lines of a file have, by another implementation: they never change."""
    namespace = uuid5(NAMESPACE_URL, "agent_tracking:import")
    with open(path) as file:
        return {str(uuid5(namespace, f"[null,false,null]\n{line.strip()}")) for line in file}


def state_of(folder, name=STATE):
    try:
        return json.loads((folder / name).read_text())
    except FileNotFoundError:
        return {"line": 0}


def wait(predicate, seconds=60):
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def counted(sink, provider="webhook"):
    totals = sink.totals(provider)
    return totals.counted


@pytest.mark.timeout(120 if LINES <= 60_000 else 3_000)
def test_killed_twice_at_random_moments_it_loses_nothing_and_counts_nothing_twice(imports, sink, tmp_path):
    write(tmp_path, LINES)
    chance = random.Random()
    began = time.monotonic()
    for least, most in ((0.05, 0.45), (0.5, 0.9)):
        process = imports.start("e.jsonl")
        moment = LINES * chance.uniform(least, most)
        assert sink.wait(lambda at=moment: sink.totals("webhook").arrived >= at, 1_000)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
    settled = state_of(tmp_path)
    assert 0 < settled["line"] < LINES
    done = imports.run("e.jsonl", "--json")
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    totals = sink.totals("webhook")
    print(f"{LINES} lines, {seconds:.1f} s, {totals}, {report['rate']} lines/s in the last run")
    ids = ids_of(tmp_path / "e.jsonl")
    accepted = sink.ledger["webhook"].accepted_keys()
    assert (len(ids), len(ids - set(accepted)), len(set(accepted) - ids)) == (LINES, 0, 0)
    assert len(accepted) == totals.counted == LINES
    assert totals.accepted - totals.counted <= 2 * 10_000  # what was on its way when it was killed
    assert report["began_at"] == settled["line"]
    assert report["totals"]["events"] == report["totals"]["providers"]["webhook"]["delivered"] == LINES
    assert not (tmp_path / STATE).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on_and_goes_on(imports, sink, tmp_path, number):
    write(tmp_path, 50_000)
    process = imports.start("e.jsonl")
    assert sink.wait(lambda: sink.totals("webhook").arrived >= 15_000, 60)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")
    assert out.splitlines()[-2] == "✗ interrupted"
    assert "the same command goes on from there" in out.splitlines()[-1]
    line = state_of(tmp_path)["line"]
    assert f"up to line {line:,} everything is settled" in out
    assert 10_000 <= line < 50_000
    assert stat.S_IMODE((tmp_path / STATE).stat().st_mode) == 0o600
    done = imports.run("e.jsonl", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["began_at"] == line
    assert counted(sink) == 50_000


def _csv(count):
    """Rows over two lines each, so that a position between two lines may be one inside a row."""
    rows = (f'e,{1_700_000_000 + number},"first {number}\nsecond, ""{number}"""\n' for number in range(count))
    return "\ufeffevent,timestamp,note\n" + "".join(rows)


def _lines(count):
    return "".join(f'{{"event":"e","timestamp":1,"n":{number}}}\r\n\r\n' for number in range(count))


@pytest.mark.parametrize("name", ["e.jsonl", "e.csv", "e.jsonl.gz", "e.csv.gz"])
def test_every_format_goes_on_at_the_row_where_it_was(imports, sink, tmp_path, name):
    text = (_csv if ".csv" in name else _lines)(31_000).encode()
    (tmp_path / name).write_bytes(gzip.compress(text, 1) if name.endswith(".gz") else text)
    state = f"{name}.import-state"
    process = imports.start(name)
    wait(lambda: state_of(tmp_path, state)["line"] > 0)
    process.kill()
    process.wait(60)
    began_at = state_of(tmp_path, state)["line"]
    assert began_at < text.count(b"\n")
    done = imports.run(name, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["began_at"] == began_at
    assert (report["totals"]["events"], report["totals"]["wrong"]) == (31_000, 0)
    assert counted(sink) == 31_000


def test_an_outage_is_waited_for_and_told(imports, sink, tmp_path):
    write(tmp_path, 25_000)
    sink.fail("webhook", Fault.status(503, times=3))
    done = imports.run("e.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(webhook: the backend answered 503; tried again)" in done.stdout
    assert counted(sink) == 25_000


def test_what_is_given_up_stops_it_before_the_chunk_and_is_sent_by_the_next_run(imports, sink, tmp_path):
    write(tmp_path, 25_000)
    sink.fail("posthog", Fault.status(503, times=None))
    done = imports.run("e.jsonl", providers=("posthog", "webhook"), code=("-c", HASTY))
    assert done.returncode == 1
    assert "posthog: gave-up (the backend answered 503)" in done.stdout
    assert "up to line 0 everything is settled" in done.stdout
    assert sink.totals("webhook").arrived <= 10_000
    sink.clear()
    again = imports.run("e.jsonl", providers=("posthog", "webhook"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert (counted(sink, "posthog"), counted(sink)) == (25_000, 25_000)


def test_a_provider_that_stops_ends_the_import_and_loses_nothing(imports, sink, tmp_path):
    write(tmp_path, 25_000)
    sink.fail("posthog", Fault.unauthorized(times=None))
    done = imports.run("e.jsonl", providers=("posthog", "webhook"))
    assert done.returncode == 1
    assert "posthog: stopped (PostHog refused the key" in done.stdout
    sink.clear()
    again = imports.run("e.jsonl", providers=("posthog", "webhook"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert (counted(sink, "posthog"), counted(sink)) == (25_000, 25_000)


def test_before_anything_is_settled_all_may_be_changed(imports, sink, tmp_path):
    write(tmp_path, 25_000)
    sink.fail("webhook", Fault.status(404, times=None))
    assert imports.run("e.jsonl").returncode == 1
    sink.clear()
    write(tmp_path, 26_000)
    done = imports.run("e.jsonl", "--each-line", TRACKING_WEBHOOK_AUTH="Bearer b")
    assert done.returncode == 0, done.stdout + done.stderr
    assert counted(sink) == 26_000


def test_memory_does_not_grow_with_the_file(imports, sink, tmp_path):
    peaks = []
    for count in (30_000, 150_000):
        write(tmp_path, count)
        process = imports.start("e.jsonl", "--json")
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        peaks.append(usage.ru_maxrss / 1024)
    assert peaks[1] < peaks[0] + 15, peaks  # the longer file alone is 20 MB longer


def test_refused_records_are_counted_and_do_not_stop_it(imports, sink, tmp_path):
    write(tmp_path, 25_000)
    sink.fail("webhook", Fault.poison("number", values=[7, 8, 17_000]))
    done = imports.run("e.jsonl", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["stopped"] == ""
    assert report["totals"]["providers"]["webhook"]["refused"] == {"rejected": 3}
    assert counted(sink) == 24_997
    assert not (tmp_path / STATE).exists()
    plain = imports.run("e.jsonl").stdout
    assert "but 3 deliveries were refused" in plain.splitlines()[-1]


def test_a_backend_that_takes_nothing_stops_it(imports, sink, tmp_path):
    write(tmp_path, 25_000)
    sink.fail("webhook", Fault.status(404, times=None))
    done = imports.run("e.jsonl")
    assert done.returncode == 1
    assert "webhook took none of 10,000 records: rejected (the backend answered 404)" in done.stdout
    sink.clear()
    assert imports.run("e.jsonl").returncode == 0
    assert counted(sink) == 25_000


@pytest.fixture
def begun(imports, sink, tmp_path):
    """An import that was ended in the middle of its file."""
    write(tmp_path, 30_000)
    process = imports.start("e.jsonl")
    wait(lambda: state_of(tmp_path)["line"] > 0)
    process.kill()
    process.wait(60)
    return imports


def _refuses(done, *words):
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    for word in (*words, "--restart"):
        assert word in done.stderr


def test_a_changed_file_is_not_gone_on_with_unless_from_the_beginning(begun, sink, tmp_path):
    with open(tmp_path / "e.jsonl", "a") as file:
        file.write('{"event":"one more","timestamp":1}\n')
    _refuses(begun.run("e.jsonl"), "'e.jsonl': the file was changed since its import began", STATE)
    assert begun.run("e.jsonl", "--restart").returncode == 0
    assert counted(sink) == 30_001


def test_other_options_providers_or_variables_are_another_import(begun, sink):
    _refuses(begun.run("e.jsonl", "--each-line"), "other options")
    _refuses(
        begun.run("e.jsonl", providers=("webhook", "posthog")), "to webhook was begun", "posthog, webhook"
    )
    _refuses(begun.run("e.jsonl", TRACKING_WEBHOOK_AUTH="Bearer b"), "webhook had other variables")
    only = begun.run("e.jsonl", "--only", "webhook", providers=("webhook", "posthog"))
    assert only.returncode == 0, only.stdout + only.stderr
    assert (counted(sink), counted(sink, "posthog")) == (30_000, 0)


def test_the_state_holds_no_secret(begun, tmp_path):
    text = (tmp_path / STATE).read_text()
    for value in begun.sink.environ("webhook").values():
        assert value not in text


def test_two_imports_of_one_file_do_not_run_at_once(imports, sink, tmp_path):
    write(tmp_path, 30_000)
    sink.fail("webhook", Fault.status(503, times=None))
    imports.start("e.jsonl")
    assert sink.wait(lambda: sink.totals("webhook").requests > 0, 60)
    done = imports.run("e.jsonl")
    assert done.returncode == 2
    assert "e.jsonl is being imported by another process" in done.stderr


def test_a_compressed_file_that_ends_too_early_is_imported_up_to_there(imports, sink, tmp_path):
    text = "".join(f'{{"event":"e","timestamp":1,"n":{number}}}\n' for number in range(40_000)).encode()
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(text, 1)[:-20_000])
    done = imports.run("e.jsonl.gz", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert "it is not complete" in report["stopped"]
    assert 10_000 < report["totals"]["lines"] < 40_000
    assert counted(sink) == report["totals"]["events"]
    (tmp_path / "e.jsonl.gz").write_bytes(gzip.compress(text, 1))
    assert imports.run("e.jsonl.gz", "--restart").returncode == 0
    assert counted(sink) == 40_000


def test_the_state_may_be_elsewhere(imports, sink, tmp_path):
    write(tmp_path, 30_000)
    process = imports.start("e.jsonl", "--state", "elsewhere")
    wait(lambda: state_of(tmp_path, "elsewhere")["line"] > 0)
    process.kill()
    process.wait(60)
    assert not (tmp_path / STATE).exists()
    assert imports.run("e.jsonl", "--state", "elsewhere").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["e.jsonl"]
    assert counted(sink) == 30_000
