"""What every installed or registered provider can say of itself."""

from __future__ import annotations

from enum import Enum

import msgspec

__all__ = ["ProviderRecord", "ProviderState"]


class ProviderState(str, Enum):
    """What became of a provider."""

    ACTIVE = "active"  #: gets every record
    INACTIVE = "inactive"  #: installed; a required variable is missing
    DISABLED = "disabled"  #: switched off by AGENT_TRACKING_*
    FAILED = "failed"  #: cannot be imported, made or used
    INCOMPATIBLE = "incompatible"  #: made for another version of agent-tracking
    CONFLICT = "conflict"  #: two distributions claim its name
    NOT_INSTALLED = "not installed"  #: its variable is set, its package is missing

    def __str__(self) -> str:
        return self.value


class ProviderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One provider: what it is, why, and what to do about it.

    Attributes:
        name: the entry point's name.
        state: see :class:`ProviderState`.
        reason: why it is in this state, for people.
        fix: what changes that; empty when nothing needs to.
        distribution, version: the package that brings it; empty for one registered at run time.
        entry_point: ``module:attribute``; for one registered at run time its class.
        variables: the names of the variables that it reads.
    """

    name: str
    state: ProviderState
    reason: str = ""
    fix: str = ""
    distribution: str = ""
    version: str = ""
    entry_point: str = ""
    variables: tuple[str, ...] = ()
