"""What happens around a fork: the parent goes on undisturbed, the child begins empty.

Forks that Python makes run the hooks registered here. A program that embeds Python may fork in C without
them (uWSGI does: https://github.com/unbit/uwsgi/issues/1978); where one is known to run, ``track()`` and
``flush()`` compare the process id, which costs too much to be done everywhere.

``logging`` has such hooks, too, and is imported here so that they are older than ours: the newest is called
first before a fork, so ours waits for background imports, which may log, while logging's lock is still
free. And a module that registers hooks on a background thread while a fork waits gets half of them called.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Protocol
from weakref import WeakSet

__all__ = ["BOOT", "HANDLES", "check", "hidden", "trackers", "watch"]

#: Seconds that a fork waits at most for imports that are under way.
_WAIT = 2.0

#: Held while modules are imported or transports made on a background thread: a fork waits for it, since a
#: child would find a half-made module that nobody finishes. Use it as ``forks.BOOT``: a child gets a new one.
BOOT = threading.RLock()
#: Held while a file is opened and noted down, or closed: a child closes those that are noted. Nothing else is
#: waited for by whoever holds it. Use it as ``forks.HANDLES``.
HANDLES = threading.RLock()

#: The locks that this thread's fork has taken, innermost last.
_held = threading.local()
#: What was inherited: kept, so that no finalizer closes a connection that is the parent's.
_inherited: list[object] = []
_pid = os.getpid()
_first = logging  # imported for its hooks


class _Watched(Protocol):
    def after_fork(self) -> object: ...


trackers: WeakSet[_Watched] = WeakSet()


def watch(tracker: _Watched) -> None:
    """Tell ``tracker`` when this process turns out to be a forked child."""
    trackers.add(tracker)


def hidden() -> bool:
    """Return whether this process may be forked without Python being told."""
    return "uwsgi" in sys.modules


def check() -> None:
    """Begin empty if this process turns out to be a child."""
    if os.getpid() != _pid:
        _in_child()


def _before() -> None:
    _held.locks = [lock for lock in (BOOT, HANDLES) if lock.acquire(timeout=_WAIT)]


def _in_parent() -> None:
    for lock in reversed(_held.locks):
        lock.release()


def _in_child() -> None:
    global BOOT, HANDLES, _pid  # noqa: PLW0603  the old ones may be held by a thread that does not exist here
    BOOT, HANDLES = threading.RLock(), threading.RLock()
    _pid = os.getpid()
    _inherited.extend([tracker.after_fork() for tracker in list(trackers)])


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
