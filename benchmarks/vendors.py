"""The vendors' own SDKs with their defaults, each as a call that tracks and one that waits until all is sent.

``PACKAGES`` names their distributions. What is not a default stands beside its line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["MODULES", "PACKAGES", "VENDORS", "Sender"]

#: Seconds that a flush may take, where it takes a limit.
PATIENCE = 60.0
_SCHEMA = "iglu:com.example/meal_logged/jsonschema/1-0-0"


class Sender(NamedTuple):
    """What is measured.

    Attributes:
        track: ``track(name, properties, user_id=...)``.
        finish: waits until what was tracked is sent; more may be tracked afterwards.
        close: ends its threads.
    """

    track: Callable[..., object]
    finish: Callable[[], object]
    close: Callable[[], object] = lambda: None


def posthog(url: str) -> Sender:
    from posthog import Posthog

    client = Posthog("phc_key_of_the_sink", host=f"{url}/posthog")

    def track(name: str, properties: dict[str, Any], *, user_id: str) -> None:
        client.capture(name, distinct_id=user_id, properties=properties)

    return Sender(track, lambda: client.flush(timeout_seconds=PATIENCE), client.shutdown)


def mixpanel(url: str) -> Sender:
    """With the default consumer: one request for each event, on the caller's thread."""
    from mixpanel import Consumer, Mixpanel

    client = Mixpanel("token-of-the-sink", consumer=Consumer(events_url=f"{url}/mixpanel/track"))
    return Sender(lambda name, properties, *, user_id: client.track(user_id, name, properties), lambda: None)


def mixpanel_buffered(url: str) -> Sender:
    """One request for 50 events, on the thread of whoever tracks the 50th."""
    from mixpanel import BufferedConsumer, Mixpanel

    consumer = BufferedConsumer(events_url=f"{url}/mixpanel/track")
    client = Mixpanel("token-of-the-sink", consumer=consumer)
    return Sender(
        lambda name, properties, *, user_id: client.track(user_id, name, properties), consumer.flush
    )


def amplitude(url: str) -> Sender:
    from amplitude import Amplitude, BaseEvent, Config

    client = Amplitude("key-of-the-sink", Config(server_url=f"{url}/amplitude/2/httpapi"))

    def track(name: str, properties: dict[str, Any], *, user_id: str) -> None:
        client.track(BaseEvent(name, user_id=user_id, event_properties=properties))

    def flush() -> None:
        for future in client.flush() or ():
            if future is not None:
                future.result(PATIENCE)

    return Sender(track, flush, client.shutdown)


def segment(url: str) -> Sender:
    from segment.analytics.client import Client

    client = Client("key-of-the-sink", host=f"{url}/segment")
    return Sender(
        lambda name, properties, *, user_id: client.track(user_id, name, properties),
        client.flush,
        client.shutdown,
    )


def rudderstack(url: str) -> Sender:
    from rudderstack.analytics.client import Client

    client = Client("key-of-the-sink", host=f"{url}/rudderstack")
    return Sender(
        lambda name, properties, *, user_id: client.track(user_id, name, properties),
        client.flush,
        client.join,
    )


def snowplow(url: str) -> Sender:
    """With the emitter that sends on a thread; the default one sends on the caller's."""
    from snowplow_tracker import AsyncEmitter, SelfDescribing, SelfDescribingJson, Subject, Tracker

    logging.getLogger("snowplow_tracker").setLevel(logging.WARNING)
    emitter = AsyncEmitter(f"{url}/snowplow")
    client = Tracker("benchmark", emitter)

    def track(name: str, properties: dict[str, Any], *, user_id: str) -> None:
        subject = Subject().set_user_id(user_id)
        client.track(SelfDescribing(SelfDescribingJson(_SCHEMA, {"name": name, **properties}), subject))

    return Sender(track, emitter.sync_flush)


def otel(url: str) -> Sender:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{url}/otel/v1/logs")))
    logger = provider.get_logger("benchmark")

    def track(name: str, properties: dict[str, Any], *, user_id: str) -> None:
        logger.emit(event_name=name, body=properties, attributes={"user.id": user_id})

    return Sender(track, provider.force_flush, provider.shutdown)


def three(url: str) -> Sender:
    """Three SDKs by hand: posthog, mixpanel (buffered), amplitude."""
    senders = [make(url) for make in (posthog, mixpanel_buffered, amplitude)]
    first, second, third = (sender.track for sender in senders)

    def track(name: str, properties: dict[str, Any], *, user_id: str) -> None:
        first(name, properties, user_id=user_id)
        second(name, properties, user_id=user_id)
        third(name, properties, user_id=user_id)

    return Sender(
        track,
        lambda: [sender.finish() for sender in senders],
        lambda: [sender.close() for sender in senders],
    )


VENDORS: dict[str, Callable[[str], Sender]] = {
    "posthog": posthog,
    "mixpanel": mixpanel,
    "mixpanel-buffered": mixpanel_buffered,
    "amplitude": amplitude,
    "segment": segment,
    "rudderstack": rudderstack,
    "snowplow": snowplow,
    "otel": otel,
    "three": three,
}

PACKAGES: dict[str, tuple[str, ...]] = {
    "posthog": ("posthog",),
    "mixpanel": ("mixpanel",),
    "mixpanel-buffered": ("mixpanel",),
    "amplitude": ("amplitude-analytics",),
    "segment": ("segment-analytics-python",),
    "rudderstack": ("rudder-sdk-python",),
    "snowplow": ("snowplow-tracker",),
    "otel": ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"),
    "three": ("posthog", "mixpanel", "amplitude-analytics"),
}
#: What an application imports to use one.
MODULES: dict[str, str] = {
    "posthog": "posthog",
    "mixpanel": "mixpanel",
    "amplitude": "amplitude",
    "segment": "segment.analytics",
    "rudderstack": "rudderstack.analytics",
    "snowplow": "snowplow_tracker",
    "otel": "opentelemetry.exporter.otlp.proto.http._log_exporter, opentelemetry.sdk._logs.export",
}
