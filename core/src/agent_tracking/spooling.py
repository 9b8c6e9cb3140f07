"""The dispatcher's way to the spool: what comes from the intake is written, and waits there for its lanes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent_tracking.counters import SpoolStats
from agent_tracking.sources.spool.lines import encode
from agent_tracking.sources.spool.spool import Spool, SpoolSettings

if TYPE_CHECKING:
    from agent_tracking.counters import LaneCounters
    from agent_tracking.events import Record
    from agent_tracking.logs import Reporter
    from agent_tracking.settings import Settings
    from agent_tracking.sources.spool.source import SpoolSource

__all__ = ["Spooling"]

#: Looks come a little more often than records have to be on the disk, for what a look itself takes.
_SOONER = 0.9
#: Seconds between two looks for what other processes do, while nothing is tracked here.
_LEADING, _FOLLOWING = 0.25, 1.0


class Spooling:
    """Writes records to the spool, and keeps what it does not take.

    Where this process delivers, that goes to its lanes through memory; where another one does, it is kept
    here and in the intake until it can be written.

    Attributes:
        elsewhere: another process delivers: this one writes, and nothing else.
        gap: seconds between two looks.
        unwritten: entries that are to be written first.
    """

    def __init__(self, settings: Settings, ids: str, report: Reporter, role: str) -> None:
        self.elsewhere = settings.delivery == "relay"
        self.gap = settings.spool_sync.seconds * _SOONER
        self.unwritten: list[bytes] = []
        self._wrote = False
        self._closed = False
        self._too_large = 0
        self._spool = Spool(
            SpoolSettings(
                path=settings.spool or "",
                most=settings.spool_bytes,
                age=settings.spool_age,
                fsync=settings.spool_sync.fsync,
                role="app" if self.elsewhere or role == "app" else role,
                delivers=not self.elsewhere,
                records=settings.queue_records,
                size=settings.queue_bytes,
            ),
            ids,
            report.warn,
        )

    @property
    def dropped(self) -> dict[str, int]:
        """What was dropped without any provider knowing, by reason."""
        return {**self._spool.dropped, **({"too-large": self._too_large} if self._too_large else {})}

    def source(self, provider: str, counters: LaneCounters) -> SpoolSource:
        """Return the source of a provider's lane."""
        return self._spool.source(provider, counters)

    def forget(self, provider: str) -> None:
        """Deliver for a provider no longer."""
        self._spool.forget(provider)

    def look(self) -> bool:
        """See what became of the folder; write what is left; return whether more can be taken."""
        self._wrote = False
        if self._closed:
            return False
        self._spool.look()
        if self.unwritten:
            del self.unwritten[: self._write(self.unwritten)]
        return not self.unwritten

    def commit(self, texts: Sequence[bytes], records: Sequence[Record] = ()) -> int:
        """Write entries; return how many, from the first, are taken care of.

        Args:
            texts: what is written.
            records: what they say, where that is known already.
        """
        written = self._write(texts, records)
        if self.elsewhere and written < len(texts):
            left = [text for text in texts[written:] if self._spool.fits(text)]
            self._too_large += len(texts) - written - len(left)
            self.unwritten += left
            written = len(texts)
        return written

    def _write(self, texts: Sequence[bytes], records: Sequence[Record] = ()) -> int:
        written = self._spool.append(texts, records) if texts else 0
        self._wrote = self._wrote or written > 0
        return written

    def busy(self) -> bool:
        """Return whether to look again soon: what is tracked next should wake nobody."""
        return self._wrote or bool(self.unwritten)

    def idle(self) -> float | None:
        """Return the seconds to the next look when nothing is to be done; ``None``: until somebody rings."""
        if self.elsewhere:
            return None
        return _LEADING if any(source.leading for source in self._spool.sources.values()) else _FOLLOWING

    def wanted(self) -> bool:
        """Return whether anybody will deliver what is written."""
        return self.elsewhere or self._spool.has_providers()

    def founded(self) -> None:
        """The first records are handed out: providers that come from now on do not get older ones."""
        self._spool.founded()

    def text_of(self, record: Record) -> bytes | None:
        """Return the text of a record that processors have seen; ``None`` if it cannot be written."""
        return encode(record, time.time())

    def stats(self) -> SpoolStats:
        """Return what is in the folder."""
        return self._spool.stats()

    def close(self) -> None:
        """End; on the dispatcher's thread."""
        self._closed = True
        self._spool.close()

    def abandon(self) -> None:
        """Close what a forked child inherited."""
        self._spool.abandon()
