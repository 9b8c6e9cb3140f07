"""Checks of running processes by the counters that they write: who drops, hangs or fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent_tracking.cli.doctor.findings import Case, Finding, note, ok, problem
from agent_tracking.cli.output import ago
from agent_tracking.counters import INTENDED, REASONS, ProviderStats
from agent_tracking.delivery.lane import STALLED_SECONDS
from agent_tracking.status import Seen, status_folder

__all__ = ["check_processes"]


def check_processes(case: Case, seen: Sequence[Seen]) -> Iterator[Finding]:
    """Look at every process that runs; those that are gone are only named."""
    folder = status_folder(case.settings)
    if folder is not None and not seen:
        yield note("processes", str(folder), "no running process writes its counters there")
    for each in seen:
        process = each.process
        where = f"{process.program} {process.pid}"
        if each.stale:
            yield note(
                "processes", where, "it has ended without an orderly shutdown, or says nothing any more"
            )
            continue
        found = [
            *_dropping(where, "", process.stats.dropped),
            *(
                finding
                for name, stats in process.stats.providers.items()
                for finding in _provider(where, name, stats, process.updated)
            ),
        ]
        yield from found
        if not found:
            count = sum(stats.delivered for stats in process.stats.providers.values())
            yield ok("processes", where, f"{count} records delivered, nothing lost")


def _provider(where: str, name: str, stats: ProviderStats, now: float) -> Iterator[Finding]:
    yield from _dropping(where, name, stats.dropped)
    if stats.busy is not None and stats.busy > STALLED_SECONDS:
        yield problem(
            "processes",
            where,
            f"{name} hangs: a call or request has been running for {ago(stats.busy)};"
            f" {stats.waiting} records wait",
            "see whether its backend answers; a restart of the process frees the lane",
        )
    if stats.last_error and (stats.last_error_at or 0.0) > (stats.last_success or 0.0):
        since = "never delivered anything"
        if stats.last_success is not None:
            since = f"last delivered {ago(now - stats.last_success)} before"
        yield problem(
            "processes",
            where,
            f"{name} fails: {stats.last_error} ({since}; {stats.waiting} records wait)",
            "agent-tracking doctor --send shows what its backend answers",
        )


def _dropping(where: str, name: str, dropped: dict[str, int]) -> Iterator[Finding]:
    for reason, count in dropped.items():
        if count and reason not in INTENDED:
            meaning = REASONS.get(reason, "the provider's own reason")
            what = f"{count} records were dropped{f' for {name}' if name else ''}: {reason} ({meaning})"
            yield problem("processes", where, what, _FIXES.get(reason, "see the log of agent_tracking"))


_FIXES = {
    "queue-full": "see whether the backend answers; raise AGENT_TRACKING_QUEUE_RECORDS, _QUEUE_BYTES",
    "stopped": "correct the key, then restart the process",
    "no-provider": "set the variables of a provider, or AGENT_TRACKING_DISABLED=1",
    "bad-name": "give track() an event name that is text and not empty",
    "bad-id": "give identify() a real user id",
    "shutdown": "raise AGENT_TRACKING_SHUTDOWN_TIMEOUT, or call flush() before the end",
    "after-shutdown": "call shutdown() last",
    "gave-up": "see whether the backend answers: agent-tracking doctor --send",
    "rejected": "see what the backend refuses: agent-tracking doctor --send, and its own view of errors",
    "too-large": "track less data in one event",
}
