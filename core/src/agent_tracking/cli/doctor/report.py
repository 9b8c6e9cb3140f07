"""What doctor found, for people and as JSON."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from platform import python_version
from typing import Any

import msgspec
from importlib_metadata import version
from rich.console import Console
from rich.text import Text

from agent_tracking.cli.doctor.findings import Finding, Level
from agent_tracking.cli.doctor.masking import Masker
from agent_tracking.cli.doctor.packages import Import
from agent_tracking.cli.doctor.sending import Sent
from agent_tracking.cli.output import new_table, printable, show, to_json
from agent_tracking.cli.processes import show_processes
from agent_tracking.records import ProviderRecord
from agent_tracking.settings import Settings
from agent_tracking.status import Seen

__all__ = ["Report", "report_json", "show_report"]

_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.PROBLEM: "bold red"}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that doctor found; nothing secret is in it once it went through a ``Masker``."""

    findings: Sequence[Finding]
    settings: Settings
    providers: Sequence[ProviderRecord]
    imports: dict[str, Import]
    processes: Sequence[Seen]
    sent: Sequence[Sent]

    @property
    def problems(self) -> int:
        """How many problems there are."""
        return sum(finding.level is Level.PROBLEM for finding in self.findings)


def report_json(report: Report, masker: Masker) -> str:
    """Return the report as JSON, masked."""
    return to_json(
        {
            "ok": not report.problems,
            "agent_tracking": version("agent-tracking"),
            "python": {"version": python_version(), "executable": sys.executable},
            "platform": platform.platform(),
            "settings": masker.data(report.settings),
            "findings": masker.data(report.findings),
            "providers": masker.data(report.providers),
            "imports": masker.data(report.imports),
            "processes": masker.data(report.processes),
            "sent": masker.data(report.sent),
        }
    )


def show_report(out: Console, report: Report, masker: Masker) -> None:
    """Print the report: problems first."""
    order = list(Level)
    found = sorted(report.findings, key=lambda finding: -order.index(finding.level))
    _show_findings(out, found, masker)
    for sent in report.sent:
        _show_sent(out, sent, masker)
    show_processes(out, report.processes)
    where = f"agent-tracking {version('agent-tracking')}, Python {python_version()}: {sys.executable}"
    out.print(Text(f"{where}, {platform.platform()}", style="dim"), soft_wrap=True)
    notes = sum(finding.level is Level.NOTE for finding in found)
    verdict = f"{report.problems} problem{'s' * (report.problems != 1)}, {notes} note{'s' * (notes != 1)}"
    out.print(Text(verdict, style=_STYLES[Level.PROBLEM if report.problems else Level.OK]), soft_wrap=True)


def _show_findings(out: Console, found: Sequence[Finding], masker: Masker) -> None:
    table = new_table(out)
    table.add_column("level", no_wrap=True)
    table.add_column("check", no_wrap=True)
    table.add_column("where" if not out.is_terminal else "where, what, what to do", overflow="fold")
    if not out.is_terminal:
        table.add_column("what and what to do")
    for finding in found:
        where, what, fix = (
            printable(masker.text(text)) for text in (finding.where, finding.what, finding.fix)
        )
        level = Text(finding.level.value, style=_STYLES[finding.level])
        if out.is_terminal:
            lines = [Text(where, style="bold"), Text(what)] + (
                [Text(f"→ {fix}", style="cyan")] if fix else []
            )
            table.add_row(level, finding.check, Text("\n").join(lines))
        else:
            table.add_row(level, finding.check, where, what + (f"; fix: {fix}" if fix else ""))
    show(out, table)


def _show_sent(out: Console, sent: Sent, masker: Masker) -> None:
    """Print one request as it went over the wire, and the answer."""
    out.print(
        Text(printable(f"{sent.provider}: {sent.method} {sent.url}".rstrip(": ")), style="bold"),
        soft_wrap=True,
    )
    lines = [f"{name}: {value}" for name, value in sent.headers.items()]
    if sent.body is not None:
        lines += ["", *_pretty(sent.body).splitlines()]
    if sent.answer or sent.status is not None:
        lines += ["", f"→ {sent.status or 'no answer'}: {masker.text(sent.answer)}".rstrip(": ")]
    for line in [*lines, f"→ {masker.text(sent.words)}"]:
        out.print(Text(f"  {printable(line)}" if line else ""), soft_wrap=True)
    out.print()


def _pretty(body: Any) -> str:  # noqa: ANN401  any JSON
    return body if isinstance(body, str) else to_json(body)
