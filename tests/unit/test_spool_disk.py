"""The spool when the disk is full, broken, read-only, gone, or somebody else's: never an exception, it goes on by
itself, and nothing that was taken is lost."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.spool_rig import MUCH, Faulty, Opened, segments, text

from agent_tracking.sources.spool import writer
from agent_tracking.sources.spool.files import Files
from agent_tracking.sources.spool.folder import Folder, SpoolError
from agent_tracking.sources.spool.lines import frames


@pytest.fixture
def opened(tmp_path):
    made = []

    def make(files=None, **more):
        made.append(Opened(tmp_path / "spool", files, **more))
        return made[-1]

    yield make
    for each in made:
        each.spool.close()


# A full, broken, read-only, vanished disk.


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_short_writes_are_continued(opened, piece):
    files = Faulty()
    first = opened(files)
    files.piece = piece
    assert first.spool.append([text(n) for n in range(20)]) == 20
    assert first.take_all() == [str(n) for n in range(20)]
    assert first.counters.snapshot().dropped == {}


@pytest.mark.parametrize("room", [0, 1, 50, 200, 333, 1000])
def test_on_a_full_disk_what_was_written_as_a_whole_counts_and_the_rest_is_handed_back(opened, room):
    files = Faulty()
    first = opened(files)
    assert first.spool.append([text("before")]) == 1
    files.room = room
    texts = [text(n) for n in range(20)]
    written = first.spool.append(texts)
    assert written == sum(1 for n in range(20) if sum(map(len, frames(texts[: n + 1]))) <= room)
    assert first.spool.append(texts[written:]) == 0
    files.room = None
    assert first.spool.append(texts[written:]) == 20 - written
    assert first.take_all() == ["before", *map(str, range(20))]
    assert first.counters.snapshot().dropped == {}
    assert [problem for problem in first.problems if "No space left" in problem] == first.problems
    assert len(first.problems) == 1


@pytest.mark.parametrize("method", ["write", "cut", "sync", "rename", "open"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_after_any_error_the_next_look_goes_on_by_itself(opened, method, error):
    files = Faulty()
    first = opened(files, fsync=True)
    first.spool.append([text("before")])
    texts = [text(n) for n in range(10)]
    if method in {"rename", "open"}:
        first.spool._writer.seal()  # a new segment has to be made
    if method == "cut":
        files.room = 200
    files.fail(method, error)
    written = first.spool.append(texts)
    assert 0 <= written < 10
    files.room = None
    files.plan = {}
    assert first.spool.append(texts[written:]) == 10 - written
    found = first.take_all()
    assert list(dict.fromkeys(found)) == ["before", *map(str, range(10))]
    if method != "sync":  # what may not be on the disk is written again
        assert len(found) == 11
    assert len(first.problems) <= 1


def test_a_segment_that_vanishes_is_noticed_while_writing_goes_on(opened):
    first = opened()
    first.spool.append([text("before")])
    (segment,) = Path(first.path).glob("*.seg")
    segment.unlink()
    deadline = time.monotonic() + 10
    while not list(Path(first.path).glob("*.seg")):
        assert time.monotonic() < deadline
        assert first.spool.append([text("after")]) == 1
        time.sleep(0.01)  # so that few are written: a segment that is full ends by itself


@pytest.mark.parametrize("how", ["segment", "files", "folder"])
def test_what_vanishes_is_made_anew(opened, monkeypatch, how):
    if how != "folder":  # that is noticed at once by whoever delivers from it
        monkeypatch.setattr(writer, "_LOOK", 0.0)
    first = opened()
    first.spool.append([text("before")])
    assert first.take_all() == ["before"]
    first.spool.append([text("lost")])
    folder = Path(first.path)
    if how == "folder":
        shutil.rmtree(folder)
    else:
        for path in folder.iterdir():
            if how == "files" or path.suffix == ".seg":
                path.unlink()
    first.look()
    assert first.spool.append([text("after")]) == 1
    first.look()
    first.look()
    assert [name for name in first.take_all() if name != "lost"] == ["after"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    again = Opened(first.path)
    assert again.take_all() == []
    again.spool.close()


def test_a_position_that_cannot_be_saved_is_saved_later_and_costs_nothing_but_that(opened):
    files = Faulty()
    first = opened(files)
    first.spool.append([text(n) for n in range(5)])
    first.look()
    taken = first.source.take(5, MUCH)
    files.fail("write_at", errno.EIO)
    files.fail("rename", errno.EIO)
    first.source.settle(5)
    assert len(taken) == 5
    assert first.problems
    files.plan = {}
    first.look()
    first.spool.abandon()
    assert opened().take_all() == []


def test_a_position_is_saved_on_a_disk_without_any_room(opened):
    files = Faulty()
    first = opened(files)
    first.spool.append([text(n) for n in range(5)])
    first.look()
    first.source.take(3, MUCH)
    first.source.settle(3)
    files.room = 0
    first.source.take(2, MUCH)
    first.source.settle(2)
    assert first.problems == []
    first.spool.abandon()
    assert opened().take_all() == []


def test_reading_errors_stop_nothing_and_lose_nothing(opened):
    files = Faulty()
    first = opened(files)
    first.spool.append([text(n) for n in range(5)])
    files.fail("read", errno.EIO, errno.EIO)
    files.fail("names", errno.EIO)
    files.fail("stat", errno.EIO)
    for _ in range(4):
        first.look()
        assert first.source.take(0, MUCH) == []
    assert first.take_all() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("method", ["open", "read"])
def test_a_segment_that_cannot_be_read_holds_up_no_other(opened, method):
    class Unreadable(Faulty):
        path = None
        fds = frozenset()

        def open(self, path, flags):
            if path == self.path and method == "open":
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            fd = super().open(path, flags)
            self.fds = self.fds | {fd} if path == self.path else self.fds - {fd}
            return fd

        def read(self, fd, size, offset):
            if fd in self.fds:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return super().read(fd, size, offset)

    writers = opened(), opened()
    for number, each in enumerate(writers):
        each.spool.append([text(f"{number}")])
    files = Unreadable()
    files.path = str(segments(writers[0].path)[0])
    for each in writers:
        each.spool.abandon()
    third = opened(files)
    assert third.take_all() == ["1"]
    assert third.problems
    files.path, files.fds = None, frozenset()
    assert third.take_all() == ["0"]


FAULTS = st.lists(
    st.tuples(
        st.sampled_from(["write", "cut", "sync", "rename", "open", "read", "write_at", "stat", "names"]),
        st.sampled_from([None, errno.EIO, errno.ENOSPC, errno.EROFS]),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    faults=FAULTS,
    rooms=st.lists(st.none() | st.integers(0, 600), max_size=4),
    piece=st.none() | st.integers(1, 400),
)
def test_whatever_fails_nothing_raises_and_all_that_was_taken_arrives(tmp_path_factory, faults, rooms, piece):
    files = Faulty()
    first = Opened(tmp_path_factory.mktemp("spool"), files, fsync=True)
    for method, error in faults:
        files.fail(method, error)
    files.piece = piece
    wanted = []
    found = []
    left = [text(n) for n in range(40)]
    for room in [*rooms, None, None]:
        files.room = room
        first.look()
        written = first.spool.append(left[:10])
        wanted += left[:written]
        left = left[written:]
        taken = first.source.take(5, MUCH)
        found += [record.message_id for record in taken]
        first.source.settle(len(taken))
    files.plan, files.room, files.piece = {}, None, None
    first.look()
    assert first.spool.append(left) == len(left)
    found += first.take_all()
    assert set(found) == {str(n) for n in range(40)}
    # A piece of a line that could not be cut off again stays; the line itself was written elsewhere.
    uncut = sum(method == "cut" and error is not None for method, error in faults)
    assert first.counters.snapshot().dropped.get("corrupt", 0) <= uncut
    first.spool.close()


# Who may read it.


def test_everything_is_readable_by_its_owner_only_whatever_the_umask(opened, tmp_path):
    before = os.umask(0)
    try:
        first = opened()
        first.spool.append([text(n) for n in range(5)])
        first.look()
        taken = first.source.take(2, MUCH)
        first.source.hand_over(taken)
        first.source.set_aside(taken[0], "rejected")
        first.source.settle(2)
        first.source.hurry()
        first.spool._writer.seal()
        first.spool.append([text("next")])
        Folder(first.path).files.touch(f"{first.path}/p.flush")
    finally:
        os.umask(before)
    found = {path: stat.S_IMODE(path.stat().st_mode) for path in Path(first.path).rglob("*")}
    kinds = {path.suffix for path in found}
    assert {".seg", ".pos", ".lock", ".try", ".flush", ".jsonl"} <= kinds
    assert {mode for path, mode in found.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in found.items() if path.is_dir()} == {0o700}
    assert stat.S_IMODE(Path(first.path).stat().st_mode) == 0o700


def test_an_open_folder_of_ours_is_closed_to_others(tmp_path):
    path = tmp_path / "spool"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    Folder(str(path)).make()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_an_open_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "home"
    path.mkdir()
    path.chmod(0o755)
    (path / "letter.txt").write_text("x")
    with pytest.raises(SpoolError, match="folder of its own"):
        Folder(str(path)).make()
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_a_folder_of_another_user_is_refused(tmp_path):
    class Foreign(Files):
        def stat(self, path):
            found = list(super().stat(path))
            found[4] += 1
            return os.stat_result(found)

    with pytest.raises(SpoolError, match="another user"):
        Folder(str(tmp_path / "spool"), Foreign()).make()
    opened = Opened(tmp_path / "spool", Foreign())
    assert opened.spool.append([text("x")]) == 0
    assert len(opened.problems) == 1
    opened.spool.close()


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "spool").write_text("x")
    opened = Opened(tmp_path / "spool")
    assert opened.spool.append([text("x")]) == 0
    assert "not a folder" in opened.problems[0]
    opened.spool.close()


def test_nothing_but_the_records_is_in_the_folder(opened):
    first = opened()
    first.spool.append([text("order paid")])
    first.take_all()
    found = b"".join(path.read_bytes() for path in Path(first.path).rglob("*") if path.is_file())
    for name, value in os.environ.items():
        if len(value) > 12 and name not in {"HOSTNAME"}:
            assert value.encode() not in found
