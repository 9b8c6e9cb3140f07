"""One client in a process of its own: tracks events, flushes, waits to be told to end, ends.

``python benchmarks/vendor_clients.py NAME URL``, where NAME is a vendor's SDK with its defaults
(``posthog-sdk``, ``mixpanel-sdk``, ``amplitude-sdk``, ``segment-sdk``) or ``agent-tracking``, which takes
its provider from the environment. Speaks lines of JSON; a line on standard input lets it go on.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

EVENTS = 200
POISON = 77
#: Seconds that a flush may take where it takes a limit.
PATIENCE = 40.0


class Client(NamedTuple):
    """What every SDK can do."""

    track: Callable[[str, dict[str, Any]], object]
    flush: Callable[[], object]
    shutdown: Callable[[], object]


def agent_tracking(_url: str) -> Client:
    from agent_tracking import Tracker

    tracker = Tracker()
    tracker.providers()
    return Client(
        lambda user, properties: tracker.track("order paid", properties, user_id=user),
        lambda: tracker.flush(PATIENCE),
        tracker.shutdown,
    )


def posthog_sdk(url: str) -> Client:
    from posthog import Posthog

    client = Posthog("phc_test_key_of_the_sink", host=url)
    return Client(
        lambda user, properties: client.capture("order paid", distinct_id=user, properties=properties),
        lambda: client.flush(timeout_seconds=PATIENCE),
        client.shutdown,
    )


def mixpanel_sdk(url: str) -> Client:
    """With the buffered consumer: the default one sends each event on the caller's thread."""
    from mixpanel import BufferedConsumer, Mixpanel

    consumer = BufferedConsumer(api_host=url.removeprefix("https://"))
    client = Mixpanel("test-token-of-the-sink", consumer=consumer)
    return Client(
        lambda user, properties: client.track(user, "order paid", properties), consumer.flush, consumer.flush
    )


def amplitude_sdk(url: str) -> Client:
    from amplitude import Amplitude, BaseEvent, Config

    client = Amplitude("test-key-of-the-sink", Config(server_url=f"{url}/2/httpapi"))

    def flush() -> None:
        for future in client.flush() or ():
            if future is not None:
                future.result(PATIENCE)

    return Client(
        lambda user, properties: client.track(
            BaseEvent("order paid", user_id=user, event_properties=properties)
        ),
        flush,
        client.shutdown,
    )


def segment_sdk(url: str) -> Client:
    from segment.analytics.client import Client as Segment

    client = Segment("write-key-of-the-sink", host=url)
    return Client(
        lambda user, properties: client.track(user, "order paid", properties), client.flush, client.shutdown
    )


CLIENTS = {
    "agent-tracking": agent_tracking,
    "posthog-sdk": posthog_sdk,
    "mixpanel-sdk": mixpanel_sdk,
    "amplitude-sdk": amplitude_sdk,
    "segment-sdk": segment_sdk,
}


def main(name: str, url: str, poison: bool) -> None:
    """Run one client; see the module."""
    logging.disable(logging.CRITICAL)
    client = CLIENTS[name](url)
    say(ready=True)
    sys.stdin.readline()
    raised, worst = 0, 0.0
    for number in range(EVENTS):
        properties = {"n": number, "poison": poison and number == POISON, "text": "x" * 150}
        began = time.perf_counter()
        try:
            client.track(f"user-{number % 50:04}", properties)
        except Exception:
            raised += 1
        worst = max(worst, time.perf_counter() - began)
    say(tracked=True, worst=worst, raised=raised)
    say(flushed=True, raised=guarded(client.flush))
    sys.stdin.readline()
    say(ended=True, raised=guarded(client.shutdown))


def guarded(call: Callable[[], object]) -> bool:
    try:
        call()
    except Exception:
        return True
    return False


def say(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:] == ["poison"])
