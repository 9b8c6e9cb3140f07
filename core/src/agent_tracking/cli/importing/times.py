"""Times as files have them, to seconds since 1970."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone

import msgspec

from agent_tracking.cli.importing.problems import BadInput, BadLine, quoted
from agent_tracking.clock import LATEST

__all__ = ["FORMATS", "Clock", "clock"]

#: Returns the seconds since 1970 that a value of a file names; raises ``BadLine`` for what is no time.
Clock = Callable[[object], float]

#: How many of a unit are one second.
_UNITS = {"unix": 1, "unix_ms": 1_000, "unix_us": 1_000_000, "unix_ns": 1_000_000_000}
#: What may follow the column in ``--map timestamp=COLUMN:FORMAT``, beside patterns with ``%``.
FORMATS = ("iso", *_UNITS)
#: Numbers without a unit are read as the largest unit that puts them before the year 5138: seconds under
#: 1e11, then milliseconds, microseconds, nanoseconds. So milliseconds before March 1973 need their unit.
_GUESSES = ((1e11, 1), (1e14, 1_000), (1e17, 1_000_000), (1e20, 1_000_000_000))
_NUMBER = frozenset("0123456789.")


def clock(form: str | None) -> Clock:
    """Return what reads times in this form; ``None``: ISO 8601 or a number, whichever the value is.

    >>> clock("unix_ms")(1777888800123), clock(None)("1777888800"), clock("%d.%m.%Y")("04.05.2026")
    (1777888800.123, 1777888800.0, 1777852800.0)
    """
    if form is None:
        return _any
    if form == "iso":
        return lambda value: _within(_iso(value), value)
    if form in _UNITS:
        unit = _UNITS[form]
        return lambda value: _within(_number(value) / unit, value)
    try:
        datetime.now(timezone.utc).strftime(form)
    except ValueError:
        raise BadInput(f"--map: {quoted(form)} is no pattern for times") from None
    return lambda value: _within(_pattern(value, form), value)


def _any(value: object) -> float:
    kind = type(value)
    if kind is str:
        try:
            return _within(_iso(value), value)
        except BadLine:
            if not _NUMBER.issuperset(value.strip()):  # type: ignore[attr-defined]
                raise
    number = _number(value)
    return _within(number / next((unit for below, unit in _GUESSES if number < below), 1), value)


def _number(value: object) -> float:
    if type(value) in {float, int, str}:
        with suppress(ValueError, OverflowError):
            return float(value)  # type: ignore[arg-type]
    raise BadLine(f"the time {quoted(value)} is no number")


def _iso(value: object) -> float:
    if type(value) is not str:
        raise BadLine(f"the time {quoted(value)} is not text in ISO 8601")
    try:
        moment = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        moment = _loose_iso(value)
    return _seconds(moment)


def _loose_iso(value: str) -> datetime:
    """Return what RFC 3339 does not have: a date alone, no seconds, ``UTC`` for the offset."""
    text = value.strip().removesuffix("UTC").strip()
    text = f"{text[:-1]}+00:00" if text[-1:] in {"Z", "z"} else text
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadLine(f"the time {quoted(value)} is not in ISO 8601") from None


def _pattern(value: object, form: str) -> float:
    try:
        return _seconds(datetime.strptime(str(value).strip(), form))  # noqa: DTZ007  naive is UTC, below
    except ValueError:
        raise BadLine(f"the time {quoted(value)} is not in the form {quoted(form)}") from None


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _within(seconds: float, value: object) -> float:
    if 0 <= seconds <= LATEST:
        return seconds
    raise BadLine(f"the time {quoted(value)} is not between 1970 and 9999")
