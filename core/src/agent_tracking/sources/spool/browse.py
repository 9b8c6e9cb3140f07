"""A spool seen from outside: what waits for whom, which records these are. Changes nothing, takes no lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import msgspec

from agent_tracking.counters import SpoolStats
from agent_tracking.events import Record
from agent_tracking.sources.spool.dead import DeadLetters
from agent_tracking.sources.spool.folder import Folder, SpoolError
from agent_tracking.sources.spool.leader import Leader
from agent_tracking.sources.spool.lines import time_of
from agent_tracking.sources.spool.segments import Cursor, Index
from agent_tracking.sources.spool.status import known_positions, lag

__all__ = ["Browser", "Waiting"]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One record that waits for a provider: where it stands, and since when (seconds since 1970)."""

    segment: str
    offset: int
    time: float | None
    record: Record


class Browser:
    """Looks into a spool's folder.

    Args:
        path: the folder.

    Raises:
        SpoolError: there is none, or it cannot be read; the text says so in one line.
    """

    def __init__(self, path: str) -> None:
        self._folder = Folder(path)
        self._index = Index(self._folder)
        self.dead = DeadLetters(self._folder)
        self.refresh()

    @property
    def path(self) -> str:
        """The folder."""
        return self._folder.path

    @property
    def newer(self) -> list[str]:
        """Names of segments that a newer version wrote: they are not counted, and left alone."""
        return sorted(self._index.foreign)

    def refresh(self) -> None:
        """Look again."""
        try:
            self._index.scan(force=True)
        except OSError as error:
            text = f"there is no spool that can be read at {self._folder.path}: {error.strerror or error}"
            raise SpoolError(text) from None

    def providers(self) -> list[str]:
        """Return the names of the providers that records are delivered to from here."""
        return sorted(known_positions(self._folder))

    def stats(self) -> SpoolStats:
        """Return what waits for each provider, who delivers, and how many records were set aside."""
        stats = lag(self._folder, self._index.readable(), known_positions(self._folder))
        providers = {
            name: msgspec.structs.replace(
                found, leader=self.leader(name), dead=sum(1 for _ in self.dead.read(name))
            )
            for name, found in stats.providers.items()
        }
        return msgspec.structs.replace(stats, providers=providers)

    def leader(self, provider: str) -> int | None:
        """Return the pid of the process that delivers for a provider; ``None`` if none does."""
        try:
            fd = self._folder.files.open(self._folder.of(provider, "lock"), os.O_RDONLY)
        except OSError:
            return None
        try:
            if self._folder.files.lock(fd, shared=True):
                return None
            return msgspec.json.decode(self._folder.files.read(fd, 4096, 0), type=Leader).pid
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        finally:
            self._folder.files.close(fd)

    def waiting(
        self, provider: str, unusable: Callable[[str], None] = lambda _reason: None
    ) -> Iterator[Waiting]:
        """Yield the records that are not settled for a provider, oldest first, a few at a time.

        Args:
            provider: whose.
            unusable: told the reason for each line that holds no usable record.
        """
        offsets = known_positions(self._folder).get(provider, {})
        for segment in self._index.readable():
            try:
                cursor = Cursor(self._folder.files, segment, offsets.get(segment.name, 0), provider)
            except OSError:
                continue
            try:
                while cursor.fill(unusable):
                    for item in cursor.items:
                        seconds = time_of(self._folder.peek(segment.path, 80, item.start))
                        yield Waiting(
                            segment=segment.name, offset=item.start, time=seconds, record=item.record
                        )
                    cursor.items.clear()
            finally:
                cursor.close()
