"""Counters of running processes as files: one for each process, ``<folder>/<pid>.json``.

A process that has ``AGENT_TRACKING_STATUS=<folder>`` (or a spool: then it is ``<spool>/status``) writes what
``stats()`` says there, at most every two seconds, from the dispatcher's thread; ``agent-tracking providers``
and ``doctor`` read them. A file goes when its process ends normally. Nothing secret is in it, and no error
of the disk disturbs the process.
"""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock

import msgspec
from importlib_metadata import PackageNotFoundError, version

from agent_tracking.counters import Stats
from agent_tracking.settings import Settings

__all__ = ["BEAT", "EVERY", "SILENT", "ProcessStatus", "Seen", "StatusWriter", "read_status", "status_folder"]

#: Seconds between two writes at least.
EVERY = 2.0
#: Seconds between two writes at most: a process that does nothing still shows that it lives.
BEAT = 30.0
#: Seconds without a write after which a process counts as gone, wherever it runs.
SILENT = 4 * BEAT
#: Seconds after which a file whose process is gone is deleted by whoever reads the folder.
_KEPT = 86_400.0
#: No file that a process writes is longer; it names at most 50 reasons for each provider.
_LONGEST = 1024 * 1024
_ENDING = ".json"


class ProcessStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What one process wrote.

    Attributes:
        pid, host: which process it is.
        program: the last part of its ``argv[0]``.
        role: ``app``, or ``relay`` for a process that only delivers.
        started, updated: seconds since 1970.
        version: of agent-tracking.
        stats: its counters.
    """

    pid: int
    host: str
    program: str
    role: str
    started: float
    updated: float
    version: str
    stats: Stats


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One process by its file; ``stale`` when it is gone without having removed it."""

    process: ProcessStatus
    stale: bool


def status_folder(settings: Settings) -> Path | None:
    """Return the folder that processes with these settings write to, if any."""
    if settings.status:
        return Path(settings.status)
    return Path(settings.spool) / "status" if settings.spool else None


class StatusWriter:
    """Writes one process's file; without a folder it does nothing.

    Args:
        folder: made with mode 0700 where there is none.
        role: see :class:`ProcessStatus`.
    """

    def __init__(
        self,
        folder: Path | None,
        role: str = "app",
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._now = now
        self._role = role
        self._pid = os.getpid()
        self._started = now()
        self._written = -EVERY  # by the clock
        self._tracked = 0
        self._changed = True
        self._path: Path | None = None
        self._lock = Lock()
        #: How long the dispatcher may sleep, in seconds; ``None`` for as long as it likes.
        self.beat: float | None = None if folder is None else BEAT

    def tick(self, stats: Callable[[], Stats], *, idle: bool, tracked: int) -> bool:
        """Write if it is time to; return whether something is left that has to be written soon.

        Args:
            stats: the counters; called only to be written, since with a spool they read files.
            idle: nothing else makes the dispatcher look again soon, and nothing is under way.
            tracked: how many records there were so far.
        """
        if self._folder is None:
            return False
        self._changed = self._changed or not idle or tracked != self._tracked
        self._tracked = tracked
        since = self._clock() - self._written
        if since < EVERY:
            return idle and self._changed
        if self._changed or since >= BEAT:
            self._changed = not idle
            self._write(stats)
        return False

    def remove(self) -> None:
        """Take the file away and write no more: the process ends, or has other settings now."""
        self._folder = self.beat = None
        if self._lock.acquire(timeout=1.0):  # a disk that hangs does not hold up the end
            try:
                path, self._path = self._path, None
                if path is not None and os.getpid() == self._pid:
                    _names.discard(path)
                    with suppress(OSError):
                        if not _of_another_machine(path, self._now()):
                            path.unlink()
            finally:
                self._lock.release()

    def _write(self, stats: Callable[[], Stats]) -> None:
        self._written = self._clock()
        with suppress(OSError, ValueError):
            data = msgspec.json.encode(self._status(stats()))
            with self._lock:
                folder = self._folder
                if folder is None:
                    return
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._path is None or _of_another_machine(self._path, self._now()):
                    self._path = _own_path(folder, self._pid, self._now())
                _replace(self._path, data)

    def _status(self, stats: Stats) -> ProcessStatus:
        return ProcessStatus(
            pid=self._pid,
            host=socket.gethostname(),
            program=_program(),
            role=self._role,
            started=self._started,
            updated=self._now(),
            version=_version(),
            stats=stats,
        )


#: The files of this process's trackers.
_names: set[Path] = set()


def _own_path(folder: Path, pid: int, now: float) -> Path:
    """Return ``<pid>.json``, with a number if another tracker of this process or another machine has it."""
    path = folder / f"{pid}{_ENDING}"
    number = 1
    while path in _names or _of_another_machine(path, now):
        number += 1
        path = folder / f"{pid}-{number}{_ENDING}"
    _names.add(path)
    return path


def _of_another_machine(path: Path, now: float) -> bool:
    """Return whether a file is a process's elsewhere: in each container the first has the number 1."""
    process = _read(path)
    return process is not None and process.host != socket.gethostname() and now - process.updated <= SILENT


def _replace(path: Path, data: bytes) -> None:
    """Replace a file as a whole; mode 0600."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    written = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        written.replace(path)
    except BaseException:
        with suppress(OSError):
            written.unlink()
        raise


def _program() -> str:
    """Return what was started: no folder and no argument, which may hold anything."""
    path = Path((getattr(sys, "argv", None) or [""])[0])
    return path.parent.name if path.name == "__main__.py" else path.name


@cache
def _version() -> str:
    try:
        return version("agent-tracking")
    except PackageNotFoundError:  # a frozen application
        return ""


def read_status(folder: Path, now: float | None = None) -> list[Seen]:
    """Return the processes that have a file in the folder, newest first; delete those gone for a day.

    A file that cannot be read or is none of ours is passed over.
    """
    moment = time.time() if now is None else now
    seen = []
    for path in _files(folder):
        process = _read(path)
        if process is None:
            _forget(path, moment)
            continue
        stale = _is_gone(process, moment)
        if not stale or not _forget(path, moment, process.updated):
            seen.append(Seen(process=process, stale=stale))
    return sorted(seen, key=lambda each: -each.process.started)


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if path.name.endswith((_ENDING, ".tmp"))]
    except OSError:
        return []


def _read(path: Path) -> ProcessStatus | None:
    if not path.name.endswith(_ENDING):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return msgspec.json.decode(file.read(_LONGEST), type=ProcessStatus)
    except (OSError, ValueError, RecursionError):
        return None


def _is_gone(process: ProcessStatus, now: float) -> bool:
    """Return whether the process has ended: by its number on this machine, by its silence on any."""
    if now - process.updated > SILENT:
        return True
    return process.host == socket.gethostname() and not _is_running(process.pid)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def _forget(path: Path, now: float, updated: float | None = None) -> bool:
    """Delete a file of ours that was not written for a day; return whether it is gone."""
    own = path.name.removeprefix(".").partition(".")[0].replace("-", "")
    if updated is None and not (path.name.endswith(".tmp") and path.name[0] == "." and own[:1].isdigit()):
        return False  # somebody else's file
    try:
        written = path.lstat().st_mtime if updated is None else updated
        if now - written <= _KEPT:
            return False
        path.unlink()
    except OSError:
        return False
    return True
