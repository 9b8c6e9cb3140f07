"""What the dispatcher does with what is in the intake: records, processors, then the lanes or the spool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from agent_tracking.intake import DISABLED
from agent_tracking.prepare import prepare
from agent_tracking.sources.protocol import weight

if TYPE_CHECKING:
    from agent_tracking.delivery.lane import Lane
    from agent_tracking.events import Record
    from agent_tracking.logs import Reporter
    from agent_tracking.processors.pipeline import Pipeline
    from agent_tracking.spooling import Spooling
    from agent_tracking.tracker import Tracker

__all__ = ["HandOut"]

#: Records, and bytes, taken from the intake at once, before the lanes get them.
_SLICE = 1_000
_SLICE_BYTES = 1024 * 1024


class HandOut:
    """Empties the intake.

    Args:
        tracker: whose intake and processors.
        report: logs what goes wrong.
        lanes: returns the lanes of this moment.
        spooling: the way to the spool, if there is one.

    Attributes:
        tracked: records taken out, those that were dropped because it was full too.
        salvaged: those in which something was changed.
        dropped: those that no lane gets, by reason.
    """

    def __init__(
        self,
        tracker: Tracker,
        report: Reporter,
        lanes: Callable[[], Mapping[str, Lane]],
        spooling: Spooling | None,
    ) -> None:
        self._tracker = tracker
        self._report = report
        self._lanes = lanes
        self._spooling = spooling
        self._pipeline: Pipeline | None = None
        self._handed_out = False
        self.tracked = 0
        self.salvaged = 0
        self.dropped: Counter[str] = Counter()

    def run(self) -> None:
        """Hand out what is there now."""
        tracker = self._tracker
        overflowed = 0
        while tracker.overflowed:
            tracker.overflowed.popleft()
            overflowed += 1
        if overflowed:
            self._overflow(overflowed)
        spooling = self._spooling
        if spooling is not None and not spooling.look() and spooling.elsewhere:
            return  # what the disk does not take waits in the intake, which is bounded
        # Only those that are there now: a processor may track for each record that it sees.
        left = len(tracker.entries)
        while left > 0 and tracker.entries:
            entries = self._slice(left)
            left -= len(entries)
            if spooling is None:
                self._fan_out([record for record in map(self._record, entries) if record is not None])
            elif not self._commit(entries, spooling):
                return
        if spooling is not None and not self._handed_out:
            self._handed_out = True
            spooling.founded()

    def _slice(self, most: int) -> list[bytes]:
        """Take some entries out of the intake."""
        tracker = self._tracker
        take = tracker.entries.popleft
        entries: list[bytes] = []
        most = min(most, _SLICE)
        try:
            if tracker.size <= _SLICE_BYTES:  # all of them together
                for _ in range(most):
                    entries.append(take())  # noqa: PERF401  one by one: what was taken is never lost
            else:
                room = _SLICE_BYTES
                while len(entries) < most and room >= 0:
                    entries.append(take())
                    room -= len(entries[-1])
        except IndexError:  # callers drop the oldest of a full intake
            pass
        tracker.size = tracker.size - sum(map(len, entries)) if tracker.entries else 0
        return entries

    def _commit(self, entries: list[bytes], spooling: Spooling) -> bool:
        """Write to the spool; what it does not take goes to the lanes. Return whether to go on."""
        if spooling.elsewhere and not self._tracker.processors:
            self.tracked += len(entries)  # whoever delivers looks into them
            spooling.commit(entries)
            return not spooling.unwritten
        records, texts = self._records_and_texts(entries, spooling)
        written = spooling.commit(texts, records) if spooling.wanted() else 0
        if not spooling.elsewhere:
            self._fan_out(records[written:])
        return not spooling.unwritten

    def _records_and_texts(
        self, entries: list[bytes], spooling: Spooling
    ) -> tuple[list[Record], list[bytes]]:
        """Return the records, and for each the text that is written: the entry itself, if nothing saw it."""
        records = []
        texts = []
        for entry in entries:
            record = self._record(entry)
            if record is None:
                continue
            text = spooling.text_of(record) if self._tracker.processors else entry
            if text is None:
                self._drop("unusable", "a record that a processor changed cannot be written")
                continue
            records.append(record)
            texts.append(text)
        return records, texts

    def _overflow(self, count: int) -> None:
        self.tracked += count
        self.dropped["queue-full"] += count
        self._report.warn(
            "",
            "queue-full",
            "the intake is full: the oldest records are dropped (see AGENT_TRACKING_QUEUE_RECORDS,"
            " AGENT_TRACKING_QUEUE_BYTES)",
            count,
        )

    def _record(self, entry: bytes) -> Record | None:
        self.tracked += 1
        try:
            record, changed = prepare(entry, self._tracker.ids)
        except Exception:  # noqa: BLE001  nothing that was tracked may stop the dispatcher
            record, changed = "unusable", True
        self.salvaged += changed
        if isinstance(record, str):
            self._drop(record, "a record was dropped")
            return None
        return self._processed(record)

    def _processed(self, record: Record) -> Record | None:
        processors = self._tracker.processors
        if not processors:
            return record
        if self._pipeline is None or self._pipeline.processors is not processors:
            from agent_tracking.processors.pipeline import Pipeline

            self._pipeline = Pipeline(processors, lambda kind, text: self._report.warn("", kind, text))
        outcome = self._pipeline.run(record)
        if isinstance(outcome, str):
            self.dropped[outcome] += 1
            return None
        return outcome

    def _drop(self, reason: str, text: str) -> None:
        self.dropped[reason] += 1
        self._report.warn("", reason, f"{text}: {reason}", 1)

    def _fan_out(self, records: list[Record]) -> None:
        lanes = self._lanes()
        if not records:
            return
        disabled = DISABLED in self._tracker.special  # also for providers that were registered at run time
        if disabled or not lanes:
            self.dropped["disabled" if disabled else "no-provider"] += len(records)
            return
        routed = any(record.never or record.only is not None for record in records)
        size = sum(map(weight, records))
        if routed and (nobodys := sum(not any(map(record.goes_to, lanes)) for record in records)):
            self.dropped["no-provider"] += nobodys
        for name, lane in lanes.items():
            if not routed:
                lane.put(records, size)
            elif chosen := [record for record in records if record.goes_to(name)]:
                lane.put(chosen, sum(map(weight, chosen)))
