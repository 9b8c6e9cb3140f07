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
from typing import Protocol, cast

from agent_tracking import forks, sigterm

__all__ = ["arm", "drain"]

_import_pid = os.getpid()
_armed_pid = 0


class _Draining(Protocol):
    def drain_at_exit(self) -> None: ...


def arm() -> None:
    """Register this process's exit hooks, once for each process; called on the first thread that tracks."""
    global _armed_pid  # noqa: PLW0603
    pid = os.getpid()
    if pid == _armed_pid:
        return
    _armed_pid = pid
    if pid != _import_pid:
        atexit.unregister(drain)
        atexit.register(drain)
    sigterm.chain(default_only=True)
    # Children by fork and forkserver skip atexit up to Python 3.12; finalizers with a negative
    # priority run after the application's own.
    if multiprocessing := sys.modules.get("multiprocessing.util"):
        multiprocessing.Finalize(None, drain, exitpriority=-100)
    # Celery's (billiard's) children end in os._exit; this signal is all that fires.
    if signals := sys.modules.get("celery.signals"):
        signals.worker_process_shutdown.connect(_drain_celery, weak=False, dispatch_uid="agent_tracking")
    if uwsgi := sys.modules.get("uwsgi"):
        from agent_tracking.integrations.uwsgi import arm_uwsgi

        arm_uwsgi(uwsgi, drain)


def drain() -> None:
    """Deliver what waits in every tracker of this process."""
    forks.check()
    for tracker in list(forks.trackers):
        cast("_Draining", tracker).drain_at_exit()


def _drain_celery(**_: object) -> None:
    drain()


atexit.register(drain)
sigterm.chain()
