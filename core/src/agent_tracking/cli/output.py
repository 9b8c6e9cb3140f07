"""What the commands print on: colours and boxes on a terminal, one plain line for each row elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan
from typing import Any

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["Refused", "Seconds", "ago", "console", "held_log", "new_table", "printable", "show", "to_json"]

#: Columns of what is written to a pipe or a file: there a row is a line, however long.
_WIDE = 10_000


class Refused(click.ClickException):
    """One line on standard error, and an exit status of 2: what was asked for makes no sense."""

    exit_code = 2


class Seconds(click.FloatRange):
    """A range of seconds, which ``nan`` is never in."""

    name = "number of seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401  click's own
        """Return the number."""
        seconds: float = super().convert(value, param, ctx)
        if isnan(seconds):
            self.fail(f"{value!r} is not a valid {self.name}.", param, ctx)
        return seconds


def console() -> Console:
    """Return standard output; text on it is never read as markup."""
    out = Console(highlight=False, markup=False, emoji=False)
    if not out.is_terminal and not os.environ.get("COLUMNS"):
        out = Console(highlight=False, markup=False, emoji=False, width=_WIDE)
    return out


def new_table(out: Console) -> Table:
    """Return an empty table in the one style of all commands."""
    if out.is_terminal:
        return Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    return Table(box=None, header_style="", pad_edge=False, padding=(0, 2, 0, 0))


def show(out: Console, table: Table) -> None:
    """Print a table; without a terminal no line ends in blanks, and an empty one follows."""
    if out.is_terminal:
        out.print(table)
        return
    with out.capture() as captured:
        out.print(table)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    out.file.write("\n".join([*lines, "", ""]))


def printable(text: str) -> str:
    """Return ``text`` without control characters: names and versions are anybody's metadata."""
    return "".join(char if char.isprintable() else "?" for char in text)


def to_json(data: object) -> str:
    """Return ``data`` as the JSON text that a command prints with ``--json``."""
    return msgspec.json.format(msgspec.json.encode(data), indent=2).decode()


def ago(seconds: float) -> str:
    """Return a length of time in the largest unit that fits.

    >>> ago(0.4), ago(75), ago(7300), ago(200000)
    ('0 s', '1 min', '2 h', '2 d')
    """
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(0.0, seconds))} s"


class _Holder(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def held_log() -> Iterator[list[logging.LogRecord]]:
    """Keep what agent_tracking logs, to be shown in its place, rather than between the lines of a table."""
    logger = logging.getLogger("agent_tracking")
    holder, propagate = _Holder(), logger.propagate
    logger.addHandler(holder)
    logger.propagate = False
    try:
        yield holder.records
    finally:
        logger.removeHandler(holder)
        logger.propagate = propagate
