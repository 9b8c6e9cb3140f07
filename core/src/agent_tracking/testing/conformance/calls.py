"""Calls a provider's hooks as its lane does, without a lane."""

from __future__ import annotations

import inspect

from agent_tracking.delivery.loop import LaneLoop
from agent_tracking.hooks import find_hooks
from agent_tracking.hookspecs import HookSpecs

__all__ = ["Caller"]


class Caller:
    """A provider's hooks, plain or ``async``.

    Args:
        provider: an instance.
        specs: the specifications that it is checked against.
    """

    def __init__(self, provider: object, specs: type = HookSpecs) -> None:
        self._hooks = find_hooks(provider, str(getattr(provider, "name", "")) or "unnamed", specs)
        self._loop = LaneLoop()

    def call(self, hook: str, *arguments: object) -> None:
        """Call a hook, if the provider has it; what it raises is raised."""
        function = getattr(self._hooks, hook)
        if function is None:
            return
        result = function(*arguments)
        if inspect.iscoroutine(result):
            self._loop.run(result)

    def close(self) -> None:
        """Close the loop of ``async`` hooks."""
        self._loop.close()
