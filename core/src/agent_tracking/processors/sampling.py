"""``sample``: a part of the events, always of the same users."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

from agent_tracking.events import TrackingEvent
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.processors.draft import Draft
from agent_tracking.processors.selection import Names
from agent_tracking.processors.step import Step, factory

__all__ = ["sample"]

_FALLBACK = {
    "user": ("user_id", "anonymous_id", "message_id"),
    "session": ("session_id", "user_id", "anonymous_id", "message_id"),
    "event": ("message_id",),
}


@factory
def sample(
    rate: float,
    *,
    by: Literal["user", "session", "event"] = "user",
    names: str | Iterable[str] | None = None,
) -> Step:
    """Keep a part of the events, the rest is dropped and counted as ``sampled``; identities pass.

    The same user is always in or always out, in every process and on every machine: a hash of the id
    decides. Who is in at one rate is in at every higher one.

    Args:
        rate: the part that is kept, from 0 to 1.
        by: ``user`` decides by the user id, without one by the anonymous id, without both for each event
            by itself; ``session`` by the session id, then as ``user``; ``event`` for each event by itself.
        names: only events of these names (or globs) are sampled, the others pass; all by default.

    Raises:
        ConfigurationError: an argument cannot work.

    Example::

        configure(processors=[sample(0.1, names="page viewed")])
    """
    given: object = rate
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 1:
        raise ConfigurationError("sample(): rate must be a number from 0 to 1", fix="0.1 keeps a tenth")
    if by not in tuple(_FALLBACK):  # whatever it is: a list has no hash
        raise ConfigurationError(f"sample(): by must be one of {', '.join(_FALLBACK)}")
    fields = _FALLBACK[by]
    limit = int(rate * 2**64)
    sampled = None if names is None else Names(names, "sample(names=...)").matches

    def change(draft: Draft) -> str | None:
        record = draft.record
        if type(record) is not TrackingEvent or (sampled is not None and not sampled(record.name)):
            return None
        held = next(text for field in fields if (text := getattr(record, field)))
        place = int.from_bytes(blake2b(held.encode(), digest_size=8).digest(), "big")
        return None if place < limit else "sampled"

    return Step("sample", change)
