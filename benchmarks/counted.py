"""What runs under callgrind: each kind of call, and the parts of a delivery, ``CALLS`` times between marks.

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
from functools import partial
from itertools import chain

import msgspec

from agent_tracking import Tracker, context
from agent_tracking.prepare import prepare
from agent_tracking.snapshot import OPTIONS, dumps, plain
from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider
from agent_tracking_webhook import WebhookProvider
from benchmarks.event import NAME, PROPERTIES, USER
from benchmarks.senders import TRACKED, environ_of

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


def parts(tracker: Tracker) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what a call and a record consist of: the look at the data, and what the background does with it."""
    tracker.track(NAME, PROPERTIES, user_id=USER)
    entry = tracker.entries.popleft()
    yield "of a call: is it plain data", lambda: plain(PROPERTIES)
    yield "of a call: orjson", lambda: dumps(PROPERTIES, None, OPTIONS)
    yield "a record: check, ids", lambda: prepare(entry, tracker.ids)
    record, _ = prepare(entry, tracker.ids)
    values = environ_of("http://127.0.0.1", TRACKED["four"])
    for provider in (PostHogProvider, MixpanelProvider, AmplitudeProvider, WebhookProvider):
        encode = provider(values).encode
        yield f"a record for {provider.name}", partial(encode, record)


def main() -> None:
    """Count."""
    tracker = Tracker(environ={}, discover=False)
    tracker.due = float("inf")  # nobody is woken: there is no thread to count along
    names, mark = [], os.getppid
    gc.collect()
    gc.disable()
    for name, call in chain(pieces(tracker), parts(tracker)):
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
