"""One call of ``flush()``: until where, and who is behind."""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_tracking.delivery.lane import Lane

__all__ = ["FlushRequest"]


class FlushRequest:
    """Waits until everything tracked before it is settled.

    The dispatcher sets the targets once it has handed out all that was in the intake.
    """

    __slots__ = ("_done", "_lock", "_targets", "notify")

    def __init__(self, notify: Callable[[], None] | None = None) -> None:
        self._targets: list[tuple[Lane, int]] | None = None
        self._done = False
        self._lock = allocate_lock()
        self._lock.acquire()
        #: Called, from any thread, when it is done.
        self.notify = notify

    def aim(self, lanes: Mapping[str, Lane], *, ending: bool = False) -> None:
        """Ask every lane to settle what it was given so far; once.

        Args:
            lanes: the lanes.
            ending: the process ends: what another process delivers is none of its business any more.
        """
        if self._targets is not None:
            return
        chosen = [lane for lane in lanes.values() if not ending or lane.source.leads()]
        self._targets = [(lane, lane.source.end()) for lane in chosen]
        for lane, position in self._targets:
            lane.flush_to(position)

    def settled(self) -> bool:
        """Return whether all is settled, and end the wait if so."""
        if self._targets is None or any(lane.unsettled(position) for lane, position in self._targets):
            return False
        if not self._done:
            self._done = True
            with suppress(RuntimeError):  # two lanes came to the end at once
                self._lock.release()
            if self.notify is not None:
                self.notify()
        return True

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; return whether all is settled."""
        return self._lock.acquire(timeout=max(0.0, timeout))

    def behind(self) -> dict[str, int] | None:
        """Return how many records each provider has still to settle; ``None`` before the targets are set."""
        if self._targets is None:
            return None
        waiting = {lane.name: lane.unsettled(position) for lane, position in self._targets}
        return {name: count for name, count in waiting.items() if count}
