"""Which column is what: from the options to a function that makes records of rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import msgspec

from agent_tracking.cli.importing.problems import BadInput, quoted
from agent_tracking.cli.importing.times import FORMATS

__all__ = ["TARGETS", "Choices", "parse_maps"]

#: What a column can be, and the names by which it is found when no ``--map`` names it.
TARGETS: Mapping[str, tuple[str, ...]] = {
    "name": ("event", "name"),
    "user_id": ("user_id", "userId"),
    "anonymous_id": ("anonymous_id", "anonymousId"),
    "session_id": ("session_id", "sessionId"),
    "timestamp": ("timestamp",),
    "message_id": ("message_id", "messageId"),
    "properties": ("properties", "traits"),
    "type": ("type",),
}
_ALIASES = {"event": "name", "traits": "properties", "id": "message_id", "time": "timestamp"}
_FORM = re.compile(rf"(.+?):({'|'.join(FORMATS)}|%.*)", re.DOTALL)


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen by options, as far as it changes the records.

    Attributes:
        columns: the column of each target that ``--map`` names.
        time_form: the form of the times, as :func:`agent_tracking.cli.importing.times.clock` takes it.
        name: the name of every event. identities: every line is an identity.
        each_line: identical lines are different events. text: cells of CSV stay text.
    """

    columns: dict[str, str] = {}
    time_form: str | None = None
    name: str | None = None
    identities: bool = False
    each_line: bool = False
    text: bool = False

    def keys(self, target: str) -> tuple[str, ...]:
        """Return the columns that a target is looked for in, in this order."""
        chosen = self.columns.get(target)
        return TARGETS[target] if chosen is None else (chosen,)


def parse_maps(given: Sequence[str]) -> tuple[dict[str, str], str | None]:
    """Return the columns and the form of times of ``--map TARGET=COLUMN[:FORM]``.

    >>> parse_maps(["name=event", "timestamp=ts:unix_ms"])
    ({'name': 'event', 'timestamp': 'ts'}, 'unix_ms')
    """
    columns: dict[str, str] = {}
    form = None
    for text in given:
        word, equals, column = text.partition("=")
        target = _ALIASES.get(word.strip(), word.strip())
        if not equals or not column:
            raise BadInput(f"--map {quoted(text)}: write it as TARGET=COLUMN, e.g. --map user_id=uid")
        if target not in TARGETS:
            close = get_close_matches(target, [*TARGETS, *_ALIASES], 1)
            hint = f"{close[0]!r} is meant?" if close else f"there are {', '.join(TARGETS)}"
            raise BadInput(f"--map {quoted(text)}: there is no {quoted(target)}: {hint}")
        if target in columns:
            raise BadInput(f"--map {quoted(text)}: {target} has a column already, {quoted(columns[target])}")
        if target == "timestamp" and (found := _FORM.fullmatch(column)):
            column, form = found[1], found[2]
        columns[target] = column
    return columns, form
