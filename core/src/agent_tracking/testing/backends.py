"""How a backend reads requests and answers them: the seam for backends of your own.

A backend whose bodies are JSON and whose records have an ``id`` needs no code::

    sink.add_backend("acme", Backend(key="id"))

One that wraps its records and answers in its own words::

    def read(incoming):
        return incoming.json()["items"]

    def answer(incoming, reading):
        if incoming.headers.get("x-acme-key") != "k":
            return Answer(401, b"who are you?")
        return Answer.json(202, {"taken": len(reading.records)})

    sink.add_backend("acme", Backend(read=read, key="ref", answer=answer))
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, TypeGuard

import msgspec
import orjson

__all__ = [
    "Answer",
    "Backend",
    "Incoming",
    "Reading",
    "Record",
    "are_records",
    "decompress",
    "digest",
    "json_records",
    "misrouted",
]

#: The most bytes that a compressed body may become.
_INFLATED = 256 * 1024 * 1024
_JSON = {"content-type": "application/json"}
_TEXT = {"content-type": "text/plain; charset=utf-8"}

Record = dict[str, Any]


class Incoming(msgspec.Struct, frozen=True):
    """A request as a backend sees it.

    Args:
        method: ``"POST"``.
        path: behind the backend's prefix and without the query, e.g. ``"/batch/"``.
        query: the last value of each parameter.
        headers: names in lower case.
        body: decompressed.
        raw_size: bytes of the body on the wire.
        problem: why the body could not be decompressed; ``""`` if all is well.
    """

    method: str = "POST"
    path: str = "/"
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    body: bytes = b""
    raw_size: int = 0
    problem: str = ""

    def json(self) -> Any:  # noqa: ANN401  whatever was sent
        """Return the body decoded; raises ``ValueError`` if it is not JSON (``NaN`` is not)."""
        return orjson.loads(self.body)


class Reading(msgspec.Struct):
    """What was found in a body: the records and their deduplication keys, index by index.

    ``problem`` says why nothing could be read; ``envelope`` is what the records were wrapped in.
    """

    records: list[Record] = []
    keys: list[str] = []
    problem: str = ""
    envelope: Any = None


class Answer(msgspec.Struct):
    """An answer, and which records the backend keeps.

    Args:
        status: 0 stands for no answer at all.
        kept: indexes of the records that are kept; ``None`` means all with a 2xx, none otherwise.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = {}
    kept: Sequence[int] | None = None

    @classmethod
    def json(cls, status: int, body: object, *, kept: Sequence[int] | None = None) -> Answer:
        """Return an answer with a JSON body."""
        return cls(status, orjson.dumps(body), _JSON, kept)

    @classmethod
    def text(cls, status: int, body: str = "", *, kept: Sequence[int] | None = None) -> Answer:
        """Return an answer with a plain text body."""
        return cls(status, body.encode(), _TEXT, kept)

    def kept_of(self, count: int) -> Sequence[int]:
        """Return the indexes kept of ``count`` records."""
        if self.kept is None:
            return range(count) if 200 <= self.status < 300 else ()
        return self.kept


def digest(data: bytes) -> str:
    """Return 32 hex digits that are the same for the same bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def decompress(body: bytes, encoding: str) -> tuple[bytes, str]:
    """Undo ``gzip`` or ``deflate``: return the bytes and a problem, of which one is empty."""
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        return b"", f"unsupported content encoding {encoding!r}"
    inflater = zlib.decompressobj(wbits=47)
    try:
        data = inflater.decompress(body, _INFLATED)
    except zlib.error as error:
        return b"", f"failed to decompress: {error}"
    if inflater.unconsumed_tail:
        return b"", "failed to decompress: the body is too large"
    if not inflater.eof:
        return b"", "failed to decompress: the body is cut off"
    return data, ""


def json_records(incoming: Incoming) -> list[Record]:
    """Read a JSON array, a JSON object or, as its content type says, one JSON object per line.

    Raises:
        ValueError: it is none of these.
    """
    if "ndjson" in incoming.headers.get("content-type", ""):
        found: Any = [orjson.loads(line) for line in incoming.body.splitlines() if line.strip()]
    else:
        found = incoming.json()
        if isinstance(found, dict):
            found = [found]
    if not are_records(found):
        raise ValueError("neither a JSON object nor an array of them")
    return found


def are_records(found: Any) -> TypeGuard[list[Record]]:  # noqa: ANN401  any JSON
    """Tell whether ``found`` is an array of objects."""
    return isinstance(found, list) and all(isinstance(record, dict) for record in found)


def misrouted(incoming: Incoming, paths: Container[str]) -> Answer | None:
    """Return 404 for a path that is none of ``paths``, 405 for a method other than ``POST``."""
    if incoming.path.rstrip("/") not in paths:
        return Answer.text(404)
    return None if incoming.method == "POST" else Answer.text(405)


class Backend:
    """A backend's manners; the four built-in ones are subclasses.

    Args:
        read: returns the records in a body; raises ``ValueError`` (or ``KeyError``, ``TypeError``) for
            one that it cannot read. By default a JSON array, an object, or one object per line.
        key: the name of the field that is a record's deduplication key, or a function that returns
            it. A record without one gets a digest of its content.
        answer: returns the answer. By default 200 without a body, or 400 for an unreadable body.
        environ: the variables that point a provider here; ``{url}`` stands for the backend's address.
    """

    #: Also decompress what only looks like gzip.
    sniffs_gzip = False

    def __init__(
        self,
        *,
        read: Callable[[Incoming], Sequence[Record]] = json_records,
        key: str | Callable[[Record], str] = "id",
        answer: Callable[[Incoming, Reading], Answer] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._read = read
        self._key = key
        self._answer = answer
        self._environ = dict(environ or {})

    def read(self, incoming: Incoming) -> Reading:
        """Return the records in a body, also of one that ``answer`` will refuse."""
        if incoming.problem:
            return Reading(problem=incoming.problem)
        try:
            records = list(self._read(incoming))
        except (ValueError, KeyError, TypeError) as error:
            return Reading(problem=f"{type(error).__name__}: {error}")
        return Reading(records, [self.key_of(record) for record in records])

    def key_of(self, record: Record) -> str:
        """Return the record's deduplication key."""
        found = record.get(self._key) if isinstance(self._key, str) else self._key(record)
        return str(found) if found else digest(orjson.dumps(record, option=orjson.OPT_SORT_KEYS))

    def answer(self, incoming: Incoming, reading: Reading) -> Answer:
        """Return the answer to a request that no fault applies to."""
        if self._answer is not None:
            return self._answer(incoming, reading)
        return Answer.text(400, reading.problem) if reading.problem else Answer()

    def canned(self, status: int) -> Answer:
        """Return what this backend says with ``status`` when it means nothing in particular."""
        return Answer(status)

    def unauthorized(self) -> Answer:
        """Return the answer to a key that is not valid."""
        return self.canned(401)

    def too_large(self, limit: int) -> Answer:
        """Return the answer to a body of more than ``limit`` bytes."""
        return Answer.text(413, f"more than {limit} bytes")

    def poisoned(self, incoming: Incoming, reading: Reading, bad: Sequence[int]) -> Answer:  # noqa: ARG002
        """Return the answer to records of which those at ``bad`` can never be taken: here, none is."""
        return Answer.text(400, f"{len(bad)} of {len(reading.records)} records are not valid", kept=())

    def environ(self, url: str) -> dict[str, str]:
        """Return the environment variables that point the provider at ``url``."""
        return {name: value.replace("{url}", url) for name, value in self._environ.items()}
