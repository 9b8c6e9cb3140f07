"""What runs under callgrind: each kind of call ``CALLS`` times, between marks that cut the counts apart.

A mark is ``os.getppid()``: nothing else here calls libc's ``getppid``, and ``--dump-before=getppid`` writes
out what was counted since the mark before. No thread runs, the garbage collector is off, nobody is woken.
Prints the names of the pieces, in order.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from agent_tracking import Tracker, context
from benchmarks.event import NAME, PROPERTIES, USER

CALLS = 1_000
#: Calls before the first mark: caches of the interpreter are warm by then, and there is memory for as many.
_WARM = CALLS

_encode = msgspec.json.Encoder().encode
_queue: deque[bytes] = deque()


def _empty(name: str, properties: object = None, *, user_id: str | None = None) -> None:
    """Take the arguments and do nothing."""


def _floor(name: str, properties: object = None, *, user_id: str | None = None) -> None:
    """Encode and append: what no sender can do without."""
    _queue.append(_encode((0, 1_700_000_000.5, name, properties, user_id)))


def pieces(tracker: Tracker) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is counted: a name, and a call."""
    track, identify = tracker.track, tracker.identify
    yield "empty call", lambda: _empty(NAME, PROPERTIES, user_id=USER)
    yield "floor: encode, append", lambda: _floor(NAME, PROPERTIES, user_id=USER)
    yield "track, no properties", lambda: track(NAME)
    yield "track, nine properties", lambda: track(NAME, PROPERTIES)
    yield "track, nine properties, user id", lambda: track(NAME, PROPERTIES, user_id=USER)
    yield "identify, nine traits", lambda: identify(USER, PROPERTIES)
    # The last one: from the first context of a process on every call looks for one.
    with context(user_id=USER, anonymous_id="visitor-7"):
        yield "track, nine properties, in a context", lambda: track(NAME, PROPERTIES)


def main() -> None:
    """Count."""
    tracker = Tracker(environ={}, discover=False)
    tracker.due = float("inf")  # nobody is woken: there is no thread to count along
    names, mark = [], os.getppid
    gc.collect()
    gc.disable()
    for name, call in pieces(tracker):
        for _ in range(_WARM):
            call()
        tracker.entries.clear()
        _queue.clear()
        mark()
        for _ in range(CALLS):
            call()
        mark()
        names.append(name)
        if name.startswith(("track", "identify")) and len(tracker.entries) != CALLS:
            sys.exit(f"{len(tracker.entries)} entries after {CALLS} calls: {name} is not what was counted")
    print(json.dumps({"names": names, "calls": CALLS}), flush=True)
    os._exit(0)  # the tracker's exit would deliver


if __name__ == "__main__":
    main()
