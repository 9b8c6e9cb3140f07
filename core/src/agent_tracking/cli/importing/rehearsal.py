"""The provider of ``--dry-run``: it sends nothing, and keeps the first records as they would be sent."""

from __future__ import annotations

from typing import Any

from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.tracker import Tracker

__all__ = ["Rehearsal", "rehearsing_tracker"]

_SHOWN = 3


class Rehearsal:
    """Takes everything."""

    name = "dry-run"

    def __init__(self) -> None:
        #: The first records, as every provider would get them.
        self.records: list[dict[str, Any]] = []

    def track(self, event: TrackingEvent) -> None:
        """Keep the event if it is among the first."""
        if len(self.records) < _SHOWN:
            self.records.append({"event": event.name, **_ids(event), "properties": event.properties})

    def identify(self, identity: Identity) -> None:
        """Keep the identity if it is among the first."""
        if len(self.records) < _SHOWN:
            self.records.append({"event": "$identify", **_ids(identity), "traits": identity.traits})


def _ids(record: Record) -> dict[str, Any]:
    found = {
        "message_id": record.message_id,
        "timestamp": record.iso,
        "user_id": record.user_id,
        "anonymous_id": record.anonymous_id,
        "session_id": getattr(record, "session_id", None),
    }
    return {name: value for name, value in found.items() if value is not None}


def rehearsing_tracker(environ: dict[str, str]) -> tuple[Tracker, Rehearsal]:
    """Return a tracker whose only provider is a rehearsal: no installed one is looked for."""
    queues = {name: value for name, value in environ.items() if "_QUEUE_" in name}
    tracker = Tracker(environ=queues, discover=False, retry=RetryPolicy())
    rehearsal = Rehearsal()
    tracker.register_provider(rehearsal)
    return tracker, rehearsal
