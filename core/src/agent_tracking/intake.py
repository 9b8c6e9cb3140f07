"""What runs on the caller's thread, and nothing else.

``track()`` encodes its arguments once, appends the bytes to the intake, and returns. It imports nothing,
takes no lock that another thread holds while it works, and wakes the dispatcher only when that sleeps.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from time import time
from typing import TYPE_CHECKING, Any

from agent_tracking.contexts import CURRENT, USED
from agent_tracking.names import IdPrefix
from agent_tracking.salvage import salvaged
from agent_tracking.snapshot import ENTRY_BYTES, EVENT, IDENTITY, OPTIONS, dumps, merged, plain

if TYPE_CHECKING:
    from datetime import datetime

    from agent_tracking.typed import TypedEvent

__all__ = ["ATTENTION", "CAPTURED", "CLOSED", "DISABLED", "STRICT", "Intake"]

#: How long the dispatcher may stay away from the intake before a caller looks after it, in seconds.
ATTENTION = 2.0
#: Members of ``Intake.special`` beside the ids of quiet threads.
CLOSED, DISABLED, STRICT = "closed", "disabled", "strict"
#: Another one: a test captures what is tracked, so nothing is on its way to anywhere.
CAPTURED = "captured"


class Intake:
    """The bounded queue that ``track()`` appends to, and the two calls that do it.

    Attributes:
        entries: one JSON text for each record, oldest first (see :class:`agent_tracking.prepare.Entry`).
        size: their bytes together, about.
        due: wall-clock time until which no caller needs to wake the dispatcher; 0 when it sleeps.
        overflowed: one member for each entry that was dropped because the intake was full.
        special: why a record may have to be refused; empty as a rule.
        instead: takes entries and their times in the place of the queue, while a test captures them.
    """

    def __init__(self) -> None:
        self.ids = IdPrefix()
        self.entries: deque[bytes] = deque()
        self.size = 0
        self.due = 0.0
        self.overflowed: deque[None] = deque()
        self.special: set[object] = set()
        self.instead: Callable[[bytes, float], None] | None = None
        self._max_records = 100_000
        self._max_bytes = 64 * 1024 * 1024
        self._numbers = count()
        self._losses: deque[str] = deque()
        self._lost: Counter[str] = Counter()
        self._fold_lock = allocate_lock()

    def track(
        self,
        name: str | TypedEvent,
        properties: Mapping[str, Any] | None = None,
        *,
        user_id: str | int | None = None,
        anonymous_id: str | None = None,
        session_id: str | None = None,
        timestamp: datetime | float | str | None = None,
        message_id: str | None = None,
    ) -> None:
        """Record that something happened. Returns at once and never raises (except in strict mode).

        Args:
            name: what happened, e.g. ``"order paid"``; 1 to 200 characters. Or a dataclass, attrs, pydantic
                or msgspec object: :mod:`agent_tracking.typed`.
            properties: anything about it; copied now, so later changes are not seen. What JSON does not
                know is converted, see :mod:`agent_tracking.salvage`.
            user_id: who did it. Placeholders such as ``"anonymous"`` count as no id.
            anonymous_id: a device or visitor id, for people who are not known yet.
            session_id: the session it belongs to.
            timestamp: when, if not now: a ``datetime`` (naive: UTC), seconds since 1970, ISO 8601 text.
            message_id: a UUID under which every provider counts the event once; other text is turned
                into one. Made when absent.

        Example::

            track("order paid", {"total": 9.5, "currency": "CHF"}, user_id="u-1")
        """
        now = time()
        if self.special and self._refused(name, properties):
            return
        under = None
        data = properties
        try:
            if USED and (bound := CURRENT.get()) is not None:
                under, user_id, anonymous_id, session_id = bound.fill(user_id, anonymous_id, session_id)
                if under:
                    data = merged(under, properties)
            if not plain(data):
                raise TypeError
            entry = dumps(
                (
                    EVENT,
                    next(self._numbers),
                    now,
                    name,
                    data,
                    user_id,
                    anonymous_id,
                    session_id,
                    timestamp,
                    message_id,
                ),
                None,
                OPTIONS,
            )
            entry += b"\n"  # a copy of its own size: see snapshot
            if len(entry) > ENTRY_BYTES:
                raise ValueError
        except BaseException as error:  # noqa: BLE001  track() raises for nothing that it is given
            others = (user_id, anonymous_id, session_id, timestamp, message_id)
            self._put_salvaged(error, EVENT, now, name, properties, others, under)
            return
        # What _put() does, without the call, which is an eighth of the time when other work came in between.
        if (instead := self.instead) is not None:
            instead(entry, now)
            return
        self.entries.append(entry)
        self.size += len(entry)
        if self.size > self._max_bytes or len(self.entries) > self._max_records:
            self._overflow()
        if now > self.due:
            self.attend(now)

    def identify(
        self,
        user_id: str | int,
        traits: Mapping[str, Any] | None = None,
        *,
        anonymous_id: str | None = None,
        timestamp: datetime | float | str | None = None,
        message_id: str | None = None,
    ) -> None:
        """Record what is known of a user. Returns at once and never raises (except in strict mode).

        Args:
            user_id: who; without it, or with a placeholder, the call is dropped and counted.
            traits: what is known: ``{"email": ..., "plan": ...}``; copied now.
            anonymous_id: what the user was called before being known: the providers merge the two.
            timestamp: when, as for ``track``.
            message_id: as for ``track``.

        Example::

            identify("u-1", {"email": "a@example.com", "plan": "pro"}, anonymous_id="visitor-7")
        """
        now = time()
        if self.special and self._refused("$identify", traits, user_id):
            return
        try:
            if USED and anonymous_id is None and (bound := CURRENT.get()) is not None:
                anonymous_id = bound.anonymous_id_of(user_id)
            if not plain(traits):
                raise TypeError
            others = (user_id, anonymous_id, None, timestamp, message_id)
            entry = dumps((IDENTITY, next(self._numbers), now, None, traits, *others), None, OPTIONS)
            entry += b"\n"
            if len(entry) > ENTRY_BYTES:
                raise ValueError
        except BaseException as error:  # noqa: BLE001  identify() raises for nothing that it is given
            others = (user_id, anonymous_id, None, timestamp, message_id)
            self._put_salvaged(error, IDENTITY, now, None, traits, others)
            return
        self._put(entry, now)

    def divert(self, put: Callable[[bytes, float], None] | None) -> None:
        """Give every entry to ``put`` instead of the queue, whatever state this is in; ``None``: no more."""
        if put is None:
            self.special.discard(CAPTURED)
            self.instead = None
        else:
            self.instead = put
            self.special.add(CAPTURED)

    def _put(self, entry: bytes, now: float) -> None:
        if (instead := self.instead) is not None:
            instead(entry, now)
            return
        self.entries.append(entry)
        self.size += len(entry)  # not exact when threads race; the dispatcher sets it right
        if self.size > self._max_bytes or len(self.entries) > self._max_records:
            self._overflow()
        if now > self.due:
            self.attend(now)

    def _put_salvaged(
        self,
        error: BaseException,
        kind: int,
        now: float,
        name: object,
        data: object,
        others: Sequence[object],
        under: dict[str, Any] | None = None,
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            raise error
        try:
            entry = salvaged(kind, next(self._numbers), now, name, data, others, under)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  for example 20 frames below the recursion limit
            self.lose("unusable")
            return
        self._put(entry, now)

    def _overflow(self) -> None:
        """Drop the oldest entries of a full intake."""
        entries = self.entries
        while self.size > self._max_bytes or len(entries) > self._max_records:
            try:
                self.size -= len(entries.popleft())
            except IndexError:
                self.size = 0
                return
            self.overflowed.append(None)

    def attend(self, now: float) -> None:
        """Wake the dispatcher: called when it sleeps, or has not looked for two seconds."""

    def _refused(self, name: object, data: object, user_id: object = "") -> bool:
        """Return whether a record is dropped at the door, counted; raise in strict mode if it is bad."""
        special = self.special
        if CAPTURED not in special:
            if DISABLED in special:
                return True
            if CLOSED in special:
                self.lose("after-shutdown")
                return True
        if get_ident() in special:
            self.lose("own-traffic")
            return True
        if STRICT in special:
            from agent_tracking.strict import check

            check(name, data, user_id)
        return False

    def lose(self, reason: str) -> None:
        """Count one record that no provider will see."""
        self._losses.append(reason)
        if len(self._losses) > 1_000:
            self.losses()

    def losses(self) -> dict[str, int]:
        """Return how many records were lost before any provider saw them, by reason."""
        if self._fold_lock.acquire(blocking=False):
            try:
                while self._losses:
                    self._lost[self._losses.popleft()] += 1
            finally:
                self._fold_lock.release()
        return dict(self._lost)

    def forget_losses(self) -> None:
        """Begin to count anew what no provider will see."""
        self.losses()
        self._lost = Counter()

    def quiet(self, on: bool) -> None:
        """While on, what this thread tracks is dropped: it is the tracker's own traffic."""
        (self.special.add if on else self.special.discard)(get_ident())

    def apply(self, *, disabled: bool, strict: bool, max_records: int, max_bytes: int) -> None:
        """Take over what the settings say of the caller's thread."""
        self._max_records, self._max_bytes = max_records, max_bytes
        for wanted, mark in ((disabled, DISABLED), (strict, STRICT)):
            (self.special.add if wanted else self.special.discard)(mark)
