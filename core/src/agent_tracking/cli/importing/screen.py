"""How an import looks: a bar on a terminal, lines elsewhere, and the report in the end."""

from __future__ import annotations

import json
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from agent_tracking.cli.importing.report import Report, Totals
from agent_tracking.cli.output import new_table, printable, show

__all__ = ["Lines", "Moving", "Screen", "Silent", "show_report"]

_EVERY = 2.0  # seconds between two plain lines


class Screen(Protocol):
    """Shows how far the import is."""

    def show(self, lines: int, read: float, trouble: str) -> None:
        """Show this moment: lines settled in this run, bytes of the file up to there, what goes wrong."""

    def close(self) -> None:
        """Show nothing any more."""


class Silent:
    """Shows nothing: for ``--json``."""

    def show(self, lines: int, read: float, trouble: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """A line every two seconds, where there is no terminal."""

    def __init__(self, out: Console, began: int, size: int | None) -> None:
        self._out, self._began, self._size = out, began, size
        self._started = monotonic()
        self._next = _EVERY  # but the first lines are told at once
        self._told = False
        self._trouble = ""

    def show(self, lines: int, read: float, trouble: str) -> None:
        """Print a line, if it is time or something new goes wrong."""
        passed = monotonic() - self._started
        early = passed < self._next and (self._told or not lines)
        if early and (not trouble or trouble == self._trouble):
            return
        self._next, self._trouble, self._told = passed + _EVERY, trouble, bool(lines)
        rate = lines / passed if passed else 0.0
        parts = [f"{passed:6.1f} s", f"{lines:,} lines", f"{rate:,.0f}/s"]
        if self._size:
            done = read - self._began
            parts.insert(1, f"{100 * read / self._size:3.0f} %")
            if done > 0:
                parts.append(f"{_clock(passed * (self._size - read) / done)} left")
        if trouble:
            parts.append(f"({printable(trouble)})")
        self._out.print("  ".join(parts), soft_wrap=True)

    def close(self) -> None:
        """Do nothing."""


class Moving:
    """A bar with the rate and the time left, which is gone in the end."""

    def __init__(self, out: Console, began: int, size: int | None) -> None:
        self._out = out
        self._started = monotonic()
        self._trouble = ""
        self._progress = Progress(
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=False),
            console=out,
            transient=True,
            expand=True,
            refresh_per_second=8,
        )
        self._task = self._progress.add_task("", total=size, completed=began, figures="")
        self._progress.start()

    def show(self, lines: int, read: float, trouble: str) -> None:
        """Move the bar; what goes wrong is written above it, once."""
        passed = monotonic() - self._started
        figures = f"{lines:,} lines, {lines / passed if passed else 0:,.0f}/s"
        self._progress.update(self._task, completed=read, figures=figures)
        if trouble and trouble != self._trouble:
            self._trouble = trouble
            self._progress.print(Text(f"! {printable(trouble)}", style="yellow"))

    def close(self) -> None:
        """Remove the bar."""
        self._progress.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def show_report(out: Console, report: Report) -> None:
    """Print what came of it; the verdict last."""
    totals = report.totals
    for record in report.records:
        out.print(json.dumps(record, ensure_ascii=False, indent=2), soft_wrap=True)
    if report.records:
        out.print()
    if totals.providers and not report.dry_run:
        _show_providers(out, totals)
    for each in totals.problems:
        out.print(Text(f"! line {each.line:,}: {printable(each.problem)}", style="yellow"), soft_wrap=True)
    if totals.wrong > len(totals.problems):
        more = totals.wrong - len(totals.problems)
        out.print(Text(f"! and {more:,} more that are no records", style="yellow"), soft_wrap=True)
    for note in _notes(report):
        out.print(Text(note, style="dim"), soft_wrap=True)
    for line in report.log:
        out.print(Text(f"log: {printable(line)}", style="dim"), soft_wrap=True)
    style = "bold green" if report.ok else "bold red"
    for line in _verdict(report):
        out.print(Text(line, style=style), soft_wrap=True)


def _show_providers(out: Console, totals: Totals) -> None:
    table = new_table(out)
    table.add_column("provider", style="bold" if out.is_terminal else "", no_wrap=True)
    for title in ("delivered", "retried"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("refused")
    for name, each in totals.providers.items():
        refused = ", ".join(f"{reason}: {count:,}" for reason, count in each.refused.items())
        table.add_row(printable(name), f"{each.delivered:,}", f"{each.retried:,}", printable(refused) or "0")
    show(out, table)


def _notes(report: Report) -> list[str]:
    totals, notes = report.totals, []
    if totals.repeated:
        notes.append(
            f"{totals.repeated:,} rows have the id of a row close before them, and count once with it"
            " (--each-line tells identical lines apart)"
        )
    if totals.changed:
        notes.append(f"{totals.changed:,} records held something that could not be sent as it was")
    if totals.nobody:
        notes.append(f"{totals.nobody:,} events are nobody's: without a user id and an anonymous id")
    if report.ignored:
        keys = ", ".join(f"{printable(key)} ({count:,})" for key, count in report.ignored.items())
        notes.append(f"not sent, as it stands beside the properties: {keys}")
    return notes


def _verdict(report: Report) -> list[str]:
    totals = report.totals
    what = f"{_many(totals.events, 'event')} and {_many(totals.identities, 'identity', 'identities')}"
    mark = "✓" if report.ok else "✗"
    wrong = f", {totals.wrong:,} of them wrong" if totals.wrong else ""
    lines = f"{_many(totals.lines, 'line')}{wrong}"
    names = ", ".join(totals.providers)
    if report.dry_run:
        to = f"would go to {names}" if names else "would go nowhere: no provider is active"
        return [f"{mark} {lines}: {what} {to}; nothing was sent"]
    if report.stopped:
        on = "the same command goes on from there" if report.state else "begin again: ids stay the same"
        return [
            f"✗ {printable(report.stopped)}",
            f"✗ up to line {totals.lines:,} everything is settled: {what}; {on}",
        ]
    refused = totals.refused()
    but = f", but {_many(refused, 'delivery was', 'deliveries were')} refused" if refused else ""
    took = f"{report.seconds:.1f} s, {report.rate:,} lines/s"
    return [f"{mark} {lines}: {what} delivered to {names}{but} ({took})"]


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"
