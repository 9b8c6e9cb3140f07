"""uWSGI: threads that never run without an option, and a process that ends in C."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType

__all__ = ["arm_uwsgi", "in_master", "threads_missing"]

#: What C was given to call: must live as long as the process.
_callbacks: list[object] = []
_said: list[bool] = []


def threads_missing(uwsgi: ModuleType) -> bool:
    """Return whether uWSGI was started so that Python threads never run.

    https://uwsgi-docs.readthedocs.io/en/latest/WSGIquickstart.html#a-note-on-python-threads
    """
    options = getattr(uwsgi, "opt", {})
    return not any(name in options or name.encode() in options for name in ("enable-threads", "threads"))


def in_master(uwsgi: ModuleType) -> bool:
    """Return whether this is the process that is about to be forked; say once what that means.

    A thread of Python's that runs while C forks can leave children that wait for the interpreter's lock
    for ever (https://github.com/unbit/uwsgi/issues/2738), so none is started there.
    """
    roles = ("worker_id", "mule_id", "i_am_the_spooler")
    if not hasattr(uwsgi, "worker_id") or any(getattr(uwsgi, role, int)() for role in roles):
        return False
    if not _said:
        _said.append(True)
        logging.getLogger("agent_tracking").warning(
            "track() was called before uWSGI forked its workers: delivered only by a flush() there;"
            " call it in a function marked @uwsgidecorators.postfork, or use --lazy-apps"
        )
    return True


def arm_uwsgi(uwsgi: ModuleType, finish: Callable[[], None]) -> None:
    """Warn where nothing can be delivered; call ``finish`` when a worker ends."""
    if threads_missing(uwsgi):
        logging.getLogger("agent_tracking").warning(
            "uWSGI runs no Python threads, so nothing is delivered before flush() or the end:"
            " start it with --enable-threads"
        )
    if hasattr(uwsgi, "worker_id"):  # not a stand-in: this process will end as uWSGI ends one
        _at_exit_of_c(finish)


def _at_exit_of_c(finish: Callable[[], None]) -> None:
    """Call ``finish`` when the process calls C's ``exit()``, before OpenSSL is torn down.

    A worker ends by ``exit()``, which calls the newest handler first: OpenSSL's, registered when it is first
    used (https://docs.openssl.org/3.0/man3/OPENSSL_init_crypto/), comes before uWSGI's, which ends Python.
    What Python's ``atexit`` or ``uwsgi.atexit`` sends by then crashes the process.
    """
    import atexit
    import ctypes
    import hashlib
    import ssl

    ssl.RAND_status()
    hashlib.sha256()
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: finish())
    mark = ctypes.create_string_buffer(1)  # whose handler it is
    _callbacks.extend((callback, mark))
    # C's atexit() is no symbol of glibc's shared library; this is what it calls there.
    libc = ctypes.CDLL(None)
    libc.__cxa_atexit(callback, None, mark)  # noqa: SLF001
    # Where Python ends first, which depends on when the application was loaded: now, and never again.
    atexit.register(libc.__cxa_finalize, mark)  # noqa: SLF001
