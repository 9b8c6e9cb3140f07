"""Waking a thread, safe from signal handlers, finalizers and forks."""

from __future__ import annotations

from _thread import allocate_lock

__all__ = ["Bell"]


class Bell:
    """Rung by anyone, waited for by one thread.

    A bare lock: ``threading.Event`` and ``queue.Queue`` take a lock of their own in Python code, in the
    middle of which a signal handler or a finalizer that rings too would wait for itself.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End the wait that is going on, or else the next one."""
        try:
            self._lock.release()
        except RuntimeError:  # rung already
            return

    def wait(self, timeout: float | None) -> bool:
        """Return true when rung, false after ``timeout`` seconds (``None``: wait for ever)."""
        return self._lock.acquire(timeout=-1 if timeout is None else min(max(timeout, 0.0), 86_400.0))
