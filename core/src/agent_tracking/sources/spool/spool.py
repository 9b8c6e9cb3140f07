"""One process's side of a spool: its writer, its providers' sources, and the folder in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock

import msgspec

from agent_tracking.counters import SpoolStats
from agent_tracking.events import Record
from agent_tracking.names import IdPrefix
from agent_tracking.sources.memory import MemorySource
from agent_tracking.sources.spool.dead import DeadLetters
from agent_tracking.sources.spool.files import Files
from agent_tracking.sources.spool.folder import Folder, SpoolError, file_name
from agent_tracking.sources.spool.founding import Founding
from agent_tracking.sources.spool.housekeeping import Housekeeper
from agent_tracking.sources.spool.lines import FRAME, LINE_BYTES, frames
from agent_tracking.sources.spool.parsed import piece_of
from agent_tracking.sources.spool.segments import Index
from agent_tracking.sources.spool.source import SpoolSource, Tally
from agent_tracking.sources.spool.status import known_positions, lag
from agent_tracking.sources.spool.writer import Writer

__all__ = ["Spool", "SpoolSettings", "retry_dead"]

#: The most bytes of one segment; with a small bound they are smaller, so that there may be many.
SEGMENT_BYTES = 8 * 1024 * 1024
_PARTS = 64
#: Seconds after which a segment is closed, so that records can be too old: at most, and of the age.
_SEGMENT_SECONDS = 3600.0
#: Seconds between two tries to use a folder that could not be used.
_AGAIN = 1.0
#: What a record's line and its segment's header need beside it.
_FRAME_BYTES = 512
#: Bytes written at once, about.
_GROUP_BYTES = 1024 * 1024


class SpoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a spool behaves.

    Attributes:
        path: the folder.
        most: the most bytes of all segments.
        age: seconds after which records are given up.
        fsync: wait for each group until it would survive a power cut.
        role: what this process is called, ``app`` or ``relay``, for display.
        delivers: it has providers; else it only writes.
        records, size: bounds of what waits in memory while the disk takes nothing, for each provider.
    """

    path: str
    most: int = 1024 * 1024 * 1024
    age: float = 7 * 86_400.0
    fsync: bool = False
    role: str = "app"
    delivers: bool = True
    records: int = 100_000
    size: int = 64 * 1024 * 1024


class Spool:
    """A folder that several processes use at once; this is one of them.

    Nothing here raises ``OSError``: what the disk refuses is told to ``warn``, and tried again. All methods
    but ``stats`` and ``abandon`` belong to one thread.

    Args:
        settings: see :class:`SpoolSettings`.
        ids: what the message ids of the entries begin with.
        warn: told a provider (or nothing), a kind, a text and a count, for the log.
        files: the calls to the operating system.
    """

    def __init__(
        self,
        settings: SpoolSettings,
        ids: str,
        warn: Callable[[str, str, str, int], None] = lambda _provider, _kind, _text, _count: None,
        files: Files | None = None,
    ) -> None:
        self._settings = settings
        self._warn = warn
        self.folder = Folder(settings.path, files)
        self._index = Index(self.folder)
        segment = max(1, min(SEGMENT_BYTES, settings.most // _PARTS))
        self._group = min(segment, _GROUP_BYTES)
        self._housekeeper = Housekeeper(
            self.folder,
            self._index,
            most=settings.most,
            reserve=segment,
            age=settings.age,
            leading=self._leading,
            dropped=self._dropped,
        )
        self._writer = Writer(
            self.folder,
            ids,
            most=segment,
            seconds=min(_SEGMENT_SECONDS, settings.age / 10),
            fsync=settings.fsync,
            make_room=self._housekeeper.make_room,
        )
        self._founding = Founding(self.folder)
        #: What a process that only writes looks at when it is asked for numbers, on any thread.
        self._seen = Index(self.folder)
        self._looking_on = Lock()
        self._inode: tuple[int, int] | None = None
        self._next_try = 0.0
        self._well = True
        self._reported: set[str] = set()
        self.sources: dict[str, SpoolSource] = {}
        #: Records that were dropped although no provider was there to be told, by reason.
        self.dropped: dict[str, int] = {}

    def source(self, provider: str, tally: Tally) -> SpoolSource:
        """Return the source of a provider's lane."""
        source = SpoolSource(
            provider,
            self.folder,
            self._index,
            MemorySource(self._settings.records, self._settings.size),
            tally,
            role=self._settings.role,
            warn=lambda kind, text, count: self._warn(provider, kind, text, count),
        )
        self.sources = {**self.sources, provider: source}
        return source

    def forget(self, provider: str) -> None:
        """Deliver for a provider no longer; what waits for it stays for a later process."""
        source = self.sources.get(provider)
        if source is not None:
            source.close()
            self.sources = {name: each for name, each in self.sources.items() if each is not source}

    def look(self) -> bool:
        """Notice what others did to the folder, make new providers known; false if it cannot be used now."""
        now = time.monotonic()
        if now < self._next_try:
            return False
        if self._inode is not None and not self._settings.delivers:
            return True  # what others do is none of its business; the writer sees whether the folder is there
        try:
            self._open()
            self._index.scan()
            self._join()
            if any(source.leading for source in self.sources.values()):
                self._housekeeper.tidy()
        except OSError as error:
            self._next_try = now + _AGAIN
            self._fail(error)
            return False
        for name in self._index.foreign - self._reported:
            self._reported.add(name)
            text = f"a newer version wrote {self.folder.file(name)}: it is left alone"
            self._warn("", "spool-newer", text, 0)
        return True

    def founded(self) -> None:
        """The providers of the first process are known now: whoever comes later does not replay the past."""
        self._founding.end()

    def _open(self) -> None:
        """See to it that the folder is there; notice when it is another one."""
        if self._inode is not None:
            try:
                status = self.folder.files.stat(self.folder.path)
            except FileNotFoundError:
                status = None
            if status is not None and (status.st_dev, status.st_ino) == self._inode:
                return
        self._writer.seal()  # what it has open is in the folder that was here before
        self.folder.make()
        status = self.folder.files.stat(self.folder.path)
        self._inode = (status.st_dev, status.st_ino)
        with self.folder.exclusive():
            self._founding.begin()
        self._index.scan(force=True)
        for source in self.sources.values():
            source.joined = False

    def _join(self) -> None:
        new = [source for source in self.sources.values() if not source.joined]
        if new:
            with self.folder.exclusive():
                for source in new:
                    source.join(from_the_start=self._founding.holds)

    def fits(self, text: bytes) -> bool:
        """Return whether a record can be written at all."""
        return len(text) + _FRAME_BYTES <= min(self._settings.most, LINE_BYTES)

    def append(self, texts: Sequence[bytes], records: Sequence[Record] = ()) -> int:
        """Write texts of records (see :mod:`.lines`); return how many, from the first, are written.

        Args:
            texts: what is written.
            records: what they say; then the lanes of this process need not read them.
        """
        done = 0
        while done < len(texts):
            group = _group(texts[done:] if done else texts, self._group)
            written = self._append(frames(group), records[done : done + len(group)])
            done += written
            if written < len(group):
                break
        return done

    def _append(self, lines: Sequence[bytes], records: Sequence[Record]) -> int:
        if self._inode is None:
            return 0
        try:
            self._join()  # who came since the last look gets what is written from now on
            written = self._writer.append(lines)
        except OSError as error:
            if not self._settings.delivers:
                self._inode = None  # the folder is looked at again
            self._fail(error)
            return 0
        name, start, offset = self._writer.name, self._writer.start, self._writer.offset
        segment = self._index.segments.get(name) or self._index.add(name)
        segment.size = offset
        for source in self.sources.values():
            source.wrote(written, name, start, offset)
        if written == len(records) and any(source.leading for source in self.sources.values()):
            self._index.kept.put(name, start, piece_of(lines, start, records))
        self._well = self._well or written == len(lines)
        return written

    def has_providers(self) -> bool:
        """Return whether anybody delivers, or has delivered, from this folder."""
        try:
            return bool(self.sources) or bool(self.folder.providers())
        except OSError:
            return bool(self.sources)

    def _leading(self) -> Mapping[str, Mapping[str, int]]:
        return {
            file_name(name): dict(source.places.offsets)
            for name, source in self.sources.items()
            if source.leading
        }

    def _dropped(self, reason: str, count: int, noted: bool) -> None:
        if not noted:
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        self._warn(
            "",
            f"spool-{reason}",
            "the spool is full: its oldest records are dropped (see AGENT_TRACKING_SPOOL_BYTES)"
            if reason == "queue-full"
            else "records of the spool are too old: they are dropped (see AGENT_TRACKING_SPOOL_AGE)",
            count,
        )

    def _fail(self, error: OSError) -> None:
        if self._well:
            self._well = False
            self._warn(
                "",
                "spool",
                f"the spool {self.folder.path} cannot be used, so records"
                f" {'go through memory' if self._settings.delivers else 'wait in memory'} until it can:"
                f" {error.strerror or error}",
                0,
            )

    def stats(self) -> SpoolStats:
        """Return what waits in the folder, as far as is known."""
        if self._settings.delivers:
            offsets = {name: source.places.offsets for name, source in self.sources.items()}
            return lag(self.folder, self._index.readable(), offsets)
        try:
            with self._looking_on:
                self._seen.scan(force=True)
            return lag(self.folder, self._seen.readable(), known_positions(self.folder))
        except OSError:
            return SpoolStats(path=self.folder.path)

    def close(self) -> None:
        """End: what was written stays, whoever wants to may deliver."""
        self._writer.seal()
        self._founding.end()
        try:
            if self._inode is not None and self._settings.delivers:
                self._index.scan(force=True)
                self._index.seal()
                self._housekeeper.tidy(force=True)
        except OSError:  # somebody else will
            pass
        for source in self.sources.values():
            source.close()

    def abandon(self) -> None:
        """Close what a forked child inherited; the parent goes on with it."""
        self.folder.files.abandon()


def _group(texts: Sequence[bytes], size: int) -> Sequence[bytes]:
    """Return as many, from the first, as have ``size`` bytes as lines; one at least."""
    if sum(map(len, texts)) + FRAME * len(texts) <= size:
        return texts
    count = 0
    for text in texts:
        size -= len(text) + FRAME
        if size < 0:
            break
        count += 1
    return texts[: max(1, count)]


def retry_dead(path: str, provider: str, ids: Collection[str] | None = None, *, most: int) -> int:
    """Put records that were set aside back into the spool, for their provider only.

    Args:
        path: the folder.
        provider: whose.
        ids: message ids; ``None`` for all.
        most: the spool's bound in bytes.

    Returns:
        How many; each keeps its message id.

    Raises:
        SpoolError: the folder cannot be written to.
    """
    problems: list[str] = []
    spool = Spool(
        SpoolSettings(path=path, most=most, delivers=False),
        IdPrefix().head,
        lambda _provider, _kind, text, _count: problems.append(text),
    )
    try:
        if not spool.look():
            raise SpoolError("; ".join(problems))
        return DeadLetters(spool.folder).write_again(provider, spool.append, ids)
    finally:
        spool.close()
