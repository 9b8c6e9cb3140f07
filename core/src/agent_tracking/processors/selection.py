"""Events by their names: ``allow`` and ``deny``, and the globs that other processors take, too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import lru_cache
from typing import Any

from agent_tracking.events import TrackingEvent
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.processors.draft import Draft
from agent_tracking.processors.step import Step, factory

__all__ = ["Names", "allow", "deny"]


class Names:
    """Names of events, as they are or as globs: ``order *``, ``page ?``, ``[ab]*``.

    Args:
        names: at least one.
        where: what the error says is wrong, e.g. ``allow()``.
    """

    def __init__(self, names: str | Iterable[str], where: str) -> None:
        given = _listed(names)
        for name in given:
            if not isinstance(name, str) or not name.strip():
                raise ConfigurationError(
                    f"{where} takes names of events, which are text and not empty, not {type(name).__name__}",
                    fix='for example "order paid" or "order *"',
                )
        exact = {name.strip() for name in given}
        globs = [translate(name) for name in exact if any(sign in name for sign in "*?[")]
        match = re.compile("|".join(globs)).match if globs else None

        @lru_cache(1_024)
        def matches(name: str) -> bool:
            return name in exact or (match is not None and match(name) is not None)

        #: Whether an event's name is among them.
        self.matches = matches


def _listed(names: object) -> tuple[Any, ...]:
    listed = isinstance(names, Iterable) and not isinstance(names, str)
    return tuple(names) if listed else (names,)  # type: ignore[arg-type]


@factory
def allow(*names: str, identities: bool = True) -> Step:
    """Let only events of these names pass; the others are dropped and counted as ``denied``.

    Args:
        names: as they are or as globs, ``"order *"``; upper and lower case differ.
        identities: whether ``identify()`` passes.

    Raises:
        ConfigurationError: no name is given, or one is no text.

    Example::

        configure(processors=[allow("order *", "user signed up")])
    """
    if not names:
        raise ConfigurationError(
            "allow() without a name would drop every event", fix='name some: allow("order *")'
        )
    chosen = Names(names, "allow()").matches

    def change(draft: Draft) -> str | None:
        record = draft.record
        passes = chosen(record.name) if type(record) is TrackingEvent else identities
        return None if passes else "denied"

    return Step("allow", change, required=True)


@factory
def deny(*names: str, identities: bool = True) -> Step:
    """Drop events of these names, counted as ``denied``; the others pass.

    Args:
        names: as they are or as globs, ``"debug *"``; upper and lower case differ.
        identities: whether ``identify()`` passes.

    Raises:
        ConfigurationError: there is nothing to drop, or a name is no text.

    Example::

        configure(processors=[deny("debug *")])
    """
    if not names and identities:
        raise ConfigurationError("deny() without a name drops nothing", fix='name some: deny("debug *")')
    denied = Names(names, "deny()").matches

    def change(draft: Draft) -> str | None:
        record = draft.record
        passes = not denied(record.name) if type(record) is TrackingEvent else identities
        return None if passes else "denied"

    return Step("deny", change, required=True)
