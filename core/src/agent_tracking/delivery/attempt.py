"""One batch handed to a provider's hooks, once: what they raise becomes what the lane does next."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from agent_tracking import forks
from agent_tracking.delivery.backoff import pause_of
from agent_tracking.delivery.outbox import Outbox, Refused, Stopped
from agent_tracking.events import Record, TrackingEvent
from agent_tracking.exceptions import Reject, RetryLater
from agent_tracking.logs import one_line

if TYPE_CHECKING:
    from agent_tracking.delivery.loop import LaneLoop
    from agent_tracking.hooks import Hook, Hooks
    from agent_tracking.sources.protocol import Source

__all__ = ["Attempt", "Outcome"]

#: How often a process may die while a record alone is handed over, after it died of the whole batch.
_DEATHS = 2
#: The same where the hook delivers by itself: most of its time it waits, and may be killed for that.
_DEATHS_WAITING = 5


class Outcome:
    """What became of the records of one attempt."""

    __slots__ = ("after", "dropped", "fix", "left", "stop")

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.left: Sequence[Record] = ()
        self.after: float | None = None
        self.stop = ""
        self.fix = ""

    def check(self, records: Sequence[Record]) -> None:
        """Bring what a provider said of ``records`` into order; raise for what makes no sense."""
        self.after = pause_of(self.after)
        if self.left:
            own = {record.message_id: record for record in records}
            self.left = [own[key] for key in dict.fromkeys(record.message_id for record in self.left)]
        if self.dropped:
            counts = list(self.dropped.values())
            if min(counts) < 0 or sum(counts) > len(records) - len(self.left):
                raise ValueError("more records are said to be dropped than there are")
            given = self.dropped
            self.dropped = Counter()
            for reason, count in given.items():
                self.dropped[one_line(str(reason), 60)] += int(count)


class Attempt:
    """Hands batches to the hooks of one provider.

    Args:
        hooks: what ``find_hooks`` returned.
        source: told what is being handed over, and what is given up.
        failed: told what a hook raised, without anything secret: a kind, a text, how many records it cost.
        clock: seconds that never go back.

    Attributes:
        busy_since: when the call that runs now began.
        outbox: takes a whole batch at once, of a provider whose hooks only encode and add.
    """

    def __init__(
        self,
        hooks: Hooks,
        source: Source,
        failed: Callable[[str, str, int], None],
        clock: Callable[[], float],
    ) -> None:
        self._hooks = hooks
        self._source = source
        self._failed = failed
        self._clock = clock
        self._loop: LaneLoop | None = None
        self.busy_since: float | None = None
        self.outbox: Outbox | None = None

    def __call__(self, records: Sequence[Record]) -> Outcome:
        """Hand ``records`` to the hooks once; a provider that says nonsense loses them, counted."""
        try:
            outcome = self._hand_over(records)
            outcome.check(records)
        except BaseException as error:  # noqa: BLE001  even what its exceptions hold is the provider's
            outcome = Outcome()
            self._raised(error, records, outcome)
        return outcome

    def excuse(self) -> None:
        """A hook that delivers by itself has been running for a while: it waits, as it may."""
        if self._hooks.flush is None:
            self._source.excuse()

    def close(self) -> None:
        """Close the event loop of the hooks, if they have one."""
        if self._loop is not None:
            self._loop.close()

    def _hand_over(self, records: Sequence[Record]) -> Outcome:
        outcome = Outcome()
        careful = self._source.hand_over(records)
        if self.outbox is not None and not careful:
            handed = self._together(self.outbox, records, outcome)
        else:
            handed = self._one_by_one(records, careful, outcome)
        self.busy_since = None
        self._source.handed_over()
        if self._hooks.flush is not None and handed:
            self._flush(handed, outcome)
        return outcome

    def _together(self, outbox: Outbox, records: Sequence[Record], outcome: Outcome) -> Sequence[Record]:
        """Put the batch into the outbox; return what is in there."""
        self.busy_since = self._clock()
        place, error = outbox.add_all(records)
        if error is None:
            return records
        handed = list(records[:place])
        while error is not None:
            if _may_pass(error):
                outcome.left, outcome.after = records[place:], getattr(error, "after", None)
                break
            self._refused(error, [records[place]], outcome)
            start = place + 1
            place, error = outbox.add_all(records, start)
            handed += records[start:place]
        return handed

    def _one_by_one(
        self, records: Sequence[Record], careful: Collection[int], outcome: Outcome
    ) -> Sequence[Record]:
        """Call the hooks for each record; return those that they took."""
        handed: list[Record] = []
        track, identify, clock = self._hooks.track, self._hooks.identify, self._clock
        for place, record in enumerate(records):
            if careful and not self._survives(record, careful, outcome):
                continue
            hook = track if type(record) is TrackingEvent else identify
            if hook is None:
                continue
            self.busy_since = clock()
            error = self._call(hook, record)
            if error is None:
                handed.append(record)
            elif _may_pass(error):
                outcome.left, outcome.after = records[place:], getattr(error, "after", None)
                break
            else:
                self._refused(error, [record], outcome)
        return handed

    def _survives(self, record: Record, careful: Collection[int], outcome: Outcome) -> bool:
        """Return whether the record may be handed over: it has not killed too many processes."""
        deaths = _DEATHS if self._hooks.flush is not None else _DEATHS_WAITING
        if id(record) not in careful or self._source.hand_over_one(record, deaths):
            return True
        outcome.dropped["crashed"] += 1
        self._source.set_aside(record, "crashed")
        return False

    def _flush(self, handed: Sequence[Record], outcome: Outcome) -> None:
        self.busy_since = self._clock()
        error = self._call(self._hooks.flush)  # type: ignore[arg-type]
        self.busy_since = None
        if error is None:
            return
        if _may_pass(error):
            left = getattr(error, "records", None)
            outcome.dropped.update(getattr(error, "rejected", {}))
            outcome.left = [*(handed if left is None else left), *outcome.left]
            outcome.after = getattr(error, "after", None)
            if isinstance(error, Stopped):
                outcome.stop, outcome.fix = str(error), error.fix
        else:
            self._refused(error, handed, outcome)

    def _call(self, hook: Hook, *arguments: object) -> BaseException | None:
        """Call a hook, guarded; return what it raised."""
        try:
            result = hook(*arguments)
            if result is not None and inspect.iscoroutine(result):
                self._run_coroutine(result)
        except BaseException as error:  # noqa: BLE001  even SystemExit ends no lane
            return error
        return None

    def _run_coroutine(self, coroutine: Any) -> None:  # noqa: ANN401
        if self._loop is None:
            with forks.BOOT:  # it imports modules
                from agent_tracking.delivery.loop import LaneLoop

            self._loop = LaneLoop()
        self._loop.run(coroutine)

    def _refused(self, error: BaseException, records: Sequence[Record], outcome: Outcome) -> None:
        if not isinstance(error, Reject):
            self._raised(error, records, outcome)
            return
        counts = error.counts
        if len(records) == 1 and sum(counts.values()) != 1:
            counts = {error.reason: 1}
        outcome.dropped.update(counts)
        if len(records) == 1 and not isinstance(error, Refused):  # of several nobody knows which
            self._source.set_aside(records[0], next(iter(counts)))

    def _raised(self, error: BaseException, records: Sequence[Record], outcome: Outcome) -> None:
        outcome.dropped["provider-error"] += len(records)
        for record in records:
            self._source.set_aside(record, "provider-error")
        # The error's own text may hold a secret.
        self._failed(type(error).__name__, f"the provider raised {type(error).__name__}", len(records))


def _may_pass(error: BaseException) -> bool:
    """Return whether the same records may be taken later."""
    if isinstance(error, RetryLater | OSError):
        return True
    httpx = sys.modules.get("httpx")
    return httpx is not None and isinstance(error, httpx.TransportError)
