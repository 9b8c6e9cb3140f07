"""Rows, in chunks of records: JSON lines, and CSV whose rows may go over several lines."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import orjson

from agent_tracking.cli.importing.files import TOO_LONG, Input, Lines
from agent_tracking.cli.importing.problems import BadInput, BadLine, quoted
from agent_tracking.cli.importing.records import Maker, Record

__all__ = ["CHUNK_BYTES", "CHUNK_RECORDS", "Chunk", "chunks", "csv_rows", "json_rows", "read_header"]

#: How much is on its way at once: all of it is settled before anything after it is sent.
CHUNK_RECORDS, CHUNK_BYTES = 10_000, 16 * 1024 * 1024
#: The most problems of one chunk that are kept word by word.
_LISTED = 20
#: The most bytes of a CSV cell.
_CELL = 2 * 1024 * 1024
#: The delimiters that a header may have, beside the comma.
_OTHERS = "\t;|"

#: The line where a row begins, its bytes, and its cells, or why there are none.
Row = tuple[int, bytes, "dict[str, Any] | str"]


class Chunk(msgspec.Struct):
    """Records that are sent, settled and written down together.

    Attributes:
        records: by message id.
        position, line: where the rows end: bytes of the stream, lines.
        read: how far into the file that is, in its own bytes.
        rows: how many rows there were. wrong: how many of them are no record.
        problems: the first of these: line and text.
        repeated: rows whose id another row of the chunk has.
        nobody: events without any id.
        broken: why the input ended here although it goes on.
    """

    records: dict[str, Record] = {}
    position: int = 0
    line: int = 0
    read: int = 0
    rows: int = 0
    wrong: int = 0
    problems: list[tuple[int, str]] = []
    repeated: int = 0
    nobody: int = 0
    broken: str = ""

    @property
    def identities(self) -> int:
        """How many of the records are identities."""
        return sum(1 for record in self.records.values() if record[0] is None)


def chunks(rows: Iterator[Row], maker: Maker, lines: Lines, source: Input, *, first: bool) -> Iterator[Chunk]:
    """Yield everything that is left of the input; at least one chunk.

    Args:
        rows: what is left.
        maker: makes their records.
        lines: where the rows come from.
        source: where the lines come from.
        first: the input was not begun before: raise ``BadInput`` if the options do not fit its beginning.
    """
    last = False
    while not last:
        chunk = Chunk()
        size = 0
        last = True
        for line, raw, row in rows:
            chunk.rows += 1
            size += len(raw)
            try:
                if type(row) is str:
                    raise BadLine(row)
                record = maker.record(row, raw, line)  # type: ignore[arg-type]
            except BadLine as problem:
                chunk.wrong += 1
                if len(chunk.problems) < _LISTED:
                    chunk.problems.append((line, str(problem)))
            else:
                chunk.records[record[6]] = record
                chunk.nobody += record[2] is None and record[3] is None
            if chunk.rows >= CHUNK_RECORDS or size >= CHUNK_BYTES:
                last = False
                break
        chunk.repeated = chunk.rows - chunk.wrong - len(chunk.records)
        chunk.position, chunk.line = lines.position, lines.number
        chunk.read = source.read_bytes()
        chunk.broken = lines.broken
        if first:
            _check(chunk, maker)
            first = False
        yield chunk


def _check(chunk: Chunk, maker: Maker) -> None:
    """Raise if the rows at the beginning of an input are not what the options say."""
    if not chunk.rows:
        return
    rows = "the only row" if chunk.rows == 1 else f"any of the first {chunk.rows:,} rows"
    if maker.unseen:
        raise BadInput(f"--map: {quoted(min(maker.unseen))} is not in {rows}")
    if not chunk.records:
        line, problem = chunk.problems[0]
        raise BadInput(f"no record is in {rows}: line {line:,}: {problem}")


def json_rows(lines: Lines) -> Iterator[Row]:
    """Yield the rows of JSON lines."""
    loads = orjson.loads
    for raw in lines:
        if not raw or raw.isspace():
            continue
        try:
            row: Any = loads(raw)
        except orjson.JSONDecodeError as error:
            yield lines.number, raw, _no_json(raw, error)
            continue
        yield lines.number, raw, row if type(row) is dict else _no_object(row)


def _no_json(raw: bytes, error: orjson.JSONDecodeError) -> str:
    if raw is TOO_LONG:
        return "it is too long"
    if raw.strip() == b"[":
        return _no_object([])
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "it is not UTF-8"
    return f"no JSON: {error.msg} at column {error.colno}"


def _no_object(row: object) -> str:
    if type(row) is list:
        return "a JSON array, not an object in each line: jq -c '.[]' FILE > FILE.jsonl makes these"
    return f"a JSON {'text' if type(row) is str else 'value'}, not an object"


def read_header(lines: Lines) -> tuple[list[str], str]:
    """Return the columns of a CSV file and what is between them; takes one line."""
    raw = next(iter(lines), b"")
    try:
        text = raw.decode().rstrip("\r")
    except UnicodeDecodeError:
        raise BadInput("its first line is not UTF-8: convert it, e.g. iconv -f latin1 -t utf-8") from None
    if raw is TOO_LONG or not text.strip():
        raise BadInput("its first line names no columns")
    with suppress(csv.Error):
        found = {delimiter: next(csv.reader([text], delimiter=delimiter)) for delimiter in f",{_OTHERS}"}
        best = "," if len(found[","]) > 1 else max(found, key=lambda delimiter: len(found[delimiter]))
        return [name.strip() for name in found[best]], best
    raise BadInput("its first line can't be read as CSV")


def csv_rows(lines: Lines, header: list[str], delimiter: str) -> Iterator[Row]:
    """Yield the rows of CSV behind the header."""
    csv.field_size_limit(_CELL)
    taken: list[bytes] = []
    flaws: list[str] = []
    rows = csv.reader(_decoded(lines, taken, flaws), delimiter=delimiter, strict=True)
    width = len(header)
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            flaws.append(f"no CSV: {error}")
            cells = []
        raw = taken[0] if len(taken) == 1 else b"\n".join(taken)
        first = lines.number - len(taken) + 1
        taken.clear()
        if flaws:
            yield first, raw, flaws[0]
            flaws.clear()
        elif len(cells) == width:
            yield first, raw, dict(zip(header, cells, strict=True))
        elif cells:
            yield first, raw, f"it has {len(cells)} cells, the header has {width}"


def _decoded(lines: Lines, taken: list[bytes], flaws: list[str]) -> Iterator[str]:
    """Yield the lines as text; their bytes go to ``taken``, what is wrong with one to ``flaws``."""
    for raw in lines:
        taken.append(raw)
        if raw is TOO_LONG:
            flaws.append("it is too long")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            flaws.append("it is not UTF-8")
            text = raw.decode(errors="replace")
        yield text + "\n"
