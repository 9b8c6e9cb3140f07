"""``with context(...)``: ids and properties that everything tracked inside gets.

What is bound is kept in a :class:`contextvars.ContextVar`, so asyncio's tasks see it, and the threads of
``asyncio.to_thread``, anyio (Starlette, FastAPI) and asgiref (Django). Executors and ``threading.Thread``
begin without their caller's context: :meth:`context.carry` is for those.

It ends with its block, for whoever sees it: a task, a pool's thread or a generator that lives on must not
give one request's ids to the next one's events. So each call looks through what is bound, from the inside
outwards, and passes over what has ended. Nothing relies on the order in which blocks end, nor on ending where
they began: an async generator may be closed by another task.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from types import ModuleType
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

from orjson import loads

from agent_tracking.names import clean_id
from agent_tracking.salvage import salvaged
from agent_tracking.snapshot import ENTRY_BYTES, EVENT, OPTIONS, dumps, plain

__all__ = ["CURRENT", "USED", "Bound", "Steps", "apart", "context"]

P = ParamSpec("P")
R = TypeVar("R")

_IDS = frozenset({str, int, type(None)})
#: The most bytes that a context binds, as JSON; it leaves room for what each call passes.
_BOUND_BYTES = ENTRY_BYTES // 4


class _Values(NamedTuple):
    """Plain copies of what was passed, and whether they had to be changed."""

    properties: dict[str, Any] | None
    user_id: str | int | None
    anonymous_id: str | None
    session_id: str | None
    changed: bool


_NOTHING = _Values(None, None, None, None, changed=True)


class Bound:
    """What one ``with`` block binds; blocks inside it point to it.

    Attributes:
        outer: what was bound around it.
        owner: the object whose block it is.
        ended: whether the block is over.
        identified: the first user who was identified here, whom the anonymous id belongs to.
    """

    __slots__ = ("changed", "ended", "identified", "ids", "outer", "owner", "properties")

    def __init__(self, owner: object, values: _Values, outer: Bound | None) -> None:
        self.owner = owner
        self.outer = outer
        self.ended = False
        self.identified: str | None = None
        self.properties: dict[str, Any] | None = None
        self.ids: tuple[str | int | None, str | None, str | None] = (None, None, None)
        self.changed = False
        self.add(values)

    def add(self, values: _Values) -> None:
        """Bind more; never changes a ``dict`` that another thread may be reading."""
        if values.properties:
            self.properties = {**(self.properties or {}), **values.properties}
        user_id, anonymous_id, session_id = self.ids
        self.ids = (
            user_id if values.user_id is None else values.user_id,
            anonymous_id if values.anonymous_id is None else values.anonymous_id,
            session_id if values.session_id is None else values.session_id,
        )
        self.changed = self.changed or values.changed

    def fill(
        self, user_id: str | int | None, anonymous_id: str | None, session_id: str | None
    ) -> tuple[dict[str, Any] | None, str | int | None, str | None, str | None]:
        """Return the properties that are bound, and a call's ids, completed by those that are bound."""
        properties = None
        bound: Bound | None = self
        while bound is not None:
            if not bound.ended:
                user, anonymous, session = bound.ids
                if user_id is None:
                    user_id = user
                if anonymous_id is None:
                    anonymous_id = anonymous
                if session_id is None:
                    session_id = session
                if more := bound.properties:
                    properties = {**more, **properties} if properties else more
            bound = bound.outer
        return properties, user_id, anonymous_id, session_id

    def any_changed(self) -> bool:
        """Return whether something that is bound is not quite what was passed."""
        bound: Bound | None = self
        while bound is not None and (bound.ended or not bound.changed):
            bound = bound.outer
        return bound is not None

    def anonymous_id_of(self, user_id: object) -> str | None:
        """Return the bound anonymous id if it is this user's: the providers would merge the two for good.

        It is the bound user's; where none is bound, the first one's who is identified.
        """
        _, bound_user, anonymous_id, _ = self.fill(None, None, None)
        if anonymous_id is None:
            return None
        who = _clean(user_id)
        if (owner := clean_id(bound_user)) is None:
            holder = self
            while holder.ended or holder.ids[1] is None:
                if holder.outer is None:  # ended meanwhile, in another thread
                    return None
                holder = holder.outer
            owner = holder.identified = holder.identified or who
        return anonymous_id if owner == who else None


_KEY = "_agent_tracking_context_v1"
#: Shared by all copies of this module in a process, as the tracker is (see :mod:`agent_tracking.api`).
_shared = vars(sys.modules.setdefault(_KEY, ModuleType(_KEY, "Holds what agent_tracking.context binds.")))
#: What is bound where this runs.
CURRENT: ContextVar[Bound | None] = _shared.setdefault(
    "current", ContextVar("agent_tracking_context", default=None)
)
#: Empty until a context is entered: until then ``track()`` looks no further, for 20 ns instead of 100.
USED: list[None] = _shared.setdefault("used", [])


def _live(bound: Bound | None) -> Bound | None:
    """Return the innermost that has not ended."""
    while bound is not None and bound.ended:
        bound = bound.outer
    return bound


class context:  # noqa: N801  reads like a statement, as contextlib.suppress does
    """Bind ids and properties to everything that is tracked inside, unless a call passes its own.

    Args:
        user_id, anonymous_id, session_id: as for ``track()``. ``""`` stands for no id at all, also where one
            is bound further out.
        properties: what every event gets beside its own properties, which win; copied now.

    Like ``track()`` it raises for none of these values: what JSON does not know is converted. Contexts add to
    each other, and the inner one wins. ``identify()`` gets the anonymous id, provided that it is about the
    bound user or, where none is bound, about the first user who is identified.

    It holds for all that runs inside: calls, asyncio's tasks, threads that take over the context; and until
    the block ends. What goes on after that, or runs in threads that do not, is wrapped by :meth:`carry`.

    Also a decorator, for functions and async functions: each call has a context of its own.

    Example::

        with context(session_id="s-1", properties={"plan": "pro"}):
            track("page viewed", {"path": "/"})
    """

    def __init__(
        self,
        *,
        user_id: str | int | None = None,
        anonymous_id: str | None = None,
        session_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        self._values = _copied(properties, user_id, anonymous_id, session_id)
        self._alone = False
        self._entered: list[Bound] = []

    def __enter__(self) -> None:
        if not USED:
            USED.append(None)
        bound = Bound(self, self._values, None if self._alone else _live(CURRENT.get()))
        self._entered.append(bound)
        CURRENT.set(bound)

    def __exit__(self, *_: object) -> None:
        bound = CURRENT.get()
        while bound is not None and (bound.owner is not self or bound.ended):
            bound = bound.outer
        if bound is None:  # entered elsewhere
            if not self._entered:
                return
            bound = self._entered[-1]
        self._entered.remove(bound)
        bound.ended = True
        if CURRENT.get() is bound:
            CURRENT.set(_live(bound.outer))

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function`` so that each of its calls runs in a context of its own.

        Raises:
            TypeError: for generators, which would leave it bound where their values are used, and classes.
        """
        import inspect

        if isinstance(function, type) or not callable(function):
            raise TypeError(f"context() can wrap functions and async functions, not {function!r:.100}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("context() cannot wrap a generator: use 'with context(...):' inside it")
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> object:
                with self._again():
                    return await cast("Awaitable[object]", function(*args, **kwargs))

            return cast("Callable[P, R]", awaited)

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return function(*args, **kwargs)

        return called

    def _again(self) -> context:
        again = context()
        again._values, again._alone = self._values, self._alone
        return again

    @staticmethod
    def bind(
        *,
        user_id: str | int | None = None,
        anonymous_id: str | None = None,
        session_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        """Add to the innermost context until its block ends: what is known only later, such as who it is.

        Everything inside that block sees it, in every task and thread; outside of any it does nothing.

        Example::

            with context(session_id="s-1"):
                context.bind(user_id="u-1")
                track("signed in")
        """
        bound = _live(CURRENT.get())
        if bound is not None:
            bound.add(_copied(properties, user_id, anonymous_id, session_id))

    @staticmethod
    def carry(function: Callable[P, R]) -> Callable[P, R]:
        """Return ``function`` with what is bound now, for as long as it runs, wherever and whenever that is.

        For threads and executors, which begin without the context, and tasks that outlive their block.
        Functions and async functions.

        Example::

            with context(user_id="u-1"):
                pool.submit(context.carry(work), order)
                threading.Thread(target=context.carry(work), args=(order,)).start()
                task = asyncio.create_task(context.carry(notify)(order))
        """
        return apart(**context.current())(function)

    @staticmethod
    def current() -> dict[str, Any]:
        """Return what is bound now: arguments for ``context()``, as JSON data for another process.

        Example::

            queue.enqueue(job, context.current())  # and in the worker: with context(**bound): ...
        """
        bound = _live(CURRENT.get())
        if bound is None:
            return {}
        properties, user_id, anonymous_id, session_id = bound.fill(None, None, None)
        ids = {"user_id": user_id, "anonymous_id": anonymous_id, "session_id": session_id}
        # The dict may be the one that is bound: who gets it may change it.
        copied = {"properties": loads(dumps(properties))} if properties else {}
        return {**{name: value for name, value in ids.items() if value}, **copied}


def apart(**bound: Any) -> context:  # noqa: ANN401  what context.current() returned, perhaps elsewhere
    """Return a context that adds to nothing: whatever is bound where it is entered is not."""
    held = context(**bound)
    held._alone = True  # noqa: SLF001
    return held


class Steps:
    """Runs what goes on in several steps, such as a response that is streamed, as if it were in one.

    What one step leaves bound, the next one finds; in between nothing of it is bound.
    """

    __slots__ = ("_bound",)

    def __init__(self) -> None:
        self._bound = CURRENT.get()

    def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call ``function`` as the next step."""
        before = CURRENT.get()
        CURRENT.set(self._bound)
        try:
            return function(*args, **kwargs)
        finally:
            self._bound = CURRENT.get()
            CURRENT.set(before)


def _copied(properties: object, user_id: object, anonymous_id: object, session_id: object) -> _Values:
    """Return plain copies of the arguments, converted as ``track()`` would; never raises."""
    ids = (user_id, anonymous_id, session_id)
    try:
        if _IDS.issuperset(map(type, ids)) and plain(properties):
            text = dumps((properties, *ids, False), None, OPTIONS)
            if len(text) < _BOUND_BYTES:
                return _Values._make(loads(text))
    except Exception:  # noqa: BLE001, S110  what orjson refuses
        pass
    try:
        entry = salvaged(EVENT, 0, 0.0, None, properties, ids)
        values = _Values._make(loads(entry)[4:])
        return values if len(entry) < _BOUND_BYTES else values._replace(properties=None, changed=True)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  for example 20 frames below the recursion limit
        return _NOTHING


def _clean(user_id: object) -> str | None:
    """Return a user's id as :func:`agent_tracking.names.clean_id` does, of subclasses and UUIDs as well."""
    return clean_id(user_id if type(user_id) in _IDS else _copied(None, user_id, None, None).user_id)
