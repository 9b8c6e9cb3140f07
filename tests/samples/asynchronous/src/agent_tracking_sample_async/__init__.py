"""A provider whose hooks are coroutines: they run on its own thread, in an event loop of its own."""

from __future__ import annotations

import asyncio
import json

from agent_tracking import EnvVar, Provider, RetryLater, TrackingEvent


class SocketProvider(Provider):
    """Sends lines of JSON to a server on a socket, which answers with how many it took."""

    name = "sample-async"
    env = (
        EnvVar("SAMPLE_ASYNC_HOST", required=True, help="where lines are sent"),
        EnvVar("SAMPLE_ASYNC_PORT", default="5170", help="the port there"),
    )

    def configure(self) -> None:
        """Begin with nothing buffered."""
        self._lines: list[str] = []

    async def track(self, event: TrackingEvent) -> None:
        """Keep one line."""
        row = {"id": event.message_id, "name": event.name, "properties": event.properties}
        self._lines.append(json.dumps(row) + "\n")

    async def flush(self) -> None:
        """Send what was kept, and wait for the answer; an ``OSError`` means: later, all of it again."""
        lines, self._lines = self._lines, []
        host, port = self.values["SAMPLE_ASYNC_HOST"], self.values["SAMPLE_ASYNC_PORT"]
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write("".join(lines).encode())
            writer.write_eof()
            taken = await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()
        if int(taken or b"0") < len(lines):
            raise RetryLater("the server did not take all of them")
