"""``track``, ``identify``, ``flush`` and the rest, on the one tracker of this process.

That tracker is kept in ``sys.modules`` under a key of its own, so that ``importlib.reload``, a second copy of
the package under another name and a re-import all find the same one. The key holds the version of its
layout: code that lays it out otherwise makes one of its own and leaves this one alone.
"""

from __future__ import annotations

import sys
from types import ModuleType

from agent_tracking.tracker import Tracker

__all__ = [
    "aflush",
    "configure",
    "default_tracker",
    "flush",
    "identify",
    "providers",
    "register_provider",
    "shutdown",
    "stats",
    "track",
    "unregister_provider",
]

_KEY = "_agent_tracking_process_v1"


def default_tracker() -> Tracker:
    """Return the tracker of this process."""
    holder = sys.modules.setdefault(
        _KEY, ModuleType(_KEY, "Holds the process-wide tracker of agent_tracking.")
    )
    tracker: Tracker | None = vars(holder).get("tracker")
    if tracker is None:
        # One step: two threads that get here at once end with the same tracker.
        tracker = vars(holder).setdefault("tracker", Tracker())
    return tracker


_tracker = default_tracker()

# Bound methods rather than functions that call them: a call more is a call more on the caller's thread.
track = _tracker.track
identify = _tracker.identify
flush = _tracker.flush
aflush = _tracker.aflush
shutdown = _tracker.shutdown
configure = _tracker.configure
register_provider = _tracker.register_provider
unregister_provider = _tracker.unregister_provider
providers = _tracker.providers
stats = _tracker.stats
