"""What a test has captured, and assertions on it that explain what is different."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import EllipsisType
from typing import Any, TypeVar, overload

import orjson

from agent_tracking.changes import data_json
from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.names import clean_id

__all__ = ["Captured"]

R = TypeVar("R", bound=Record)

#: The longest text of one value in a message.
_SHOWN = 200


class Captured(Sequence[TrackingEvent]):
    """The events captured so far, oldest first, and beside them the identities.

    Attributes:
        dropped: calls of which no record came, by reason (see ``agent_tracking.counters.REASONS``):
            ``{"bad-name": 1}``; with ``capture(processors=...)`` also what those dropped.
        unclaimed: records of threads and tasks that could not be told to belong to one of several captures.
    """

    def __init__(self) -> None:
        self._events: list[TrackingEvent] = []
        self._identities: list[Identity] = []
        self.dropped: Counter[str] = Counter()
        self.unclaimed: list[Record] = []

    @property
    def identities(self) -> Sequence[Identity]:
        """What ``identify()`` was called with, oldest first."""
        return tuple(self._identities)

    def names(self) -> list[str]:
        """Return the events' names, oldest first."""
        return [event.name for event in self]

    def one(self, name: str) -> TrackingEvent:
        """Return the only event of this name; ``AssertionError`` if there is none, or more than one."""
        __tracebackhide__ = True
        found = [event for event in self if event.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise AssertionError(
                f"{name!r} was tracked {len(found)} times, not once:\n{_listed(found)}\n{self._summary()}"
            )
        raise AssertionError(self._absent(name))

    def assert_tracked(
        self,
        name: str,
        properties: Mapping[str, Any] | None = None,
        *,
        user_id: object = ...,
        anonymous_id: object = ...,
        session_id: object = ...,
    ) -> TrackingEvent:
        """Return the first event like this; ``AssertionError`` that shows the nearest one if there is none.

        Args:
            name: the whole name.
            properties: these have to be among its properties, with these values: as they were passed to
                ``track()``, as JSON has them, or what compares equal to that, such as ``pytest.approx(9.5)``
                and ``unittest.mock.ANY``. Others may be there.
            user_id: what it must be; ``None``: it must have none.
            anonymous_id: the same.
            session_id: the same.

        Example::

            events.assert_tracked("order paid", {"total": 9.5}, user_id="u-1")
        """
        __tracebackhide__ = True
        named = [event for event in self if event.name == name]
        if not named:
            raise AssertionError(self._absent(name))
        ids = {"user_id": user_id, "anonymous_id": anonymous_id, "session_id": session_id}
        found, nearest = _first_like(named, "properties", properties, ids)
        if found is None:
            raise AssertionError(f"no {name!r} was tracked like that; {nearest}\n{self._summary()}")
        return found

    def assert_identified(
        self,
        user_id: object,
        traits: Mapping[str, Any] | None = None,
        *,
        anonymous_id: object = ...,
    ) -> Identity:
        """Return the first identity like this, as ``assert_tracked`` does for events.

        Example::

            events.assert_identified("u-1", {"plan": "pro"})
        """
        __tracebackhide__ = True
        identities = self.identities
        of_user = [identity for identity in identities if _same(identity.user_id, user_id, _id)]
        if not of_user:
            users = ", ".join(dict.fromkeys(repr(identity.user_id) for identity in identities))
            raise AssertionError(
                f"{user_id!r} was not identified"
                + (f", but {users}" if users else "")
                + f"\n{self._summary()}"
            )
        found, nearest = _first_like(of_user, "traits", traits, {"anonymous_id": anonymous_id})
        if found is None:
            raise AssertionError(f"{user_id!r} was not identified like that; {nearest}\n{self._summary()}")
        return found

    def assert_nothing_tracked(self) -> None:
        """Raise ``AssertionError`` that lists what there is if an event or an identity was captured."""
        __tracebackhide__ = True
        if records := [*self, *self.identities]:
            raise AssertionError(f"something was tracked:\n{_listed(records)}\n{self._summary()}")

    def clear(self) -> None:
        """Forget everything captured so far."""
        self._events.clear()
        self._identities.clear()
        self.dropped.clear()
        self.unclaimed.clear()

    def add(self, record: Record | str, *, claimed: bool = True) -> None:
        """Keep a record, or count the reason for which there is none; on the thread that tracked it."""
        if not claimed:
            if not isinstance(record, str):
                self.unclaimed.append(record)
        elif isinstance(record, str):
            self.dropped[record] += 1
        elif isinstance(record, TrackingEvent):
            self._events.append(record)
        else:
            self._identities.append(record)

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[TrackingEvent]:
        return iter(tuple(self._events))  # others may be tracking meanwhile

    @overload
    def __getitem__(self, index: int) -> TrackingEvent: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrackingEvent]: ...
    def __getitem__(self, index: int | slice) -> TrackingEvent | list[TrackingEvent]:
        try:
            return self._events[index]
        except IndexError:
            raise IndexError(f"there is no event {index}; {self._summary()}") from None

    def __repr__(self) -> str:
        return f"<Captured {self._summary()}>"

    def _absent(self, name: str) -> str:
        close = get_close_matches(str(name), dict.fromkeys(self.names()), 1)
        meant = f"; is {close[0]!r} meant?" if close else ""
        return f"{name!r} was not tracked{meant}\n{self._summary()}"

    def _summary(self) -> str:
        """Return in one line what there is."""
        names = Counter(self.names())
        parts = [f"{name!r} ({count})" if count > 1 else repr(name) for name, count in names.items()]
        text = f"events captured: {', '.join(parts) or 'none'}"
        if identities := len(self._identities):
            text += f"; identities: {identities}"
        if self.dropped:
            text += "; dropped: " + ", ".join(f"{reason} ({n})" for reason, n in self.dropped.items())
        if self.unclaimed:
            text += (
                f"; {len(self.unclaimed)} of threads or tasks that belong to none of the captures active then"
                " (start them with contextvars.copy_context().run)"
            )
        return text


def _first_like(
    records: Sequence[R], kind: str, data: Mapping[str, Any] | None, ids: Mapping[str, object]
) -> tuple[R | None, str]:
    """Return the first record that has all of this, or how the nearest one is different."""
    nearest: list[str] | None = None
    for record in records:
        lines = [*_data_differences(record, kind, data or {}), *_id_differences(record, ids)]
        if not lines:
            return record, ""
        if nearest is None or len(lines) < len(nearest):
            nearest = lines
    which = f"the nearest of {len(records)}" if len(records) > 1 else "the only one"
    return None, "\n".join((f"{which}:", *(f"  {line}" for line in nearest or ())))


def _data_differences(record: Record, kind: str, expected: Mapping[str, Any]) -> Iterator[str]:
    actual: dict[str, Any] = orjson.loads(record.data_json)
    for key, value in expected.items():
        if key not in actual:
            there = ", ".join(map(repr, actual)) or "none"
            yield f"{kind}[{key!r}]: expected {_shown(value)}, is not there (there are: {_cut(there)})"
        elif not _same(actual[key], value, _json):
            yield f"{kind}[{key!r}]: expected {_shown(value)}, is {_shown(actual[key])}"


def _id_differences(record: Record, ids: Mapping[str, object]) -> Iterator[str]:
    for name, expected in ids.items():
        actual = getattr(record, name)
        if not isinstance(expected, EllipsisType) and not _same(actual, expected, _id):
            yield f"{name}: expected {_shown(expected)}, is {_shown(actual)}"


def _same(actual: object, expected: object, converted: Any) -> bool:  # noqa: ANN401
    """Return whether a value is what is expected, as it is or as a record has it."""
    try:
        if bool(actual == expected):
            return True
    except Exception:  # noqa: BLE001, S110  an array has no truth; its JSON has
        pass
    try:
        return bool(actual == converted(expected))
    except Exception:  # noqa: BLE001  it has no JSON: no record has it
        return False


def _json(value: object) -> object:
    return orjson.loads(data_json({"": value}))[""]


def _id(value: object) -> str | None:
    return clean_id(_json(value))


def _listed(records: Iterable[Record]) -> str:
    lines = []
    for record in records:
        what = repr(record.name) if isinstance(record, TrackingEvent) else "identify"
        who = "".join(
            f" {name}={getattr(record, name)!r}"
            for name in ("user_id", "anonymous_id")
            if getattr(record, name)
        )
        lines.append(f"  {what}{who} {_cut(record.data_json.decode())}")
    return "\n".join(lines)


def _shown(value: object) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
