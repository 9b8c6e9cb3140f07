"""One way to the log: at most one line a minute for each provider and kind of problem, with a count.

Loggers: ``agent_tracking`` and ``agent_tracking.<provider>``. No handler is ever added, so that the first
warning shows even where the application configured no logging.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_tracking.delivery.outbox import Exchange

__all__ = ["Reporter", "one_line"]

_EVERY = 60.0  # seconds between two lines of one kind
#: The most kinds of one provider that are told apart: a kind may be the name of an exception, made for the
#: occasion, and each of them would get its own line and its own place in the memory.
_MOST_KINDS = 50


def one_line(text: str, limit: int = 300) -> str:
    """Return ``text`` with control characters escaped and cut: safe to put into a log line."""
    escaped = text[: limit + 1].encode("unicode_escape").decode()
    return escaped if len(escaped) <= limit else escaped[:limit] + "…"


class Reporter:
    """Says what went wrong, rarely; keeps the texts in strict mode, where they become exceptions.

    Args:
        quiet: called before and after a line is written, so that an application that tracks its own log
            lines does not track these.
        clock: seconds that never go back.
    """

    def __init__(self, quiet: Callable[[bool], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.strict = False
        self.silent = False
        self.problems: list[str] = []
        self._quiet = quiet
        self._clock = clock
        # One that its holder may take again: a finalizer that runs meanwhile may have something to report.
        self._lock = RLock()
        self._next: dict[tuple[str, str], float] = {}
        self._held: dict[tuple[str, str], int] = {}
        self._advised: set[str] = set()

    def warn(self, provider: str, kind: str, text: str, count: int = 1) -> None:
        """Log ``text`` and the count of records since the last line of this provider and kind."""
        if self.silent:
            return
        key = (provider, kind)
        with self._lock:
            if key not in self._next and self._kinds(provider) >= _MOST_KINDS:
                key = (provider, "")
            if self.strict and len(self.problems) < 100:
                self.problems.append(f"{provider or 'agent_tracking'}: {text}")
            total = self._held.pop(key, 0) + count
            now = self._clock()
            if now < self._next.get(key, 0.0):
                self._held[key] = total
                return
            self._next[key] = now + _EVERY
        self._write(provider, text, total)

    def advise(self, text: str) -> None:
        """Log ``text`` once for good: advice rather than a problem, so strict mode does not raise it."""
        with self._lock:
            if self.silent or text in self._advised:
                return
            self._advised.add(text)
        self._write("", text, 0)

    def _kinds(self, provider: str) -> int:
        return sum(1 for known, _ in self._next if known == provider)

    def _write(self, provider: str, text: str, total: int) -> None:
        if not text.isprintable():  # names of classes and the like are anybody's
            text = one_line(text, 500)
        self._quiet(True)
        try:
            # The application's handlers may raise anything: that costs this line.
            with suppress(BaseException):
                # Where no logging is configured the names of loggers are not shown.
                name = f"{one_line(provider, 60)}: " if provider else ""
                _logger(provider).warning("%s%s%s", name, text, f" (records: {total})" if total else "")
        finally:
            self._quiet(False)

    def exchange(self, exchange: Exchange) -> None:
        """Log one request and what came of it, at INFO."""
        self._quiet(True)
        try:
            with suppress(BaseException):
                _logger(exchange.provider).info(
                    "%s: %d records, %d bytes, status %s: %s after %.3f s",
                    exchange.endpoint,
                    exchange.records,
                    exchange.size,
                    exchange.status,
                    exchange.verdict,
                    exchange.seconds,
                )
        finally:
            self._quiet(False)

    def take_problems(self) -> list[str]:
        """Return and forget what was reported since the last call, in strict mode."""
        with self._lock:
            problems, self.problems = self.problems, []
            return problems


def _logger(provider: str) -> logging.Logger:
    return logging.getLogger(f"agent_tracking.{one_line(provider, 60)}" if provider else "agent_tracking")
