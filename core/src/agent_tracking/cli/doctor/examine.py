"""What the checks look at: settings, providers, what they declare."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout

from agent_tracking import discovery
from agent_tracking.cli.direct import direct_environ
from agent_tracking.cli.doctor.findings import Case, Installed
from agent_tracking.cli.output import held_log
from agent_tracking.provider import EnvVar, Provider
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.settings import read_settings
from agent_tracking.tracker import Tracker

__all__ = ["examine"]


def examine(environ: Mapping[str, str]) -> Case:
    """Find and load the providers as an application with these variables would."""
    settings, problems = read_settings(environ)
    # What a provider prints while it is imported belongs to no table.
    with held_log() as log, redirect_stdout(sys.stderr):
        records = Tracker(environ=direct_environ(environ)).providers()
        found = discovery.find()
        installed = [_installed(record, found.candidates, environ) for record in records]
    told = {str(error) for error in problems}
    return Case(environ, settings, problems, installed, _notes(log, told))


def _notes(log: Sequence[logging.LogRecord], told: set[str]) -> list[str]:
    """Return what was said of no provider and is no setting."""
    texts = [record.getMessage() for record in log if record.name == "agent_tracking"]
    return [text for text in dict.fromkeys(texts) if text not in told]


def _installed(
    record: ProviderRecord, candidates: Sequence[discovery.Candidate], environ: Mapping[str, str]
) -> Installed:
    found = [
        each for each in candidates if (each.name, each.distribution) == (record.name, record.distribution)
    ]
    if not found or not _was_loaded(record):
        return Installed(record, found[0] if found else None)
    # What was loaded once is loaded from sys.modules, whatever its import does.
    loaded = discovery.make(found[0], environ)
    provider = loaded.provider if isinstance(loaded.provider, Provider) else None
    return Installed(record, found[0], _declared(found[0]), provider)


def _was_loaded(record: ProviderRecord) -> bool:
    return record.state in {ProviderState.ACTIVE, ProviderState.INACTIVE} or bool(record.variables)


def _declared(candidate: discovery.Candidate) -> Sequence[EnvVar]:
    kind = candidate.load()
    return tuple(kind.env) if isinstance(kind, type) and issubclass(kind, Provider) else ()
