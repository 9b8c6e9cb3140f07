"""Gives up all that waits for one provider, while nobody delivers for it."""

from __future__ import annotations

from agent_tracking.sources.spool.folder import Folder, SpoolError
from agent_tracking.sources.spool.leader import Leadership
from agent_tracking.sources.spool.places import Places
from agent_tracking.sources.spool.position import NewerError
from agent_tracking.sources.spool.segments import Index

__all__ = ["LedError", "skip_waiting"]


class LedError(Exception):
    """Another process delivers for the provider."""


def skip_waiting(path: str, provider: str) -> None:
    """Put a provider's position at the end of what is there now; other providers are not concerned.

    Args:
        path: the folder.
        provider: one that records are delivered to from here.

    Raises:
        LedError: another process delivers for it.
        OSError: the folder cannot be read or written, or a newer version has delivered for it.
    """
    folder = Folder(path)
    index = Index(folder)
    leadership = Leadership(folder, folder.of(provider, "lock"), "spool drop")
    if not leadership.take():
        raise LedError
    places = Places(provider, folder, index)
    try:
        index.scan(force=True)
        index.seal()
        places.load()
        places.skip()
        places.save()
    except NewerError:
        raise SpoolError(f"a newer version of agent-tracking has delivered to {provider}: upgrade") from None
    finally:
        places.close()
        leadership.give_up()
