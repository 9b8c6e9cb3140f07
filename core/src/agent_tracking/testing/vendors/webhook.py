"""A webhook's receiver: an object, an array, one object per line, or CloudEvents."""

from __future__ import annotations

from agent_tracking.testing.backends import Answer, Backend, Incoming, Reading, Record

__all__ = ["Webhook"]

_REQUIRED = ("id", "source", "specversion", "type")


class Webhook(Backend):
    """Any path. The deduplication key is ``id``, or ``messageId``, or the ``webhook-id`` header.

    A single record without any of them gets a digest of its content. CloudEvents (told by their content
    type) need ``id``, ``source``, ``specversion`` ``"1.0"`` and ``type``, else the request is refused.

    Args:
        status: the answer to what was taken; 204 has no body.
    """

    def __init__(self, status: int = 200) -> None:
        super().__init__(
            key=lambda record: str(record.get("id") or record.get("messageId") or ""),
            environ={"TRACKING_WEBHOOK_URL": "{url}/hook"},
        )
        self._status = status

    def read(self, incoming: Incoming) -> Reading:
        """Read the records; see the class."""
        reading = super().read(incoming)
        given = incoming.headers.get("webhook-id", "")
        if given:
            for index, record in enumerate(reading.records):
                if not (record.get("id") or record.get("messageId")):
                    reading.keys[index] = given if len(reading.records) == 1 else f"{given}#{index}"
        return reading

    def answer(self, incoming: Incoming, reading: Reading) -> Answer:
        """Take all records or none."""
        if incoming.method not in {"POST", "PUT"}:
            return Answer.text(405)
        if reading.problem:
            return Answer.text(400, reading.problem)
        if "cloudevents" in incoming.headers.get("content-type", "") and not all(
            map(_is_cloud_event, reading.records)
        ):
            return Answer.text(400, "not a CloudEvent: id, source, specversion 1.0 and type are required")
        return Answer(self._status)

    def canned(self, status: int) -> Answer:
        """Return an answer without a body."""
        return Answer(status)


def _is_cloud_event(record: Record) -> bool:
    given = all(isinstance(record.get(name), str) and record[name] for name in _REQUIRED)
    return given and record["specversion"] == "1.0"
