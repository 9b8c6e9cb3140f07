"""A spool with one provider, and a disk that misbehaves: for the tests of the spool."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from agent_tracking import TrackingEvent
from agent_tracking.counters import LaneCounters
from agent_tracking.names import IdPrefix
from agent_tracking.sources.spool.files import Files
from agent_tracking.sources.spool.lines import encode
from agent_tracking.sources.spool.spool import Spool, SpoolSettings

MUCH = 10**9


def event(name: object, size: int = 30) -> TrackingEvent:
    return TrackingEvent(
        name=str(name), message_id=str(name), time=1.0, properties_json=b'{"d":"%s"}' % (b"x" * size)
    )


def text(name: object, size: int = 30) -> bytes:
    return encode(event(name, size), time.time())


class Faulty(Files):
    """Lets calls fail: ``plan`` maps a method to the errors of its next calls, ``None`` for one that works."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: dict[str, list[int | None]] = {}
        self.room: int | None = None
        self.piece: int | None = None

    def fail(self, method: str, *errors: int | None) -> None:
        self.plan.setdefault(method, []).extend(errors)

    def _check(self, method: str) -> None:
        if (queue := self.plan.get(method)) and (error := queue.pop(0)) is not None:
            raise OSError(error, os.strerror(error))

    def open(self, path, flags):
        self._check("open")
        return super().open(path, flags)

    def write(self, fd, data):
        self._check("write")
        if self.room is not None:
            if self.room <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: self.room]
            self.room -= len(data)
        return super().write(fd, data[: self.piece])

    def write_at(self, fd, data, offset):
        self._check("write_at")
        return super().write_at(fd, data, offset)

    def read(self, fd, size, offset):
        self._check("read")
        return super().read(fd, size, offset)

    def cut(self, fd, size):
        self._check("cut")
        super().cut(fd, size)

    def sync(self, fd):
        self._check("sync")
        super().sync(fd)

    def rename(self, old, new):
        self._check("rename")
        super().rename(old, new)

    def stat(self, path):
        self._check("stat")
        return super().stat(path)

    def names(self, path):
        self._check("names")
        return super().names(path)


class Opened:
    """A spool with one provider."""

    def __init__(self, folder, files=None, **more) -> None:
        self.path = str(folder)
        self.problems: list[str] = []
        self.counters = LaneCounters()
        self.spool = Spool(
            SpoolSettings(path=self.path, **more),
            IdPrefix().head,
            lambda _provider, _kind, problem, _count: self.problems.append(problem),
            files,
        )
        self.source = self.spool.source("p", self.counters)
        self.look()
        self.spool.founded()

    def look(self) -> None:
        self.spool._next_try = 0.0
        self.source._next_check = 0.0
        self.spool._index._next = 0.0
        self.spool.look()
        self.source.look()

    def take_all(self) -> list[str]:
        return [record.message_id for record in self.take_records()]

    def take_records(self) -> list[TrackingEvent]:
        found = []
        while True:
            self.look()
            taken = self.source.take(50, MUCH)
            if not taken:
                return found
            found += taken
            self.source.settle(len(taken))


def segments(path) -> list[Path]:
    return sorted(Path(path).glob("*.seg"))
