"""The providers of a process that only writes to the spool: none, since another process delivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_tracking.counters import ProviderStats
from agent_tracking.records import ProviderRecord, ProviderState

if TYPE_CHECKING:
    from agent_tracking.delivery.lane import Lane

__all__ = ["Elsewhere"]


class Elsewhere:
    """Stands where a registry would: nothing is looked for, nothing is imported."""

    def __init__(self) -> None:
        self.lanes: dict[str, Lane] = {}
        self._asked: dict[str, ProviderRecord] = {}

    def discover(self) -> None:
        """Do nothing."""

    def records(self) -> tuple[ProviderRecord, ...]:
        """Return those that somebody tried to register here."""
        return tuple(self._asked[name] for name in sorted(self._asked))

    def stats(self) -> dict[str, ProviderStats]:
        """Return nothing: there are no lanes."""
        return {}

    def register(self, provider: object, name: str | None) -> ProviderRecord:
        """Take note, and use it for nothing."""
        name = str(name or getattr(provider, "name", None) or type(provider).__name__)
        kind = provider if isinstance(provider, type) else type(provider)
        record = self._asked[name] = ProviderRecord(
            name=name,
            state=ProviderState.DISABLED,
            reason="another process delivers (AGENT_TRACKING_DELIVERY=relay)",
            fix="publish it as a package and install it where `agent-tracking relay` runs",
            entry_point=f"{kind.__module__}:{kind.__qualname__}",
        )
        return record

    def unregister(self, name: str) -> bool:
        """Forget it; there is no lane to end."""
        self._asked.pop(name, None)
        return False
