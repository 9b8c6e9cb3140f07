"""Who delivers for a provider: whoever holds the lock of its file. There is no lease that could run out."""

from __future__ import annotations

import os
import socket
import time

import msgspec

from agent_tracking.sources.spool.folder import Folder

__all__ = ["Leader", "Leadership"]


class Leader(msgspec.Struct, frozen=True, kw_only=True):
    """What the lock's file says of its holder: for people only."""

    pid: int = 0
    host: str = ""
    role: str = ""
    since: float = 0.0


class Leadership:
    """The lock of one provider.

    Args:
        folder: the spool's.
        path: the lock's file.
        role: ``process`` or ``relay``, for display.
    """

    def __init__(self, folder: Folder, path: str, role: str) -> None:
        self._files = folder.files
        self._path = path
        self._role = role
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds it."""
        return self._fd is not None

    def take(self) -> bool:
        """Take the lock if it is free; return whether it is held now."""
        if self._fd is not None:
            return True
        fd = self._files.open(self._path, os.O_RDWR | os.O_CREAT)
        try:
            if not self._files.lock(fd) or not self._is_there(fd):
                self._files.close(fd)
                return False
            who = Leader(pid=os.getpid(), host=socket.gethostname(), role=self._role, since=time.time())
            self._files.cut(fd, 0)
            self._files.write_at(fd, msgspec.json.encode(who) + b"\n", 0)
        except OSError:
            self._files.close(fd)
            raise
        self._fd = fd
        return True

    def still(self) -> bool:
        """Return whether the lock is still the one that others would take: the folder may have vanished."""
        return self._fd is not None and self._is_there(self._fd)

    def give_up(self) -> None:
        """Let somebody else deliver."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._files.close(fd)

    def _is_there(self, fd: int) -> bool:
        try:
            there, held = self._files.stat(self._path), self._files.fstat(fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
