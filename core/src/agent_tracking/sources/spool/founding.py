"""Who begins with the first record of a folder: the providers of the processes that open it first.

A provider that comes to a folder in which others deliver begins at its present end. Where nobody has
delivered yet, applications may have written before, and all of that is to be sent; and as the providers of a
process become known one by one, and two processes may start at once, that time has to have an end that both
agree on: the lock of a file, shared by those who began in it.
"""

from __future__ import annotations

import os

from agent_tracking.sources.spool.folder import Folder

__all__ = ["Founding"]


class Founding:
    """Whether this process belongs to the first ones."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._fd: int | None = None
        self._over = False

    @property
    def holds(self) -> bool:
        """Whether providers that become known now begin with the first record."""
        return self._fd is not None

    def begin(self) -> None:
        """Find out; once for good."""
        if self._fd is not None or self._over:
            return
        fd = self._folder.files.open(self._folder.file("@founding.lock"), os.O_RDWR | os.O_CREAT)
        try:
            alone = self._folder.files.lock(fd)
            if alone and self._folder.providers():
                self._folder.files.close(fd)
                return
            if not self._folder.files.lock(fd, shared=True):  # somebody tries just now whether he is alone
                self._folder.files.close(fd)
                return
        except OSError:
            self._folder.files.close(fd)
            raise
        self._fd = fd

    def end(self) -> None:
        """It is over for this process."""
        self._over = True
        if self._fd is not None:
            self._folder.files.close(self._fd)
            self._fd = None
