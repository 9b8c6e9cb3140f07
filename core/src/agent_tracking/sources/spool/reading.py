"""The segments of a folder, read in order for one provider: a few records ahead, never all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from agent_tracking.sources.protocol import RECORD_OVERHEAD
from agent_tracking.sources.spool.folder import Folder
from agent_tracking.sources.spool.places import Places
from agent_tracking.sources.spool.segments import Cursor, Index, Item
from agent_tracking.sources.spool.trial import RANGES

__all__ = ["Reading"]

#: Of so many batches one is taken from the newest segment, while there is much to catch up.
NEWEST_EVERY = 4
#: Much: so many bytes of unread older segments.
BACKLOG = 1024 * 1024
#: Records that are read ahead; their bytes are bounded by what is read at once.
AHEAD = 1_000


class Reading:
    """Reads on behind a provider's offsets.

    Args:
        provider: whose records.
        folder, index: where.
        places: the provider's offsets.
        skipped: told the reason for each line that holds no usable record.
        trouble: told what a file that cannot be read now gives; the others are read on.
    """

    def __init__(
        self,
        provider: str,
        folder: Folder,
        index: Index,
        places: Places,
        skipped: Callable[[str], None],
        trouble: Callable[[OSError], None],
    ) -> None:
        self._provider = provider
        self._files = folder.files
        self._index = index
        self._places = places
        self._skipped = skipped
        self._trouble = trouble
        self._cursors: dict[str, Cursor] = {}
        self._turn = 0
        self._rest = 0
        #: Bytes and lines read, for estimates.
        self._bytes, self._lines = 300, 1

    def ahead(self) -> int:
        """Return how many records are read and not taken."""
        return sum(len(cursor.items) for cursor in self._cursors.values())

    def waiting(self) -> int:
        """Return about how many records wait; 0 only while none can be taken."""
        ahead = self.ahead()
        return ahead + self._rest if ahead else 0

    def seen(self) -> list[float]:
        """Return when the first record of each segment was seen."""
        return [cursor.items[0].seen for cursor in self._cursors.values() if cursor.items]

    def take(self, records: int, size: int, taken: list[Item]) -> None:
        """Move the next records into ``taken``: oldest first, every now and then newest first."""
        self._turn += 1
        cursors: Iterator[Cursor] | Sequence[Cursor] = self._unfinished()
        if self._turn % NEWEST_EVERY == 0:
            cursors = list(cursors)
            newest = _newest(cursors)
            cursors = cursors if newest is None else [newest]
        used = 0
        for cursor in cursors:
            before = len(taken)
            while len(taken) < records:
                if not cursor.items and not self._fill(cursor):
                    break
                if not cursor.items:
                    continue
                size = _move(cursor.items, taken, records, size)
                if size < 0:
                    self._count_rest()
                    return
            used += len(taken) > before
            if len(taken) >= records or used == RANGES:
                break
        if self.ahead():
            self._count_rest()
        else:
            self.look(check=False)

    def give_back(self, items: Sequence[Item]) -> int:
        """Take items back that were taken, not settled; return how many have no file any more."""
        gone = 0
        for item in reversed(items):
            name = item.cursor.segment.name
            if self._cursors.get(name) is item.cursor:
                item.cursor.items.appendleft(item)
            gone += name not in self._index.segments
        return gone

    def look(self, *, check: bool) -> None:
        """Read ahead; ``check``: find out which segments are sealed, too."""
        count = self.ahead()
        read = 0
        for cursor in self._unfinished():
            if count >= AHEAD or read >= BACKLOG:
                break
            if not cursor.items:
                before = cursor.read
                self._fill(cursor, check=check)
                count += len(cursor.items)
                read += cursor.read - before
        self._count_rest()

    def offset(self, name: str, leased: Sequence[Item]) -> int:
        """Return how far a segment is settled, given what is leased."""
        cursor = self._cursors.get(name)
        if cursor is None:
            return self._places.offsets.get(name, 0)
        return cursor.position(min((item.start for item in leased if item.cursor is cursor), default=None))

    def settle(self, leased: Sequence[Item]) -> None:
        """Bring the provider's offsets up to date."""
        for name, cursor in self._cursors.items():
            offset = self.offset(name, leased)
            if offset != cursor.settled:
                cursor.settled = offset
                self._places.move(name, offset)

    def forget_gone(self, leased: Sequence[Item]) -> None:
        """Close what was removed, and what is done."""
        for name, cursor in list(self._cursors.items()):
            done = cursor.ended and not cursor.items and all(item.cursor is not cursor for item in leased)
            if done:
                self._places.move(name, cursor.segment.size)
            if done or name not in self._index.segments:
                cursor.close()
                del self._cursors[name]

    def close(self) -> None:
        """Close everything."""
        for cursor in self._cursors.values():
            cursor.close()
        self._cursors = {}
        self._rest = 0

    def _unfinished(self) -> Iterator[Cursor]:
        """Yield a cursor for each segment that is not done, oldest first."""
        for segment in self._index.readable():
            cursor = self._cursors.get(segment.name)
            if cursor is None:
                offset = self._places.offsets.get(segment.name, 0)
                if segment.sealed and offset >= segment.size:
                    continue
                try:
                    cursor = Cursor(self._files, segment, offset, self._provider, self._index.kept)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._trouble(error)
                    continue
                self._cursors[segment.name] = cursor
            yield cursor

    def _fill(self, cursor: Cursor, *, check: bool = False) -> bool:
        """Read on in a segment; return whether there was anything."""
        segment = cursor.segment
        if cursor.ended or not (segment.size > cursor.read or segment.sealed or check):
            return False
        before = cursor.read
        try:
            found = cursor.fill(self._skipped)
        except OSError as error:
            self._trouble(error)
            return False
        self._bytes += cursor.read - before
        self._lines += len(cursor.items)
        return found

    def _count_rest(self) -> None:
        """Estimate how many records there are beyond those that were read."""
        unread = 0
        for segment in self._index.readable():
            cursor = self._cursors.get(segment.name)
            at = cursor.read if cursor is not None else self._places.offsets.get(segment.name, 0)
            unread += max(0, segment.size - at)
        self._rest = unread * self._lines // self._bytes


def _move(items: deque[Item], taken: list[Item], records: int, size: int) -> int:
    """Move items until there are so many; return how many bytes more may be taken, negative if none."""
    while items and len(taken) < records:
        item = items[0]
        size -= item.end - item.start + RECORD_OVERHEAD
        if size < 0 and taken:
            return -1
        taken.append(items.popleft())
    return max(0, size)


def _newest(cursors: Sequence[Cursor]) -> Cursor | None:
    """Return the newest segment with something unread, if there is much more in older ones."""
    unread = [cursor for cursor in cursors if cursor.items or cursor.segment.size > cursor.read]
    if len(unread) < 2:
        return None
    backlog = sum(cursor.segment.size - cursor.settled for cursor in unread[:-1])
    return unread[-1] if backlog > BACKLOG else None
