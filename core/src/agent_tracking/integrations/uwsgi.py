"""uWSGI: threads that never run without an option, and an end that may skip ``atexit``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType

__all__ = ["arm_uwsgi", "threads_missing"]


def threads_missing(uwsgi: ModuleType) -> bool:
    """Return whether uWSGI was started so that Python threads never run.

    https://uwsgi-docs.readthedocs.io/en/latest/WSGIquickstart.html#a-note-on-python-threads
    """
    options = getattr(uwsgi, "opt", {})
    return not any(name in options or name.encode() in options for name in ("enable-threads", "threads"))


def arm_uwsgi(uwsgi: ModuleType, drain: Callable[[], None]) -> None:
    """Warn where nothing can be delivered; deliver at the end of a worker.

    ``uwsgi.atexit`` is called at a worker's end also with ``skip-atexit-teardown``, which skips Python's.
    """
    if threads_missing(uwsgi):
        logging.getLogger("agent_tracking").warning(
            "uWSGI runs no Python threads, so nothing is delivered before flush() or the end:"
            " start it with --enable-threads"
        )
    if getattr(uwsgi, "atexit", None) is None:
        uwsgi.atexit = drain  # type: ignore[attr-defined]
