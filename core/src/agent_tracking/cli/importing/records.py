"""From a row to the arguments of ``track()`` or ``identify()``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha1
from typing import Any
from uuid import UUID

import orjson

from agent_tracking.cli.importing.mapping import Choices
from agent_tracking.cli.importing.problems import BadInput, BadLine, quoted
from agent_tracking.cli.importing.times import clock
from agent_tracking.names import clean_id, clean_name

__all__ = ["Maker", "Record", "derived_id"]

#: The arguments of one call: the name (``None``: an identity), the data, user id, anonymous id, session id,
#: seconds since 1970, message id. A tuple because a million of them are made.
Record = tuple["str | None", dict[str, Any], "str | int | None", "str | None", "str | None", float, str]

#: uuid5(NAMESPACE_URL, "agent_tracking:import")
_NAMESPACE = UUID("e50dc555-d9f9-522d-87f5-67629bdafb95").bytes

_IDENTIFY = ("identify", "$identify")  # a tuple: what is looked for may be a list
#: Calls of Segment's spec that have no counterpart here.
_OTHERS = frozenset({"page", "screen", "group", "alias"})
#: What stands beside the properties in a call of Segment's spec and is not one of them:
#: https://segment.com/docs/connections/spec/common/
_ENVELOPE = frozenset(
    {
        "_metadata", "channel", "context", "integrations", "originalTimestamp", "projectId", "receivedAt",
        "sentAt", "version", "writeKey",
    }
)  # fmt: skip
#: Cells that are numbers: not 007, not +1, nothing with more digits than a float keeps.
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})\.[0-9]{1,15}")
_MAYBE_NUMBER = frozenset("-0123456789")
_WORDS = {"true": True, "false": False}
#: An ``id`` like this may only count the rows of its file, and another file's rows as well.
_DIGITS = re.compile(r"[0-9]+")


class Maker:
    """Makes the record of each row.

    Args:
        choices: what the options say.
        mtime: when the file was changed last, in seconds since 1970: the time of identities without one.
        header: the columns of a CSV file; ``None`` for JSON lines.
        ignored: counts what stands beside ``properties`` and is not sent, if it is to be counted.
    """

    def __init__(
        self,
        choices: Choices,
        mtime: float,
        header: list[str] | None = None,
        ignored: Counter[str] | None = None,
    ) -> None:
        self._mtime = mtime
        self._cells = header is not None
        self._ignored = ignored
        self._time = clock(choices.time_form)
        self._fixed_name = choices.name
        self._identities = choices.identities
        self._each_line = choices.each_line
        self._typed = not choices.text
        self._names = () if choices.name else choices.keys("name")
        self._users = choices.keys("user_id")
        self._anonymous = choices.keys("anonymous_id")
        self._sessions = choices.keys("session_id")
        self._times = choices.keys("timestamp")
        self._ids = choices.keys("message_id")
        self._data = choices.keys("properties")
        self._types = choices.keys("type")
        self._types_mapped = "type" in choices.columns
        self._loose_id = "message_id" not in choices.columns
        #: What identical rows must share for being one event, beside their bytes.
        same = orjson.dumps([choices.name, choices.identities, header])
        self._seed = _NAMESPACE + same + b"\n"
        self.unseen = set(choices.columns.values())
        if header is not None:
            self._check_header(choices, header)

    def _check_header(self, choices: Choices, header: list[str]) -> None:
        there = ", ".join(map(quoted, header[:20])) + ("..." if len(header) > 20 else "")
        doubles = [name for name, count in Counter(filter(None, header)).items() if count > 1]
        if doubles:
            raise BadInput(f"two columns are called {quoted(doubles[0])}")
        for target, column in choices.columns.items():
            if column not in header:
                raise BadInput(f"--map {target}={column}: there is no such column; there are {there}")
        if self._identities:
            wanted: tuple[tuple[str, Iterable[str], str], ...] = (
                ("user id", self._users, "--map user_id=COLUMN"),
            )
        elif set(self._types) & set(header):  # identities need no name, and may need no time
            wanted = ()
        else:
            wanted = (
                ("event's name", () if choices.name else self._names, "--map name=COLUMN or --name NAME"),
                ("time", self._times, "--map timestamp=COLUMN"),
            )
        for what, keys, option in wanted:
            if keys and not set(keys) & set(header):
                raise BadInput(f"no column is the {what}: say which by {option}; there are {there}")

    def record(self, row: dict[str, Any], raw: bytes, line: int) -> Record:
        """Return the record of a row, which is used up; raises ``BadLine``.

        Args:
            row: the object of a JSON line, or the cells of CSV by column.
            raw: the row as it stands in the file, which its id is made of.
            line: its number.
        """
        if self.unseen:
            self.unseen.difference_update(row)
        identity, typed = (True, False) if self._identities else self._kind(row)
        name = self._fixed_name
        if identity:  # the column "name" of a table of people is one of their traits
            if row.get("event") in _IDENTIFY:
                del row["event"]
        elif name is None and (name := _take(row, self._names)) == "$identify":
            identity = True
        message_id = _take(row, self._ids)
        if message_id is None and self._loose_id:
            message_id = _loose_id(row)
        user_id = _id(_take(row, self._users), "user id")
        anonymous_id = _id(_take(row, self._anonymous), "anonymous id")
        session_id = _id(_take(row, self._sessions), "session id")
        seconds = self._seconds(row, identity)
        if identity:
            name = None
            if clean_id(user_id) is None:
                raise BadLine("an identity without a user id")
        elif clean_name(name) is None:
            raise BadLine(_no_name(name))
        data = self._data_of(row, typed)
        key = self._derived(raw, line) if message_id is None else str(message_id)
        return name, data, user_id, anonymous_id, session_id, seconds, key

    def _seconds(self, row: dict[str, Any], identity: bool) -> float:
        when = _take(row, self._times)
        if when is not None:
            return self._time(when)
        if identity:
            return self._mtime
        raise BadLine("it has no time: say by --map timestamp=COLUMN where it is")

    def _kind(self, row: dict[str, Any]) -> tuple[bool, bool]:
        """Return whether it is an identity, and whether its type said so or said that it is not."""
        for key in self._types:
            value = row.get(key)
            word = value.lower() if type(value) is str else ""
            if word in _IDENTIFY or word == "track":
                del row[key]
                return word != "track", True
            if value is None or value == "":
                continue
            if self._types_mapped or (word in _OTHERS and not row.get("event")):
                raise BadLine(f"its type {quoted(value)} is neither 'track' nor 'identify'")
        return False, False

    def _data_of(self, row: dict[str, Any], typed: bool) -> dict[str, Any]:
        data = None
        for key in self._data:
            value = row.get(key)
            if type(value) is str and (self._cells or value[:1] == "{"):
                value = _object(key, row.pop(key))
            if type(value) is dict:
                row.pop(key, None)
                data = value if data is None else {**value, **data}
            elif value is None:
                row.pop(key, None)
        if self._cells:
            rest = self._typed_cells(row)
            return rest if data is None else {**rest, **data}
        if data is not None:
            if row and self._ignored is not None:
                self._ignored.update(key for key, value in row.items() if value is not None)
            return data
        if typed:
            for key in _ENVELOPE.intersection(row):
                del row[key]
        return row

    def _typed_cells(self, row: dict[str, Any]) -> dict[str, Any]:
        if not self._typed:
            return {name: cell for name, cell in row.items() if cell and name}
        return {
            name: _typed(cell) if cell[0] in _MAYBE_NUMBER else _WORDS.get(cell, cell)
            for name, cell in row.items()
            if cell and name
        }

    def _derived(self, raw: bytes, line: int) -> str:
        raw = raw.strip()
        return derived_id(self._seed + (b"%d\n%b" % (line, raw) if self._each_line else raw))


def derived_id(content: bytes) -> str:
    """Return the UUIDv5 whose name, with its namespace in front, is ``content``."""
    digest = sha1(content, usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def _take(row: dict[str, Any], keys: Iterable[str]) -> Any:  # noqa: ANN401  whatever the file holds
    """Take the first of these that the row has out of it; ``None`` if that is nothing."""
    for key in keys:
        value = row.get(key)
        if value is not None and value != "":
            del row[key]
            return value
    return None


def _no_name(name: object) -> str:
    if name is None:
        return "it has no event name: say by --map name=COLUMN where it is, or by --name NAME what it is"
    return f"the event name {quoted(name)} is no text"


def _loose_id(row: dict[str, Any]) -> str | None:
    """Take ``id`` if it may be an event's own; a number only counts the rows of its file."""
    value = row.get("id")
    if type(value) is not str or not value or _DIGITS.fullmatch(value):
        return None
    del row["id"]
    return value


def _id(value: Any, what: str) -> Any:  # noqa: ANN401  whatever the file holds
    if value is None or type(value) is str or type(value) is int:
        return value
    raise BadLine(f"the {what} {quoted(value)} is neither text nor a whole number")


def _object(key: str, text: str) -> dict[str, Any] | None:
    """Return the JSON object that a cell holds."""
    if not text:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if type(value) is dict:
        return value
    raise BadLine(f"{key} {quoted(text)} is no JSON object")


def _typed(cell: str) -> str | int | float:
    if _INTEGER.fullmatch(cell):
        return int(cell)
    return float(cell) if _DECIMAL.fullmatch(cell) else cell
