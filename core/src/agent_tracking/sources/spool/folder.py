"""The spool's folder: whose it is, what its files are called, and the lock of those who change it.

====================  ==============================================================================
``<time>-....seg``    records, oldest first: one writer each (:mod:`agent_tracking.sources.spool.lines`)
``<provider>.lock``   held by the process that delivers for this provider
``<provider>.pos``    how far that is (:mod:`agent_tracking.sources.spool.position`)
``<provider>.try``    what was being handed to its hooks when a process died
``<provider>.lost``   how many records were dropped before it got to them
``<provider>.flush``  touched by who cannot wait
``dead/``             records that were set aside (:mod:`agent_tracking.sources.spool.dead`)
``@folder.lock``      held while files are made, dropped or counted
====================  ==============================================================================
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from urllib.parse import quote, unquote

from agent_tracking.sources.spool.files import Files

__all__ = ["BusyError", "Folder", "SpoolError"]

#: Seconds to wait at most for whoever changes the folder.
_PATIENCE = 1.0
_LOOK = 0.002
_LONGEST_NAME = 120
#: What else may stand in the folder: `agent_tracking.status` writes there.
_OURS = frozenset({"dead", "status"})
_ENDINGS = (".seg", ".new", ".lock", ".pos", ".try", ".lost", ".flush")


class SpoolError(OSError):
    """The folder cannot be used; the text says why and what to do."""


class BusyError(SpoolError):
    """Another process has kept the folder's lock for too long."""


class Folder:
    """A spool's folder.

    Args:
        path: where it is; made if need be.
        files: the calls to the operating system.
    """

    def __init__(self, path: str, files: Files | None = None) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111
        self.files = files or Files()

    def make(self) -> None:
        """Make the folder if it is not there; refuse one that others own or can read.

        Raises:
            OSError: it cannot be made or used.
        """
        try:
            self.files.make_folder(self.path)
        except FileExistsError:
            raise SpoolError(f"the spool {self.path} is not a folder") from None
        found = self.files.stat(self.path)
        if found.st_uid != os.geteuid():
            raise SpoolError(
                f"the spool {self.path} belongs to another user (uid {found.st_uid}): give each user its own"
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            if self.foreign():
                raise SpoolError(
                    f"the spool {self.path} may be read by others and holds other files:"
                    " give it a folder of its own"
                )
            self.files.chmod(self.path, 0o700)
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise SpoolError(errno.EACCES, "it cannot be written to", self.path)

    def foreign(self) -> list[str]:
        """Return the names of files that are none of a spool's."""
        return [name for name in self.files.names(self.path) if not _is_ours(name)]

    def file(self, name: str) -> str:
        """Return the path of a file."""
        return f"{self.path}/{name}"

    def of(self, provider: str, kind: str) -> str:
        """Return the path of a provider's file."""
        return f"{self.path}/{file_name(provider)}.{kind}"

    def names(self, ending: str) -> list[str]:
        """Return the names with this ending, sorted; those of segments by their age."""
        return sorted(name for name in self.files.names(self.path) if name.endswith(ending))

    def providers(self) -> list[str]:
        """Return the file names, without their ending, of the providers that have a position."""
        return [name[: -len(".pos")] for name in self.names(".pos")]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep everybody else from making, dropping and counting segments; not for long.

        Raises:
            BusyError: somebody else did that for more than a second.
        """
        fd = self.files.open(self.file("@folder.lock"), os.O_RDWR | os.O_CREAT)
        try:
            deadline = time.monotonic() + _PATIENCE
            while not self.files.lock(fd):
                if time.monotonic() > deadline:
                    raise BusyError(f"another process keeps {self.path}/@folder.lock")
                time.sleep(_LOOK)
            yield
        finally:
            self.files.close(fd)

    def read(self, path: str, most: int = 64 * 1024 * 1024) -> bytes:
        """Return what a file holds, up to ``most`` bytes; nothing if there is none."""
        try:
            fd = self.files.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return b""
        try:
            parts = []
            size = 0
            while size < most and (part := self.files.read(fd, min(1 << 20, most - size), size)):
                parts.append(part)
                size += len(part)
            return b"".join(parts)
        finally:
            self.files.close(fd)

    def peek(self, path: str, size: int, offset: int) -> bytes:
        """Return a few bytes of a file; nothing if it cannot be read."""
        try:
            fd = self.files.open(path, os.O_RDONLY)
        except OSError:
            return b""
        try:
            return self.files.read(fd, size, offset)
        except OSError:
            return b""
        finally:
            self.files.close(fd)

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` in the place of what a file held, as a whole."""
        fresh = f"{path}.new"
        try:
            fd = self.files.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                write_all(self.files, fd, data)
            finally:
                self.files.close(fd)
            self.files.rename(fresh, path)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            self._write_over(path, data)

    def _write_over(self, path: str, data: bytes) -> None:
        """Write into the space that the file has already: on a full disk nothing else is left."""
        self.files.remove(f"{path}.new")
        fd = self.files.open(path, os.O_WRONLY)
        try:
            if self.files.write_at(fd, data, 0) != len(data):
                raise SpoolError(errno.ENOSPC, "no space left", path)
            self.files.cut(fd, len(data))
        finally:
            self.files.close(fd)

    def append(self, path: str, data: bytes) -> None:
        """Add ``data`` at the end of a file; what was taken of it only in part is cut off again."""
        fd = self.files.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            size = self.files.fstat(fd).st_size
            try:
                write_all(self.files, fd, data)
            except OSError:
                self.files.cut(fd, size)
                raise
        finally:
            self.files.close(fd)


def write_all(files: Files, fd: int, data: bytes) -> None:
    """Write all of ``data``, however little is taken at once."""
    view = memoryview(data)
    while view:
        taken = files.write(fd, view)
        if taken <= 0:
            raise SpoolError(errno.ENOSPC, "nothing more is taken")
        view = view[taken:]


def file_name(provider: str) -> str:
    """Return what the files of a provider are called, without their ending."""
    name = quote(provider, safe="")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME].rstrip('%')}~{sha256(provider.encode()).hexdigest()[:16]}"


def provider_name(name: str) -> str:
    """Return the provider whose files are called so; of a very long name only its start is known."""
    return unquote(name)


def _is_ours(name: str) -> bool:
    return name in _OURS or name.endswith(_ENDINGS)
