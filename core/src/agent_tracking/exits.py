"""What happens when the process ends: whatever waits is delivered within one deadline.

``atexit`` is registered when the package is imported, so that it runs after the handlers that the
application registers later. Children of ``multiprocessing`` clear it and run only their own finalizers;
so each process arms those too, at its first record. Where the process ends by SIGTERM, nothing of this
runs: see :mod:`agent_tracking.sigterm`.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol, cast

from agent_tracking import forks, sigterm

__all__ = ["arm", "drain", "finish", "seconds"]

_SECONDS = 5.0
_import_pid = os.getpid()
_armed_pid = 0


class _Draining(Protocol):
    def drain_at_exit(self) -> None: ...

    def shutdown(self, timeout: float | None = None) -> object: ...


def arm() -> bool:
    """Register this process's exit hooks, once for each process; called on the first thread that tracks.

    Returns:
        False where no thread may be started.
    """
    global _armed_pid  # noqa: PLW0603
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None:
        from agent_tracking.integrations.uwsgi import arm_uwsgi, in_master

        if in_master(uwsgi):
            return False
    pid = os.getpid()
    if pid == _armed_pid:
        return True
    _armed_pid = pid
    if pid != _import_pid:
        atexit.unregister(_drain_and_keep_status)
        atexit.register(_drain_and_keep_status)
    sigterm.chain(default_only=True)
    # Children by fork and forkserver skip atexit up to Python 3.12; finalizers with a negative
    # priority run after the application's own.
    if multiprocessing := sys.modules.get("multiprocessing.util"):
        multiprocessing.Finalize(None, drain, exitpriority=-100)
    # Celery's (billiard's) children end in os._exit; this signal is all that fires.
    if signals := sys.modules.get("celery.signals"):
        signals.worker_process_shutdown.connect(_drain_celery, weak=False, dispatch_uid="agent_tracking")
    if uwsgi is not None:
        arm_uwsgi(uwsgi, finish)
    return True


def drain() -> None:
    """Deliver what waits in every tracker of this process."""
    forks.check()
    # An event loop that is closed puts the default action back (hypercorn's workers, which their parent
    # then terminates): a SIGTERM from now on is to wait, too.
    sigterm.chain(default_only=True)
    for tracker in list(forks.trackers):
        draining = cast("_Draining", tracker)
        try:
            draining.drain_at_exit()
        except SystemExit:  # from a handler of SIGTERM, such as billiard's: go on with the wait
            draining.drain_at_exit()
            raise


def finish() -> None:
    """Deliver what waits, and nothing after that: parts of the process are about to be torn down."""
    drain()
    for tracker in list(forks.trackers):
        with suppress(Exception):
            cast("_Draining", tracker).shutdown(0)


def seconds(environ: Mapping[str, str]) -> float:
    """Return ``AGENT_TRACKING_SHUTDOWN_TIMEOUT`` as :mod:`agent_tracking.settings` reads it.

    Imports nothing: a signal handler that ran into an import of the code that it interrupted would wait
    for itself.
    """
    try:
        wanted = float(environ.get("AGENT_TRACKING_SHUTDOWN_TIMEOUT", "").strip() or _SECONDS)
    except ValueError:
        return _SECONDS
    return wanted if 0 <= wanted <= 86_400 else _SECONDS


def _drain_and_keep_status() -> None:
    with suppress(SystemExit):  # the status is settled by now; Python would only complain of it
        drain()
    if _interrupted():
        # The interpreter is about to end by SIGINT, and forgets that when text is executed meanwhile, as
        # imports of dataclasses and named tuples do (run_eval_code_obj in CPython's Python/pythonrun.c).
        with suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")  # noqa: S102


def _interrupted() -> bool:
    """Return whether a KeyboardInterrupt ended the main program; not one that a prompt or a runner showed."""
    trace = getattr(sys, "last_traceback", None)
    if trace is None or getattr(sys, "last_type", None) is not KeyboardInterrupt or hasattr(sys, "ps1"):
        return False
    frame = trace.tb_frame
    outermost = (frame.f_globals.get("__name__"), frame.f_code.co_name)
    return outermost in {("__main__", "<module>"), ("runpy", "_run_module_as_main")}


def _drain_celery(**_: object) -> None:
    drain()


atexit.register(_drain_and_keep_status)
sigterm.chain()
