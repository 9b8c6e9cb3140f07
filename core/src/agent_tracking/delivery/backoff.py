"""When to try again."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timezone
from email.utils import parsedate_to_datetime
from time import time

import msgspec

__all__ = ["RETRY_AFTER_LIMIT", "RetryPolicy", "pause_of", "retry_after"]

#: The longest that an answer's Retry-After is obeyed, in seconds.
RETRY_AFTER_LIMIT = 60.0


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Exponential backoff with full jitter, and the window after which a batch is given up.

    Attributes:
        first: seconds, the least before any new try.
        longest: seconds, the most before any new try.
        tries, window: given up after at least so many tries and so many seconds.
        random: a number from 0 to 1.
    """

    first: float = 0.5
    longest: float = 30.0
    tries: int = 10
    window: float = 300.0
    random: Callable[[], float] = random.random

    def delay(self, tries: int) -> float:
        """Return the seconds to wait after ``tries`` tries: up to twice as much each time."""
        most = min(self.longest, self.first * 2.0 ** min(tries, 30))
        return self.first + self.random() * max(0.0, most - self.first)

    def over(self, tries: int, seconds: float) -> bool:
        """Return whether a batch tried so often, for so long, is given up."""
        return tries >= self.tries and seconds >= self.window


def pause_of(after: object) -> float | None:
    """Return the seconds that a provider asked for, 0 to 60; ``None`` for what is no time to wait."""
    if not isinstance(after, int | float) or not after >= 0:  # NaN is not
        return None
    return float(min(after, RETRY_AFTER_LIMIT))


def retry_after(header: str | None, now: Callable[[], float] = time) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, clamped to 60; ``None`` if it is unreadable.

    Both forms of RFC 9110, section 10.2.3: whole seconds, or an HTTP date (without a zone: GMT).
    """
    text = (header or "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), RETRY_AFTER_LIMIT)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        seconds = moment.timestamp() - now()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return min(seconds, RETRY_AFTER_LIMIT) if seconds > 0 else None
