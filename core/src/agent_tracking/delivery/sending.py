"""What a lane sends with: made at its first request, on its own thread."""

from __future__ import annotations

from collections.abc import Callable

from agent_tracking import forks
from agent_tracking.delivery.outbox import Sender
from agent_tracking.http_provider import Request, Response

__all__ = ["LaneSender"]


class LaneSender:
    """Makes the sender when it is needed, and drops what its thread tracks while it works.

    Args:
        make: makes the sender; httpx's transport by default.
        quiet: told when a request begins and ends.
    """

    def __init__(self, make: Callable[[], Sender] | None, quiet: Callable[[bool], None]) -> None:
        self._make = make
        self._quiet = quiet
        self._sender: Sender | None = None

    def send(self, request: Request) -> Response:
        """See :class:`agent_tracking.delivery.outbox.Sender`."""
        self._quiet(True)
        try:
            if self._sender is None:
                with forks.BOOT:
                    self._sender = (self._make or _http_sender)()
            return self._sender.send(request)
        finally:
            self._quiet(False)

    def enforce(self, now: float) -> None:
        """End a request that is over its deadline; called on another thread."""
        if self._sender is not None:
            self._sender.enforce(now)

    def close(self) -> None:
        """Close the connections."""
        if self._sender is not None:
            self._quiet(True)
            try:
                self._sender.close()
            finally:
                self._quiet(False)


def _http_sender() -> Sender:
    from agent_tracking.delivery.http import (
        HTTPSender,
    )  # imports httpx: not before there is something to send

    return HTTPSender()
