"""SIGTERM, by default, ends a process without any exit hook: a handler in front of it delivers first.

Chained, never replaced, and only in the main thread (others cannot):

- the default action: deliver within the deadline of a normal exit, then let the default action end the
  process; so its status stays what it was. A second SIGTERM changes nothing: service managers that signal a
  whole group and servers that signal their workers send it twice as a rule. SIGINT ends the wait.
- a handler that was there before this package was imported: begin to deliver, and call it; how the
  process ends is its business. A handler that returns to a server's loop, raises ``SystemExit`` or the like
  ends in a normal exit, where the rest is delivered; one that kills the process should call ``flush()``.
- SIG_IGN, and handlers that are installed later: untouched. SIGINT raises KeyboardInterrupt, a normal exit.

The price: Python runs handlers between two instructions of the main thread, so code in C that does not return
holds up the end, as it does with any handler.

Why at import: threads of a server that track cannot set a handler, and waitress sets none. uvicorn (since
0.29, https://github.com/encode/uvicorn/pull/1600) puts back the handler that it found, then raises the
signal again: with one worker it finds this one, since it imports the application first.
"""

from __future__ import annotations

import os
import signal
import threading
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Protocol, cast

from agent_tracking import forks

__all__ = ["chain"]

#: Seconds beyond the deadline for a drain that came to a halt: it may need a lock that the code which the
#: signal interrupted holds.
_GRACE = 1.0


class _Ending(Protocol):
    def drain_at_exit(self) -> None: ...

    def hurry(self) -> None: ...

    def flush(self, timeout: float | None = None) -> object: ...

    def exit_seconds(self) -> float: ...


def chain(*, default_only: bool = False) -> None:
    """Put a handler in front of what SIGTERM does now, if that is the default action or a handler.

    Args:
        default_only: leave handlers alone: they are newer than the import of this package.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    found = signal.getsignal(signal.SIGTERM)
    wanted = found is signal.SIG_DFL if default_only else callable(found) or found is signal.SIG_DFL
    if wanted and not isinstance(found, _Chained):
        with suppress(ValueError):  # the main thread of a sub-interpreter
            signal.signal(signal.SIGTERM, _Chained(found))


class _Chained:
    """The handler in front of ``found``."""

    def __init__(self, found: object) -> None:
        self._found = found
        self._ending = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        current: object = signal.getsignal(number)
        if callable(self._found):
            _hurry()
            self._found(number, frame)
        elif current is not self:  # called by the handler that replaced it, which goes on
            _hurry()
        elif os.getpid() == 1:  # the kernel spares the first process of a container the default action
            _beside(lambda tracker: tracker.flush(tracker.exit_seconds()))
        elif not self._ending:
            self._ending = True
            try:
                _beside(lambda tracker: tracker.drain_at_exit())
            finally:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)


def _trackers() -> list[_Ending]:
    forks.check()
    return [cast("_Ending", tracker) for tracker in list(forks.trackers)]


def _hurry() -> None:
    with suppress(Exception):
        for tracker in _trackers():
            tracker.hurry()


def _beside(deliver: Callable[[_Ending], object]) -> None:
    """Run ``deliver`` on a thread of its own, and wait for it no longer than the end may take.

    Not on this one: the code that the signal interrupted may hold a lock that is needed.
    """
    trackers = _trackers()
    done = allocate_lock()
    done.acquire()

    def work() -> None:
        with suppress(Exception):
            for tracker in trackers:
                deliver(tracker)
        done.release()

    seconds = _GRACE
    with suppress(Exception):
        seconds += max(tracker.exit_seconds() for tracker in trackers)
    try:
        start_new_thread(work, ())
    except RuntimeError:  # out of threads, or the interpreter ends
        work()
    done.acquire(timeout=seconds)
