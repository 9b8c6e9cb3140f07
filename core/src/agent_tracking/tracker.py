"""The tracker: what applications and operators call.

What ``track()`` does is in :mod:`agent_tracking.intake`, the thread behind it in
:mod:`agent_tracking.background`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from agent_tracking import forks
from agent_tracking.background import Background
from agent_tracking.flushing import FlushRequest
from agent_tracking.intake import CAPTURED, CLOSED, DISABLED, STRICT

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from asyncio import Event as AsyncioEvent

    from typing_extensions import Unpack

    from agent_tracking.counters import FlushResult, Stats
    from agent_tracking.delivery.backoff import RetryPolicy
    from agent_tracking.delivery.outbox import Exchange, Sender
    from agent_tracking.events import Record
    from agent_tracking.records import ProviderRecord
    from agent_tracking.settings import Given

__all__ = ["FLUSH_SECONDS", "Processor", "Tracker"]

#: What ``flush()`` waits at most when no timeout is given, in seconds.
FLUSH_SECONDS = 30.0
#: Changes a record (returns another one) or drops it (returns ``None``), on the dispatcher's thread.
Processor = Callable[["Record"], "Record | None"]


class Tracker(Background):
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
        if problem := _not_processors(processors):
            raise TypeError(problem)
        self.environ: Mapping[str, str] = os.environ if environ is None else environ
        self.discover = discover
        self.processors = tuple(processors)
        self.observers = tuple(observers)
        self.sender = sender
        self.retry = retry
        #: Settings given by code, which go before the variables.
        self.given: dict[str, Any] = {}
        #: Providers registered at run time, by name: kept over a fork.
        self.registered: dict[str, object] = {}
        self._reset()
        forks.watch(self)

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
        if CAPTURED in self.special:
            return _nothing_waits()
        if self._dispatcher is not None and _inside_a_loop() and not self._own_thread():
            self._dispatcher.report.advise(
                "flush() was called inside a running event loop, which it blocks: use `await aflush()` there"
            )
        return self._result(self._settle(monotonic() + _seconds(timeout)))

    async def aflush(self, timeout: float | None = None) -> FlushResult:
        """Like ``flush``, without blocking the event loop."""
        import asyncio

        if CAPTURED in self.special:
            return _nothing_waits()
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
        if CAPTURED in self.special:
            return _nothing_waits()
        deadline = monotonic() + (self._shutdown_seconds() if timeout is None else max(0.0, timeout))
        self.special.add(CLOSED)
        dispatcher = self._dispatcher
        if dispatcher is not None:
            dispatcher.drain_until(deadline)
        request = self._settle(deadline)
        dispatcher, self._dispatcher, self._serving = self._dispatcher, None, None
        if dispatcher is None:
            return self._result(request)
        dispatcher.close(deadline)
        self._final = dispatcher.stats()
        return dispatcher.result(None)

    def _result(self, request: FlushRequest) -> FlushResult:
        from agent_tracking.counters import FlushResult

        dispatcher = self._dispatcher
        if dispatcher is not None:
            return dispatcher.result(request)
        return FlushResult(waiting={"intake": len(self.entries)} if self.entries else {})

    def configure(self, *, processors: Sequence[Processor] | None = None, **settings: Unpack[Given]) -> None:
        """Set by code what the variables ``AGENT_TRACKING_*`` set; call it once, when the process starts.

        Args:
            processors: change or drop records before any provider sees them, in this order; see
                :mod:`agent_tracking.processors`.
            settings: each attribute of :class:`agent_tracking.settings.Settings`; what is given here goes
                before its variable, and ``None`` stands for unset where that is a setting's default.

        Raises:
            ConfigurationError: tells everything that is wrong; nothing is changed then.
            TrackingError: in strict mode, something went wrong since the last flush; the settings hold then.

        When records were tracked before, they are delivered first, as by ``shutdown()``, and counters begin
        anew. After ``shutdown()`` the tracker starts anew.

        Example::

            configure(flush_at=100, providers=["posthog"], processors=[redact()])
        """
        from agent_tracking.exceptions import ConfigurationError
        from agent_tracking.settings import check_given, read_settings

        values, problems = check_given(settings)
        if problem := _not_processors(() if processors is None else processors):
            problems.append(problem)
        given = {**self.given, **values}
        if "delivery" in values or "spool" in values:
            problems += [str(error) for error in read_settings({}, given)[1]]
        if self._own_thread():
            problems.append("configure() cannot be called from a provider's hook or a processor")
        if problems:
            raise ConfigurationError("; ".join(problems))

        def change() -> None:
            self.given = {**self.given, **values}
            if processors is not None:
                self.processors = tuple(processors)
            if "strict" in values:
                (self.special.add if values["strict"] else self.special.discard)(STRICT)
            self.special.discard(DISABLED)  # until the settings are read
            if self.started():
                self.forget_losses()
            self._reopen()

        if (before := self._renew(change)) is not None:
            before.result(None)

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
            self._reopen()
        return self.dispatcher().register(provider, name)

    def unregister_provider(self, name: str) -> bool:
        """Remove a provider; what it has not delivered is dropped and counted. False if there is none."""
        return self.dispatcher().unregister(name)

    def providers(self) -> tuple[ProviderRecord, ...]:
        """Return what every installed or registered provider is: its state, the reason, the fix.

        Finds and loads the installed ones if that has not happened yet. Starts no thread.
        """
        return self.dispatcher().records(discover=CAPTURED not in self.special)

    def stats(self) -> Stats:
        """Return the counters of this moment, in all and by provider."""
        if self._final is not None and self._dispatcher is None:
            from msgspec.structs import replace

            return replace(self._final, dropped={**self._final.dropped, **self.losses()})
        return self.dispatcher().stats()

    def __repr__(self) -> str:
        return f"<Tracker {len(self.entries)} records in the intake>"


def _nothing_waits() -> FlushResult:
    from agent_tracking.counters import FlushResult

    return FlushResult()


def _not_processors(processors: object) -> str:
    """Return what is wrong with them, or nothing."""
    # A set has no order, and an iterator would be empty after this look.
    if callable(processors) or isinstance(processors, str) or not isinstance(processors, Sequence):
        return "processors must be a list of functions: record -> record or None"
    bare = [p.__name__ for p in processors if getattr(p, "makes_processors", False) is True]
    if bare:
        return f"{bare[0]} makes a processor: list {bare[0]}(...), called, instead of {bare[0]}"
    bad = [type(processor).__name__ for processor in processors if not callable(processor)]
    return f"every processor must be callable, record -> record or None, not {', '.join(bad)}" if bad else ""


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
