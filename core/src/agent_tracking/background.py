"""The thread behind an intake: when it starts, who waits for it, and what the end of the process means.

What the thread does is :mod:`agent_tracking.dispatcher`, imported on it.
"""

from __future__ import annotations

import _thread
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any, cast

from agent_tracking import exits, forks
from agent_tracking.bell import Bell
from agent_tracking.flushing import FlushRequest
from agent_tracking.intake import ATTENTION, CAPTURED, CLOSED, STRICT, Intake

if TYPE_CHECKING:
    from agent_tracking.counters import Stats
    from agent_tracking.dispatcher import Dispatcher
    from agent_tracking.tracker import Tracker

__all__ = ["Background"]

#: Member of ``special``: this process may be forked without Python being told.
HIDDEN_FORKS = "hidden-forks"
#: Strict from the first call on, before the settings are read.
_ON = ("1", "true", "yes", "on")
#: Seconds between two looks whether threads have ended.
_LOOK = 0.005


class Background(Intake):
    """An intake and its thread."""

    environ: Mapping[str, str]
    given: dict[str, Any]
    #: What this process is in its status file: ``app``, or ``relay`` where it only delivers.
    role = "app"
    #: How many times the counters have begun at 0.
    counting = 0

    def _reset(self) -> None:
        """Begin empty: at first, and in a forked child."""
        Intake.__init__(self)
        self.bell = Bell()
        self.requests: deque[FlushRequest] = deque()
        self._dispatcher: Dispatcher | None = None
        self._serving: _Serving | None = None
        self._start_lock = allocate_lock()
        self._change_lock = allocate_lock()
        #: Seconds that the end of the process may still take; ``None`` while it goes on.
        self.exit_left: float | None = None
        #: Until when whoever ends the process waits (``time.monotonic``), once somebody does.
        self.exit_deadline: float | None = None
        self._server_ended: float | None = None
        self._final: Stats | None = None
        strict = (self.environ.get("AGENT_TRACKING_STRICT") or "").strip().casefold() in _ON
        if self.given.get("strict", strict):
            self.special.add(STRICT)
        if forks.hidden():
            self.special.add(HIDDEN_FORKS)

    def start(self) -> bool:
        """Start the thread now, rather than at the first record; false if none can be started.

        For a process that delivers from a spool, whether it tracks anything or not.
        """
        return self._wake()

    def attend(self, now: float) -> None:
        """Ring for the dispatcher; see :meth:`agent_tracking.intake.Intake.attend`."""
        if self.exit_left is None:
            self.due = now + ATTENTION
            self._wake()
        else:
            self.drain_at_exit()

    def _refused(self, name: object, data: object, user_id: object = "") -> bool:
        if HIDDEN_FORKS in self.special:
            forks.check()
        return super()._refused(name, data, user_id)

    def _wake(self) -> bool:
        """Ring for the dispatcher, whose thread is started when there is none; false if it cannot be."""
        if not self._alive():
            if not self._start_lock.acquire(blocking=False):
                return True  # another thread, or the code that this signal handler interrupted, is at it
            try:
                if not exits.arm():
                    return False
                serving = _Serving()
                # threading.Thread.start() waits until the new thread runs, which takes the caller longer
                # than all the rest of its first call.
                self._serving = serving
                _thread.start_new_thread(self._dispatch, (serving,))
            except RuntimeError:  # can't start new thread: out of resources, or the interpreter ends
                self._serving = None
                return False
            finally:
                self._start_lock.release()
        self.bell.ring()
        return True

    def _dispatch(self, serving: _Serving) -> None:
        serving.ident = get_ident()
        try:
            self.dispatcher().run()
        finally:
            serving.alive = False

    def dispatcher(self) -> Dispatcher:
        """Return the background half, made at the first call (which imports it: not for callers)."""
        with forks.BOOT:
            if self._dispatcher is None:
                from agent_tracking.dispatcher import Dispatcher

                self.counting += 1
                self._dispatcher = Dispatcher(cast("Tracker", self))
            return self._dispatcher

    def _settle(self, deadline: float) -> FlushRequest:
        """Wait until all is settled, at most until ``deadline`` (``time.monotonic``)."""
        if HIDDEN_FORKS in self.special:
            forks.check()
        request = FlushRequest()
        if not self._nothing_to_do() and self._request(request) and not self._own_thread():
            request.wait(deadline - monotonic())
        elif not self._alive() and self.entries:
            self.dispatcher().run_here(request, deadline)
        return request

    def _nothing_to_do(self) -> bool:
        if self.entries or self.overflowed or self._alive():
            return False
        return self._dispatcher is None or not self._dispatcher.behind()

    def started(self) -> bool:
        """Return whether there is anything to count yet; ``stats()`` would make the dispatcher."""
        return self._dispatcher is not None or self._final is not None

    def _alive(self) -> bool:
        return self._serving is not None and self._serving.alive

    def _own_thread(self) -> bool:
        dispatcher, serving, ident = self._dispatcher, self._serving, get_ident()
        return (serving is not None and serving.ident == ident) or (
            dispatcher is not None and dispatcher.owns(ident)
        )

    def _request(self, request: FlushRequest) -> bool:
        self.requests.append(request)
        if self.exit_left is None:
            self.due = time() + ATTENTION
        return self._wake()

    def _shutdown_seconds(self) -> float:
        if self._dispatcher is not None:
            return self._dispatcher.settings.shutdown_timeout
        given: float | None = self.given.get("shutdown_timeout")
        return exits.seconds(self.environ) if given is None else given

    def drain_at_exit(self) -> None:
        """Deliver what waits within the deadline of a normal exit; called by ``atexit`` and its like.

        From then on ``track()`` delivers before it returns, within what is left of that time: it may be
        an ``atexit`` handler that was registered before this package was imported.
        """
        if CLOSED in self.special:
            return
        if self._own_thread():  # a hook or a processor tracks: whoever waits for it waits for that, too
            self._wake()
            return
        left = self.exit_seconds() if self.exit_left is None else self.exit_left
        deadline = monotonic() + left
        self.exit_left, self.exit_deadline, self.due = left, deadline, 0.0
        if self._nothing_to_do():
            return
        if self._dispatcher is not None:
            self._dispatcher.drain_until(deadline)
        request = self._settle(deadline)
        self.exit_left = min(left, max(0.0, deadline - monotonic()))
        dispatcher = self._dispatcher
        if dispatcher is None:
            return
        dispatcher.finish(deadline)
        if not request.settled():
            self.special.add(CLOSED)
            dispatcher.give_up()
        dispatcher.fall_silent()

    def exit_seconds(self) -> float:
        """Return how long the end may take: less when a server that shut down has just waited in vain."""
        seconds, began = self._shutdown_seconds(), self._server_ended
        spent = 0.0 if began is None else monotonic() - began
        return seconds if spent > 2 * seconds else max(0.0, seconds - spent)

    def hurry(self) -> None:
        """Begin to deliver what waits, and wait for nothing: somebody else ends the process, perhaps soon."""
        if not self._nothing_to_do():
            self._request(FlushRequest())

    def _renew(self, change: Callable[[], None]) -> Dispatcher | None:
        """Change settings, and begin with other threads; return the dispatcher there was.

        What was tracked before is delivered first, within the time of a normal exit. What is tracked
        meanwhile waits in the intake for those that come.
        """
        with self._change_lock:
            with forks.BOOT:  # a dispatcher that is being made may have read its settings
                if self._dispatcher is None and not self._alive() and not self.entries:
                    change()
                    return None
            deadline = monotonic() + self._shutdown_seconds()
            self._settle(deadline)
            with self._start_lock:  # no other thread of the dispatcher's may begin
                dispatcher = self._ended(deadline)
                with forks.BOOT:
                    change()
                    self._dispatcher, self._serving = None, None
            if dispatcher is not None:
                dispatcher.close(deadline, going_on=True)
            if self.entries or self.requests:
                self._wake()
            return dispatcher

    def _ended(self, deadline: float) -> Dispatcher | None:
        """End the dispatcher's thread, and wait until the lanes have delivered what it gave them."""
        dispatcher, serving = self._dispatcher, self._serving
        if dispatcher is None:
            return None
        dispatcher.stop()
        while serving is not None and serving.alive and monotonic() < deadline:
            sleep(_LOOK)
        dispatcher.hurry()
        while dispatcher.behind() and monotonic() < deadline:
            sleep(_LOOK)
        return dispatcher

    def _reopen(self) -> None:
        self.special.discard(CLOSED)
        self._final = None
        self.due = 0.0

    def after_fork(self) -> object:
        """Begin empty in a forked child; return what was inherited, to be kept and never touched."""
        inherited = (self._dispatcher, self.entries, self.requests)
        if self._dispatcher is not None:
            self._dispatcher.abandon()
        kept, instead = self.special & {CAPTURED, CLOSED}, self.instead
        self._reset()
        self.special |= kept
        self.instead = instead
        return inherited


class _Serving:
    """The dispatcher's thread."""

    __slots__ = ("alive", "ident")

    def __init__(self) -> None:
        self.alive = True
        self.ident = 0
