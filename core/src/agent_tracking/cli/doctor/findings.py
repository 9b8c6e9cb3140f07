"""What a check says, and what it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from agent_tracking.discovery import Candidate
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.provider import EnvVar, Provider
from agent_tracking.records import ProviderRecord
from agent_tracking.settings import Settings

__all__ = ["Case", "Finding", "Installed", "Level", "note", "ok", "problem"]


class Level(str, Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"  #: worth knowing; nothing is wrong
    PROBLEM = "problem"

    def __str__(self) -> str:
        return self.value


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a check found.

    Attributes:
        level: see :class:`Level`.
        check: which one, in a word: ``settings``, ``variables``, ``python``, ``providers``, ``import``,
            ``spool``, ``network``, ``tls``, ``proxy``, ``clock``, ``processes``, ``send``.
        where: the variable, provider, host or process that it is about.
        what: what is the case.
        fix: what to do about it; empty where nothing needs to be done.
    """

    level: Level
    check: str
    where: str
    what: str
    fix: str = ""


def ok(check: str, where: str, what: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(level=Level.OK, check=check, where=where, what=what)


def note(check: str, where: str, what: str, fix: str = "") -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(level=Level.NOTE, check=check, where=where, what=what, fix=fix)


def problem(check: str, where: str, what: str, fix: str) -> Finding:
    """Return a finding that something is wrong."""
    return Finding(level=Level.PROBLEM, check=check, where=where, what=what, fix=fix)


class Installed(NamedTuple):
    """A provider's record, what it declares, and the provider itself if it is active."""

    record: ProviderRecord
    candidate: Candidate | None = None
    env: Sequence[EnvVar] = ()
    provider: Provider | None = None


class Case(NamedTuple):
    """What the checks look at; made once, by :mod:`agent_tracking.cli.doctor.examine`."""

    environ: Mapping[str, str]
    settings: Settings
    problems: Sequence[ConfigurationError]
    installed: Sequence[Installed]
    #: What else was said while looking for providers: unreadable packages, unknown names in the switches.
    notes: Sequence[str] = ()
