"""The account of what ``kill -9`` costs: it sees what is missing, and what was never on the disk."""

from __future__ import annotations

import random
from zlib import crc32

import benchmarks.kills
import pytest
from benchmarks.kills import BACKENDS, Backend, Disk, Outcome, main, misbehave

from agent_tracking.testing import Fault


@pytest.mark.parametrize(
    ("backend", "status"), [(Backend(0, 0, 120), 0), (Backend(1, 0, 99), 1), (Backend(0, 1, 101), 1)]
)
def test_what_is_missing_or_counted_twice_is_in_the_account_and_in_the_exit_status(
    backend, status, monkeypatch, capsys
):
    backends = {**dict.fromkeys(BACKENDS, Backend(0, 0, 100)), "mixpanel": backend}
    monkeypatch.setattr(benchmarks.kills, "killed", lambda *_: Outcome(3, 2, 2, 100, backends))
    assert main(["--rounds", "3"]) == status
    assert (
        f"| mixpanel | 100 | {backend.lost} | {backend.twice} | {backend.kept} |" in capsys.readouterr().out
    )


def test_what_a_backend_lacks_and_what_it_counts_twice_do_not_make_up_for_each_other():
    assert Backend.of([1, 2, 2, 9], kept=7, acknowledged={1, 2, 3}) == (1, 1, 7)


def test_a_line_that_is_damaged_or_not_finished_was_not_acknowledged(tmp_path):
    lines = [b'[0,0,1.5,"x",{"n":%d}]' % n for n in range(3)]
    framed = [b"%08x %b" % (crc32(line), line) for line in lines]
    framed[1] = framed[1].replace(b'"n":1', b'"n":7')
    disk = Disk(tmp_path)
    (tmp_path / "1.seg").write_bytes(b"\n".join([b"header", *framed, framed[0][:20]]))
    assert disk.news() == {0, 2}
    assert disk.news() == set()


def test_what_is_written_later_is_news(tmp_path):
    disk = Disk(tmp_path)
    line = b'[0,0,1.5,"x",{"n":4}]'
    framed = b"%08x %b\n" % (crc32(line), line)
    with (tmp_path / "1.seg").open("ab") as file:
        file.write(b"header\n" + framed[:30])
        file.flush()
        assert disk.news() == set()
        file.write(framed[30:])
        file.flush()
        assert disk.news() == {4}


def test_every_backend_misbehaves_in_every_round():
    class Recorder:
        failed = {}

        def fail(self, name, fault):
            self.failed[name] = fault

    misbehave(Recorder(), random.Random(1))
    assert set(Recorder.failed) == set(BACKENDS)
    assert all(isinstance(fault, Fault) for fault in Recorder.failed.values())
