"""Runs a provider's ``async def`` hooks to completion on its lane."""

from __future__ import annotations

import asyncio
import codecs
import socket
from collections.abc import Coroutine
from typing import Any

from agent_tracking.exceptions import ProviderError

__all__ = ["HOOK_SECONDS", "LaneLoop"]

#: Seconds after which an ``async`` hook is cancelled.
HOOK_SECONDS = 60.0
_CANCEL_SECONDS = 1.0  # for a hook that is cancelled, to clean up


codecs.lookup("idna")  # looking up any host imports this: not in the middle of a fork


class _Loop(asyncio.SelectorEventLoop):
    """Resolves names on its own thread: the default executor is gone when a process exits."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:  # noqa: ANN401
        return socket.getaddrinfo(
            host,
            port,
            options.get("family", 0),
            options.get("type", 0),
            options.get("proto", 0),
            options.get("flags", 0),
        )


class LaneLoop:
    """An event loop of the lane's own, made when the first coroutine comes."""

    def __init__(self) -> None:
        self._loop: _Loop | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run ``coroutine`` to its end, at most a minute.

        Raises:
            ProviderError: it took longer and was cancelled.
        """
        if self._loop is None:
            self._loop = _Loop()
        error = self._loop.run_until_complete(_within(coroutine, HOOK_SECONDS))
        if error is not None:
            raise error

    def close(self) -> None:
        """Close the loop."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None


async def _within(coroutine: Coroutine[Any, Any, Any], seconds: float) -> BaseException | None:
    task = asyncio.ensure_future(_outcome(coroutine))
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=_CANCEL_SECONDS)
        if not done:  # it goes on whenever this loop runs: nobody asks for its result any more
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001  as asyncio.gather does
        return ProviderError(f"the hook took more than {seconds:.0f} s")
    return task.result()


async def _outcome(coroutine: Coroutine[Any, Any, Any]) -> BaseException | None:
    """Return what the coroutine raised: of SystemExit and the like a task tells the loop, not its owner."""
    try:
        await coroutine
    except BaseException as error:  # noqa: BLE001
        return error
    return None
