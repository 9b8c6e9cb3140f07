"""What an import did: as data, so that it can be shown, printed and carried on."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Problem", "ProviderTotals", "Report", "Totals"]

#: The most problems that are listed.
LISTED = 10


class Problem(msgspec.Struct, frozen=True):
    """One line that is no record, and why."""

    line: int
    problem: str


class ProviderTotals(msgspec.Struct):
    """One provider: records that its backend took, sent once more, and refused, by reason."""

    delivered: int = 0
    retried: int = 0
    refused: dict[str, int] = msgspec.field(default_factory=dict)


class Totals(msgspec.Struct):
    """What was counted, from the beginning of the file on, whoever read it.

    Attributes:
        lines: lines read. events, identities: records that were settled.
        wrong: rows that are no record; problems: the first of them.
        repeated: rows left out because a row close to them has the same id.
        changed: records in which something could not be sent as it was.
        nobody: events without any id.
        providers: by name.
    """

    lines: int = 0
    events: int = 0
    identities: int = 0
    wrong: int = 0
    problems: list[Problem] = msgspec.field(default_factory=list)
    repeated: int = 0
    changed: int = 0
    nobody: int = 0
    providers: dict[str, ProviderTotals] = msgspec.field(default_factory=dict)

    def refused(self) -> int:
        """How many deliveries the backends refused."""
        return sum(sum(each.refused.values()) for each in self.providers.values())


class Report(msgspec.Struct, kw_only=True):
    """Everything that is shown in the end.

    Attributes:
        ok: everything was delivered, and no line was wrong.
        file, format: the input. dry_run: nothing was sent.
        totals: see :class:`Totals`.
        began_at: the line after which this run began; 0 for the first one.
        seconds, rate: of this run; lines a second.
        stopped: why it ended before the end of the input; empty if it did not.
        state: the file by which the same command goes on; empty if there is nothing to go on with.
        records: the first records as they would be sent, of a dry run.
        ignored: of a dry run: what stands beside ``properties`` and is not sent, and how often.
        log: what was logged meanwhile.
    """

    ok: bool
    file: str
    format: str
    dry_run: bool
    totals: Totals
    began_at: int
    seconds: float
    rate: int
    stopped: str = ""
    state: str = ""
    records: list[dict[str, Any]] = []
    ignored: dict[str, int] = {}
    log: list[str] = []
