"""``with capture() as events:`` what an application tracks, in a test: nothing leaves the process.

Which capture a record belongs to is told by a context variable: asyncio's tasks and ``asyncio.to_thread``
begin with a copy of their starter's, so tests that run at the same time do not see each other's. Threads
that begin without it (an executor's, a server's) belong to the only active capture; where several are active
they belong to none, and what they track is shown to each of them as ``unclaimed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from weakref import WeakKeyDictionary

from agent_tracking import forks
from agent_tracking.api import default_tracker
from agent_tracking.prepare import prepare
from agent_tracking.processors.pipeline import Pipeline
from agent_tracking.testing.captured import Captured
from agent_tracking.tracker import Processor, Tracker, _not_processors

__all__ = ["Captured", "capture"]


def capture(
    *, tracker: Tracker | None = None, processors: Sequence[Processor] = ()
) -> AbstractContextManager[Captured]:
    """Capture what is tracked until the block ends, instead of sending it.

    Nothing leaves the process: no thread is started, no provider is looked for or asked, whatever variables
    are set, and ``flush()`` and ``shutdown()`` return at once. It works whatever state the tracker is in:
    running, shut down or disabled; in strict mode bad data raises as ever. What was tracked before the block
    is none of its business. Inside another capture, the inner one gets the records and the outer one none.

    Args:
        tracker: the process-wide one by default.
        processors: change or drop the records before they are captured; those of the tracker are not run.

    Returns:
        A context manager whose value is a :class:`Captured`.

    Example::

        with capture() as events:
            pay(order)
        events.assert_tracked("order paid", {"total": 9.5}, user_id="u-1")
    """
    if tracker is not None and not isinstance(tracker, Tracker):
        raise TypeError(f"capture(tracker=...) takes a Tracker, not {type(tracker).__name__}")
    if problem := _not_processors(processors):
        raise TypeError(problem)
    return _Capture(tracker or default_tracker(), Pipeline(tuple(processors), lambda _kind, _text: None))


class _Capture(AbstractContextManager[Captured]):
    """One block."""

    def __init__(self, tracker: Tracker, pipeline: Pipeline) -> None:
        self.tracker = tracker
        self.pipeline = pipeline
        self.captured = Captured()
        self.router: _Router | None = None
        #: The capture around it, of whatever tracker.
        self.outer: _Capture | None = None

    def __enter__(self) -> Captured:
        if self.router is not None:
            raise RuntimeError("this capture has been used: call capture() anew for each block")
        with forks.BOOT:
            self.router = _routers.setdefault(self.tracker, _Router())
            self.router.active = (*self.router.active, self)
            self.tracker.divert(self.router.put)
        self.outer = _current.get()
        _current.set(self)
        return self.captured

    def __exit__(self, *_: object) -> None:
        router = self.router
        if router is None:
            return
        with forks.BOOT:
            left = tuple(each for each in router.active if each is not self)
            if not left:
                self.tracker.divert(None)  # first: from now on only a call that is under way comes here
            router.active = left
        if _current.get() is self:  # not so where a fixture or a generator ends elsewhere than it began
            _current.set(self.outer)

    def take(self, entry: bytes, *, claimed: bool = True) -> None:
        """Keep the record of an entry, or the reason why it would have been dropped."""
        try:
            record, _ = prepare(entry, self.tracker.ids)
        except Exception:  # noqa: BLE001  track() raises for nothing that it is given
            record = "unusable"
        if not isinstance(record, str):
            record = self.pipeline.run(record)
        self.captured.add(record, claimed=claimed)


class _Router:
    """Gives what one tracker was given to the capture that it belongs to.

    It waits for nothing: finalizers and signal handlers may track as well, and a fork may come at any time.
    """

    def __init__(self) -> None:
        #: Those whose block goes on, oldest first; replaced as a whole.
        self.active: tuple[_Capture, ...] = ()

    def put(self, entry: bytes, _now: float) -> None:
        """Take an entry in the place of the intake; after the last block has ended, it goes nowhere."""
        active = self.active
        own = _current.get()
        while own is not None and own not in active:
            own = own.outer
        if own is not None:
            own.take(entry)
        elif len(active) == 1:
            active[0].take(entry)
        else:
            for each in active:
                each.take(entry, claimed=False)


#: The innermost capture that this thread or task runs in, or ran in when it was started.
_current: ContextVar[_Capture | None] = ContextVar("agent_tracking_capture", default=None)
_routers: WeakKeyDictionary[Tracker, _Router] = WeakKeyDictionary()
