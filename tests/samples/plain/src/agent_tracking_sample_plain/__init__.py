"""A provider that appends lines of JSON to a file: no HTTP, no thread, no queue of its own."""

from __future__ import annotations

import json

from agent_tracking import EnvVar, Provider, TrackingEvent


class LineProvider(Provider):
    """Buffers in ``track``, delivers in ``flush``."""

    name = "sample-plain"
    env = (EnvVar("SAMPLE_PLAIN_FILE", required=True, help="the file that lines are appended to"),)

    def configure(self) -> None:
        """Begin with nothing buffered."""
        self._lines: list[str] = []

    def track(self, event: TrackingEvent) -> None:
        """Keep one line."""
        row = {"id": event.message_id, "name": event.name, "properties": event.properties}
        self._lines.append(json.dumps(row) + "\n")

    def flush(self) -> None:
        """Write what was kept."""
        lines, self._lines = self._lines, []
        with open(self.values["SAMPLE_PLAIN_FILE"], "a", encoding="utf-8") as file:
            file.writelines(lines)
