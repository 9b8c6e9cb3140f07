"""What waited in a spool at one moment, and whether a provider has got all of that since."""

from __future__ import annotations

import os
from collections.abc import Iterable

from agent_tracking.sources.spool.folder import Folder
from agent_tracking.sources.spool.position import NewerError, load_position
from agent_tracking.sources.spool.segments import Index

__all__ = ["Backlog", "VanishedError"]


class VanishedError(Exception):
    """The folder was removed, and what waited in it."""


class Backlog:
    """What waits now: while applications go on writing, there is hardly a moment at which nothing waits.

    Args:
        path: the spool's folder, which is there.
        providers: for whom it waits.
    """

    def __init__(self, path: str, providers: Iterable[str]) -> None:
        self._folder = Folder(path)
        # While it is open no other folder gets its number.
        self._fd = os.open(self._folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        index = Index(self._folder)
        index.scan(force=True)
        ends = {segment.name: segment.size for segment in index.readable() if segment.size > segment.first}
        self._ends = {provider: dict(ends) for provider in providers}

    def waits_for(self, provider: str) -> bool:
        """Return whether anything of it is not settled for a provider yet.

        Of a provider that a newer version delivers for nothing is: it will not be delivered from here.

        Raises:
            VanishedError: it is gone.
        """
        if not self._is_there():
            raise VanishedError
        if ends := self._ends[provider]:
            try:
                position = load_position(self._folder, self._folder.of(provider, "pos"))
                there = set(self._folder.names(".seg"))
            except NewerError:
                return False
            except FileNotFoundError:
                raise VanishedError from None
            offsets = {} if position is None else position.segments
            self._ends[provider] = {
                name: end for name, end in ends.items() if name in there and offsets.get(name, 0) < end
            }
        return bool(self._ends[provider])

    def close(self) -> None:
        """Look no more."""
        os.close(self._fd)

    def _is_there(self) -> bool:
        try:
            there, same = os.stat(self._folder.path), os.fstat(self._fd)  # noqa: PTH116
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (same.st_dev, same.st_ino)
