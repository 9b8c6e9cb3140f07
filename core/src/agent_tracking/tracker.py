"""The tracker: an intake, and the thread that looks after it.

Everything after the intake is :mod:`agent_tracking.dispatcher`, imported on a thread of its own.
"""

from __future__ import annotations

import _thread
import os
import sys
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic, time
from typing import TYPE_CHECKING

from agent_tracking import exits, forks
from agent_tracking.bell import Bell
from agent_tracking.flushing import FlushRequest
from agent_tracking.intake import ATTENTION, CLOSED, STRICT, Intake

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from asyncio import Event as AsyncioEvent

    from agent_tracking.counters import FlushResult, Stats
    from agent_tracking.delivery.backoff import RetryPolicy
    from agent_tracking.delivery.outbox import Exchange, Sender
    from agent_tracking.dispatcher import Dispatcher
    from agent_tracking.events import Record
    from agent_tracking.records import ProviderRecord

__all__ = ["FLUSH_SECONDS", "Processor", "Tracker"]

#: Member of ``special``: this process may be forked without Python being told.
HIDDEN_FORKS = "hidden-forks"
#: Strict from the first call on, before the settings are read.
_ON = ("1", "true", "yes", "on")
#: What ``flush()`` waits at most when no timeout is given, in seconds.
FLUSH_SECONDS = 30.0
#: Changes a record (returns another one) or drops it (returns ``None``), on the dispatcher's thread.
Processor = Callable[["Record"], "Record | None"]


class Tracker(Intake):
    """Gives every event to every provider. Applications use the process-wide one through ``track()``.

    Args:
        environ: where settings and providers' variables are read from; the process's by default.
        discover: find installed providers; without it only those registered at run time.
        processors: change or drop records before any provider sees them, in this order.
        observers: told of each request and its answer, without anything secret, on the lane's thread.
        sender: makes what sends a lane's requests; tests give their own.
        retry: how often, how fast and for how long a batch is tried again.

    Libraries and tests that need a tracker of their own make one, and call ``shutdown()`` in the end.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        discover: bool = True,
        processors: Sequence[Processor] = (),
        observers: Sequence[Callable[[Exchange], None]] = (),
        sender: Callable[[], Sender] | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        if not all(callable(processor) for processor in processors):
            raise TypeError("every processor must be callable: record -> record or None")
        self.environ: Mapping[str, str] = os.environ if environ is None else environ
        self.discover = discover
        self.processors = tuple(processors)
        self.observers = tuple(observers)
        self.sender = sender
        self.retry = retry
        #: Providers registered at run time, by name: kept over a fork.
        self.registered: dict[str, object] = {}
        self._reset()
        forks.watch(self)

    def _reset(self) -> None:
        """Begin empty: at first, and in a forked child."""
        Intake.__init__(self)
        self.bell = Bell()
        self.requests: deque[FlushRequest] = deque()
        self._dispatcher: Dispatcher | None = None
        self._serving: _Serving | None = None
        self._start_lock = allocate_lock()
        #: Seconds that the end of the process may still take; ``None`` while it goes on.
        self.exit_left: float | None = None
        #: Until when whoever ends the process waits (``time.monotonic``), once somebody does.
        self.exit_deadline: float | None = None
        self._server_ended: float | None = None
        self._final: Stats | None = None
        if (self.environ.get("AGENT_TRACKING_STRICT") or "").strip().casefold() in _ON:
            self.special.add(STRICT)
        if forks.hidden():
            self.special.add(HIDDEN_FORKS)

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

                self._dispatcher = Dispatcher(self)
            return self._dispatcher

    def flush(self, timeout: float | None = None) -> FlushResult:
        """Wait until everything tracked before this call is settled.

        Args:
            timeout: seconds to wait at most; ``None`` is 30.

        Returns:
            A result that is true if nothing was lost and nothing is waiting any more; it names the
            providers that are behind. From a provider's hook or a processor it does not wait.

        Raises:
            TrackingError: in strict mode, when something went wrong since the last flush.

        Example::

            if not (result := flush(5)):
                print("not delivered:", result.dropped, result.waiting)
        """
        if self._dispatcher is not None and _inside_a_loop() and not self._own_thread():
            self._dispatcher.report.advise(
                "flush() was called inside a running event loop, which it blocks: use `await aflush()` there"
            )
        return self._result(self._settle(monotonic() + _seconds(timeout)))

    async def aflush(self, timeout: float | None = None) -> FlushResult:
        """Like ``flush``, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        request = FlushRequest(lambda: _tell(loop, done))
        if not self._nothing_to_do():
            self._request(request)
            try:
                await asyncio.wait_for(done.wait(), _seconds(timeout))
            except asyncio.TimeoutError:
                request.notify = None
        return self._result(request)

    def shutdown(self, timeout: float | None = None) -> FlushResult:
        """Deliver what waits, then stop; what is tracked after this is dropped and counted.

        Args:
            timeout: seconds to wait at most; ``None`` is ``AGENT_TRACKING_SHUTDOWN_TIMEOUT``, 5.

        Safe to call twice. ``register_provider`` starts the tracker anew.
        """
        deadline = monotonic() + (self._shutdown_seconds() if timeout is None else max(0.0, timeout))
        self.special.add(CLOSED)
        dispatcher = self._dispatcher
        if dispatcher is not None:
            dispatcher.drain_until(deadline)
        request = self._settle(deadline)
        dispatcher, self._dispatcher, self._serving = self._dispatcher, None, None
        if dispatcher is None:
            return self._result(request)
        dispatcher.close()
        self._final = dispatcher.stats()
        return dispatcher.result(None)

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

    def _result(self, request: FlushRequest) -> FlushResult:
        from agent_tracking.counters import FlushResult

        dispatcher = self._dispatcher
        if dispatcher is not None:
            return dispatcher.result(request)
        return FlushResult(waiting={"intake": len(self.entries)} if self.entries else {})

    def _shutdown_seconds(self) -> float:
        dispatcher = self._dispatcher
        return exits.seconds(self.environ) if dispatcher is None else dispatcher.settings.shutdown_timeout

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
        if not request.settled():
            self.special.add(CLOSED)
            dispatcher.give_up()
        dispatcher.fall_silent()

    def exit_seconds(self) -> float:
        """Return how long the end may take: less when a server that shut down has just waited in vain."""
        seconds, began = self._shutdown_seconds(), self._server_ended
        spent = 0.0 if began is None else monotonic() - began
        return seconds if spent > 2 * seconds else max(0.0, seconds - spent)

    async def adrain(self) -> FlushResult:
        """Deliver what waits because a server shuts down, within the deadline of a normal exit.

        The tracker goes on: more may be tracked until the process ends. What that end has to wait for
        again gets no second deadline.
        """
        began = monotonic()
        result = await self.aflush(self._shutdown_seconds())
        if result.waiting:
            self._server_ended = began
            if self._dispatcher is not None:
                self._dispatcher.say_behind(result.waiting)
        return result

    def hurry(self) -> None:
        """Begin to deliver what waits, and wait for nothing: somebody else ends the process, perhaps soon."""
        if not self._nothing_to_do():
            self._request(FlushRequest())

    def register_provider(self, provider: object, *, name: str | None = None) -> ProviderRecord:
        """Add a provider at run time; it gets everything that is tracked from now on.

        Args:
            provider: an instance, a module or any object with a ``track`` hook, or a subclass of
                ``Provider``, which is made with the values of its variables.
            name: its name, where ``provider.name`` is not to be used.

        Raises:
            ProviderSpecError: a hook is missing or does not match, or the name is taken; it names the
                provider, the hook and both signatures.
            ConfigurationError: a variable of the class is missing or wrong.

        Example::

            class Printer:
                name = "printer"
                def track(self, event):
                    print(event.name, event.properties)

            register_provider(Printer())
        """
        if CLOSED in self.special:
            self.special.discard(CLOSED)
            self._final = None
            self.due = 0.0
        return self.dispatcher().register(provider, name)

    def unregister_provider(self, name: str) -> bool:
        """Remove a provider; what it has not delivered is dropped and counted. False if there is none."""
        return self.dispatcher().unregister(name)

    def providers(self) -> tuple[ProviderRecord, ...]:
        """Return what every installed or registered provider is: its state, the reason, the fix.

        Finds and loads the installed ones if that has not happened yet. Starts no thread.
        """
        return self.dispatcher().records()

    def stats(self) -> Stats:
        """Return the counters of this moment, in all and by provider."""
        if self._final is not None and self._dispatcher is None:
            from msgspec.structs import replace

            return replace(self._final, dropped={**self._final.dropped, **self.losses()})
        return self.dispatcher().stats()

    def after_fork(self) -> object:
        """Begin empty in a forked child; return what was inherited, to be kept and never touched."""
        inherited = (self._dispatcher, self.entries, self.requests)
        closed = CLOSED in self.special
        self._reset()
        if closed:
            self.special.add(CLOSED)
        return inherited

    def __repr__(self) -> str:
        return f"<Tracker {len(self.entries)} records in the intake>"


class _Serving:
    """The dispatcher's thread."""

    __slots__ = ("alive", "ident")

    def __init__(self) -> None:
        self.alive = True
        self.ident = 0


def _inside_a_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _seconds(timeout: float | None) -> float:
    return FLUSH_SECONDS if timeout is None else max(0.0, timeout)


def _tell(loop: AbstractEventLoop, done: AsyncioEvent) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(done.set)
