"""What processors cost on the dispatcher's thread: microseconds a record, and beside a record without any.

    python -m benchmarks.processors

Each line is the least CPU time of one thread over many rounds, in which all lines take turns: other work on the
machine makes a round slower, never faster. A record is the event of :mod:`benchmarks.event`, from the intake's
text to what the lanes get.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from agent_tracking.events import Record
from agent_tracking.names import IdPrefix
from agent_tracking.prepare import prepare
from agent_tracking.processors import allow, consent, enrich, hash_ids, redact, route, sample
from agent_tracking.processors.pipeline import Pipeline
from agent_tracking.snapshot import EVENT, OPTIONS, dumps
from benchmarks.event import NAME, PROPERTIES, USER

ROUNDS, RECORDS = 300, 100
EVERYTHING = [
    consent(lambda _record: True),
    allow("meal.*"),
    sample(1),
    enrich({"service": "checkout"}),
    redact(),
    hash_ids(key="k" * 32),
    route("other", never=["webhook"]),
]
LINES: dict[str, tuple[Sequence[Callable[[Record], Record | None]], dict[str, object]]] = {
    "no processor": ([], PROPERTIES),
    "a function that returns its record": ([lambda record: record], PROPERTIES),
    "allow": ([allow("meal.*")], PROPERTIES),
    "route": ([route("meal.*", never=["webhook"])], PROPERTIES),
    "consent, known": ([consent(lambda _record: True)], PROPERTIES),
    "sample": ([sample(1)], PROPERTIES),
    "hash_ids": ([hash_ids(key="k" * 32)], PROPERTIES),
    "enrich": ([enrich({"service": "checkout"})], PROPERTIES),
    "redact, nothing found": ([redact()], PROPERTIES),
    "redact, an address found": ([redact()], {**PROPERTIES, "email": "a@example.com"}),
    "all seven": (EVERYTHING, PROPERTIES),
    "all seven, an address found": (EVERYTHING, {**PROPERTIES, "email": "a@example.com"}),
}


def entry_of(properties: dict[str, object]) -> bytes:
    """Return what ``track()`` puts into the intake."""
    return dumps((EVENT, 1, time.time(), NAME, properties, USER, None, None, None, None), None, OPTIONS)


def seconds(pipeline: Pipeline, entry: bytes, ids: IdPrefix) -> float:
    """Return the CPU time of one record."""
    began = time.thread_time()
    for _ in range(RECORDS):
        record, _changed = prepare(entry, ids)
        if pipeline.processors and not isinstance(record, str):
            pipeline.run(record)
    return (time.thread_time() - began) / RECORDS


def main() -> None:
    """Print the table."""
    ids = IdPrefix()
    made = {
        name: (Pipeline(processors, print), entry_of(properties))
        for name, (processors, properties) in LINES.items()
    }
    least = dict.fromkeys(made, 1.0)
    for _ in range(ROUNDS):
        for name, (pipeline, entry) in made.items():
            least[name] = min(least[name], seconds(pipeline, entry, ids))
    none = least["no processor"]
    print(f"| a record of {len(made['no processor'][1])} bytes with | µs | beside none |\n|---|---|---|")
    for name, taken in least.items():
        print(f"| {name} | {taken * 1e6:.1f} | {taken / none:.1f} |")


if __name__ == "__main__":
    main()
