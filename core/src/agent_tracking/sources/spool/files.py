"""The few calls to the operating system that the spool is made of, so that tests can let each of them fail.

Every open file is known here: a forked child closes those that it inherited, since a lock lives as long as
anybody has the file open that it was taken with.
"""

from __future__ import annotations

import fcntl
import os
import time

from agent_tracking import forks

__all__ = ["Files"]

_ALWAYS = os.O_CLOEXEC | os.O_NOFOLLOW
_OWNER_ONLY = 0o600


class Files:
    """Opens, reads, writes and locks files; every method may raise ``OSError``."""

    def __init__(self) -> None:
        self.opened: set[int] = set()

    def open(self, path: str, flags: int) -> int:
        """Open a file, readable and writable by its owner only if it is made."""
        with forks.HANDLES:
            fd = os.open(path, flags | _ALWAYS, _OWNER_ONLY)
            self.opened.add(fd)
        return fd

    def close(self, fd: int) -> None:
        """Close a file, and give up its lock."""
        with forks.HANDLES:
            if fd in self.opened:
                self.opened.discard(fd)
                os.close(fd)

    def abandon(self) -> None:
        """Close everything, in a forked child: the locks stay the parent's."""
        for fd in self.opened:
            try:
                os.close(fd)
            except OSError:  # the parent was about to close it, too
                continue
        self.opened = set()

    def lock(self, fd: int, *, shared: bool = False) -> bool:
        """Take a lock if it is free; return whether it was."""
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self, fd: int) -> None:
        """Give a lock back."""
        fcntl.flock(fd, fcntl.LOCK_UN)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write at the end of what was written; return how much was taken."""
        return os.write(fd, data)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Return up to ``size`` bytes at ``offset``; empty at the end."""
        return os.pread(fd, size, offset)

    def write_at(self, fd: int, data: bytes, offset: int) -> int:
        """Write at ``offset``; return how much was taken."""
        return os.pwrite(fd, data, offset)

    def cut(self, fd: int, size: int) -> None:
        """Cut a file to ``size`` bytes, and go on writing there."""
        os.ftruncate(fd, size)
        os.lseek(fd, size, os.SEEK_SET)

    def sync(self, fd: int) -> None:
        """Wait until what was written would survive a power cut."""
        os.fdatasync(fd)

    def sync_folder(self, path: str) -> None:
        """The same for the names in a folder."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: str, new: str) -> None:
        """Rename a file over another one."""
        os.rename(old, new)  # noqa: PTH104  paths are text here

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is fine."""
        try:
            os.unlink(path)  # noqa: PTH108
        except FileNotFoundError:
            return

    def touch(self, path: str) -> None:
        """Set a file's time to now; it is made if need be."""
        self.close(self.open(path, os.O_WRONLY | os.O_CREAT))
        now = time.time_ns()  # the kernel's own clock for files has ticks of milliseconds
        os.utime(path, ns=(now, now))

    def stat(self, path: str) -> os.stat_result:
        """Return what is known of a path."""
        return os.stat(path)  # noqa: PTH116

    def fstat(self, fd: int) -> os.stat_result:
        """Return what is known of an open file."""
        return os.fstat(fd)

    def names(self, path: str) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(path)  # noqa: PTH208

    def make_folder(self, path: str) -> None:
        """Make a folder for its owner only, and those above it."""
        os.makedirs(path, 0o700, exist_ok=True)  # noqa: PTH103

    def chmod(self, path: str, mode: int) -> None:
        """Set who may do what with a path."""
        os.chmod(path, mode)  # noqa: PTH101
