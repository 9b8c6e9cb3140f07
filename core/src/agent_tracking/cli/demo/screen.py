"""How the demo looks: a live table on a terminal, lines elsewhere, and the report in the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import monotonic
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from agent_tracking.cli.demo.report import Outcome, Report
from agent_tracking.cli.demo.samples import Sample
from agent_tracking.cli.demo.watch import Outage, Watch
from agent_tracking.cli.output import new_table, show
from agent_tracking.counters import ProviderStats, Stats

__all__ = ["Lines", "Moving", "Screen", "Silent", "show_report"]

_FIGURES = 61  # columns that the table takes beside the bar
_EVERY = 0.5  # seconds between two plain lines


class Screen(Protocol):
    """Shows how far the demo is."""

    def show(self, stats: Stats, outage: Outage) -> None:
        """Show this moment."""

    def close(self) -> None:
        """Show nothing any more."""


class Silent:
    """Shows nothing: for ``--json``."""

    def show(self, stats: Stats, outage: Outage) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """A line twice a second, where there is no terminal."""

    def __init__(self, out: Console, watch: Watch, total: int) -> None:
        self._out, self._watch, self._total = out, watch, total
        self._started = monotonic()
        self._next = 0.0
        self._said = ""

    def show(self, stats: Stats, outage: Outage) -> None:
        """Print a line, if it is time and there is news."""
        passed = monotonic() - self._started
        delivered = {name: each.delivered for name, each in _lanes(stats, self._watch).items()}
        counts = "  ".join(f"{name} {count}" for name, count in delivered.items())
        down = f"  ({outage.provider} answers 503)" if outage.now else ""
        text = f"tracked {stats.tracked} of {self._total}, delivered: {counts}{down}"
        if passed >= self._next and text != self._said:
            self._out.print(f"{passed:4.1f} s  {text}")
            self._next, self._said = passed + _EVERY, text

    def close(self) -> None:
        """Do nothing."""


class Moving:
    """A table that is drawn anew eight times a second, and is gone in the end."""

    def __init__(self, out: Console, watch: Watch, total: int) -> None:
        self._out, self._watch, self._total = out, watch, total
        self._live = Live(console=out, auto_refresh=False, transient=True)
        self._live.start()

    def show(self, stats: Stats, outage: Outage) -> None:
        """Draw the table of this moment."""
        self._live.update(Group(self._head(stats, outage), self._table(stats)), refresh=True)

    def close(self) -> None:
        """Remove the table."""
        self._live.stop()

    def _head(self, stats: Stats, outage: Outage) -> Text:
        text = Text.assemble(
            ("tracked ", "dim"), (f"{stats.tracked:,}", "bold"), (f" of {self._total:,}", "dim")
        )
        if outage.now:
            text.append(f"   {outage.provider} answers 503: the others go on", style="yellow")
        elif outage.over:
            text.append(f"   {outage.provider} answers again", style="green")
        return text

    def _table(self, stats: Stats) -> Table:
        table = new_table(self._out)
        width = max(4, min(40, self._out.width - _FIGURES))
        table.add_column("provider", style="bold", no_wrap=True)
        table.add_column("", no_wrap=True)
        for title in ("queued", "requests", "delivered", "retried", "dropped"):
            table.add_column(title, justify="right", no_wrap=True)
        for name, lane in _lanes(stats, self._watch).items():
            seen = self._watch.providers[name]
            troubled = lane.waiting > 0 and seen.troubled
            dropped = sum(lane.dropped.values())
            table.add_row(
                name,
                _bar(lane.delivered, self._total, width, "yellow" if troubled else "green"),
                f"{lane.waiting:,}",
                f"{seen.sent:,}",
                f"{lane.delivered:,}",
                Text(f"{lane.retried:,}", style="yellow" if lane.retried else "dim"),
                Text(f"{dropped:,}", style="red" if dropped else "dim"),
            )
        return table


def _lanes(stats: Stats, watch: Watch) -> Mapping[str, ProviderStats]:
    return {name: stats.providers.get(name, ProviderStats()) for name in watch.providers}


def _bar(done: int, total: int, width: int, style: str) -> Text:
    full = min(width, width * done // max(1, total))
    return Text.assemble(("━" * full, style), ("╌" * (width - full), "bright_black"))


def show_report(out: Console, report: Report) -> None:
    """Print the samples, then the table and the verdict: what matters is what is seen last."""
    for name, outcome in report.providers.items():
        if outcome.sample is not None:
            _show_sample(out, name, outcome.sample)
    show(out, _outcome_table(out, report.providers))
    for line in report.log:
        out.print(Text(f"log: {line}", style="dim"), soft_wrap=True)
    calls = report.calls
    out.print(
        Text.assemble(
            "track(): median ",
            (f"{calls.median_us:g} µs", "bold"),
            ", 99th percentile ",
            (f"{calls.p99_us:g} µs", "bold"),
            f", over {calls.count:,} calls",
        ),
        soft_wrap=True,
    )
    out.print(_verdict(report), soft_wrap=True)


def _show_sample(out: Console, name: str, sample: Sample) -> None:
    title = Text.assemble((name, "bold"), "  ", (sample.request, "cyan"), f"  answered {sample.status}")
    if sample.others:
        title.append(f", {sample.others} more in the same request", style="dim")
    out.print(title, soft_wrap=True)
    for header, value in sample.headers.items():
        out.print(Text(f"{header}: {value}", style="dim"), soft_wrap=True)
    text = json.dumps(sample.body, indent=2, ensure_ascii=False)
    if out.is_terminal:
        out.print(Syntax(text, "json", theme="ansi_dark", background_color="default", word_wrap=True))
    else:
        out.print(text, soft_wrap=True)
    out.print()


def _outcome_table(out: Console, providers: Mapping[str, Outcome]) -> Table:
    table = new_table(out)
    table.add_column("provider", style="bold" if out.is_terminal else "", no_wrap=True)
    for title in ("once", "missing", "twice", "retried", "dropped", "requests", "kB"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, each in providers.items():
        table.add_row(
            name,
            Text(f"{each.once:,}", style="green" if each.ok else "bold red"),
            _bad(each.missing),
            _bad(each.twice),
            Text(f"{each.retried:,}", style="yellow" if each.retried else ""),
            _bad(each.dropped),
            f"{each.requests:,}",
            f"{each.bytes / 1000:,.0f}",
        )
    return table


def _bad(count: int) -> Text:
    return Text(f"{count:,}", style="bold red" if count else "")


def _verdict(report: Report) -> Text:
    total = f"{report.events:,} events and {report.identities:,} identities"
    if report.ok:
        return Text(f"✓ {total} arrived exactly once at all four providers", style="bold green")
    return Text(f"✗ {total}: not all arrived exactly once at all four providers", style="bold red")
