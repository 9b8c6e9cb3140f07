"""``with context(...)``: ids and properties bound to the current request or task.

They are kept in a :class:`contextvars.ContextVar`, so asyncio's tasks inherit them, as do the threads of
``asyncio.to_thread`` and anyio. Executors and threads that start without the caller's context get it by
:func:`carried`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import Any, ParamSpec, TypeVar

__all__ = ["CURRENT", "USED", "Bound", "carried", "context"]

P = ParamSpec("P")
R = TypeVar("R")


class Bound:
    """What one ``context()`` binds, together with what is bound around it.

    Attributes:
        outer: what is bound around it; ended: whether its ``with`` block is over.
        user_id, anonymous_id, session_id, properties: what a call gets that passes none of its own.
    """

    __slots__ = ("anonymous_id", "ended", "outer", "properties", "session_id", "user_id")

    def __init__(
        self,
        outer: Bound | None,
        user_id: str | int | None,
        anonymous_id: str | None,
        session_id: str | None,
        properties: Mapping[str, Any] | None,
    ) -> None:
        outer = _live(outer)
        self.outer = outer
        self.ended = False
        self.properties = dict(properties or ())
        self.user_id, self.anonymous_id, self.session_id = user_id, anonymous_id, session_id
        if outer is not None:
            self.properties = {**outer.properties, **self.properties}
            self.user_id, self.anonymous_id, self.session_id = outer.ids(user_id, anonymous_id, session_id)

    def ids(
        self, user_id: str | int | None, anonymous_id: str | None, session_id: str | None
    ) -> tuple[str | int | None, str | None, str | None]:
        """Return the ids that a call has: its own, and those that are bound where it passed none."""
        live = _live(self)
        if live is None:
            return user_id, anonymous_id, session_id
        return (
            live.user_id if user_id is None else user_id,
            live.anonymous_id if anonymous_id is None else anonymous_id,
            live.session_id if session_id is None else session_id,
        )

    def fill(self, properties: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Return the properties of a call with those that are bound under them; its own win."""
        live = _live(self)
        if live is None or not live.properties:
            return properties
        if properties is None:
            return live.properties
        if type(properties) is dict:
            return {**live.properties, **properties}
        return properties


def _live(bound: Bound | None) -> Bound | None:
    """Return the innermost that has not ended: a task may go on with one that has."""
    while bound is not None and bound.ended:
        bound = bound.outer
    return bound


#: What is bound where this runs.
CURRENT: ContextVar[Bound | None] = ContextVar("agent_tracking_context", default=None)
#: Empty until a context is entered: as long as it is, ``track()`` looks no further.
USED: list[None] = []


@contextmanager
def context(
    *,
    user_id: str | int | None = None,
    anonymous_id: str | None = None,
    session_id: str | None = None,
    properties: Mapping[str, Any] | None = None,
) -> Iterator[None]:
    """Bind ids and properties to everything that is tracked inside, unless a call passes its own.

    Nested contexts add to each other; the inner one wins. ``identify()`` takes the anonymous id.

    Example::

        with context(session_id="s-1", properties={"plan": "pro"}):
            track("page viewed", {"path": "/"})
    """
    if not USED:
        USED.append(None)
    bound = Bound(CURRENT.get(), user_id, anonymous_id, session_id, properties)
    token = CURRENT.set(bound)
    try:
        yield
    finally:
        bound.ended = True
        with suppress(ValueError):  # ended by another task than its own, as async generators may be
            CURRENT.reset(token)


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function`` with the context of now: for threads and executors that begin without it.

    Example::

        pool.submit(carried(work), order)
    """
    here = copy_context()

    def with_context(*args: P.args, **kwargs: P.kwargs) -> R:
        return here.copy().run(function, *args, **kwargs)

    return with_context
