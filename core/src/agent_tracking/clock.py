"""Times as the providers want them."""

from __future__ import annotations

from datetime import datetime, timezone
from math import floor
from time import gmtime, strftime

__all__ = ["LATEST", "iso_text", "seconds_of"]

#: The last second that four-digit years can name: 9999-12-31T23:59:59Z.
LATEST = 253_402_300_799.0

_second: tuple[int, str] = (0, "1970-01-01T00:00:00")


def iso_text(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339 text in UTC, with microseconds.

    >>> iso_text(1777888800.5)
    '2026-05-04T10:00:00.500000Z'
    """
    global _second  # noqa: PLW0603  a cache of one pair, replaced as a whole: threads may race for it
    known, text = _second
    micros = round((seconds - known) * 1_000_000)
    if not 0 <= micros < 1_000_000:
        whole = floor(seconds)
        micros = round((seconds - whole) * 1_000_000)
        if micros == 1_000_000:
            whole, micros = whole + 1, 0
        text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(whole))
        _second = (whole, text)
    return f"{text}.{str(1_000_000 + micros)[1:]}Z"


def seconds_of(timestamp: object) -> float | None:
    """Return a time given by the caller as seconds since 1970, or ``None`` if it is none.

    Numbers are seconds; text is ISO 8601, read as UTC when it names no offset. (A ``datetime`` arrives
    here as text with its offset.)
    """
    if type(timestamp) is str:
        try:
            moment = datetime.fromisoformat(timestamp.strip().replace("Z", "+00:00").replace("z", "+00:00"))
        except ValueError:
            return None
        timestamp = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    if type(timestamp) in {int, float} and 0 <= timestamp <= LATEST:  # type: ignore[operator]
        return float(timestamp)  # type: ignore[arg-type]
    return None
