"""What can be wrong: with the command and its file as a whole, or with one line of it."""

from __future__ import annotations

from agent_tracking.cli.output import printable

__all__ = ["BadInput", "BadLine", "quoted"]


class BadInput(Exception):
    """The import cannot begin or go on as asked; the text is one line for people: what, where, what to do."""


class BadLine(Exception):
    """One line can't become a record: it is counted and listed, the others are imported."""


def quoted(value: object, most: int = 40) -> str:
    """Return a value of the file as short text in quotes, safe to print."""
    text = value if isinstance(value, str) else repr(value)
    return f"'{printable(text[:most])}{'…' if len(text) > most else ''}'"
