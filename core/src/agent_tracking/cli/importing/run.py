"""One import from its first chunk to its last: started, settled, written down, and so on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from agent_tracking.cli.importing.delivery import Delivery, Settled
from agent_tracking.cli.importing.report import LISTED, Problem, ProviderTotals, Totals
from agent_tracking.cli.importing.rows import Chunk

__all__ = ["Progress", "run"]


class Progress(msgspec.Struct):
    """How far the import is: what is settled.

    Attributes:
        totals: counted from the beginning of the file on.
        position: bytes of the decompressed input. read: bytes of the file.
    """

    totals: Totals
    position: int = 0
    read: int = 0


def run(
    chunks: Iterator[Chunk],
    delivery: Delivery,
    progress: Progress,
    settled: Callable[[Chunk], None],
    tick: Callable[[float, float, str], None],
) -> str:
    """Deliver chunk by chunk; while one is on its way, the next one is read.

    Args:
        chunks: what is left of the input.
        delivery: where it goes.
        progress: brought up to date after every chunk.
        settled: called then, with the chunk.
        tick: called several times a second: lines and bytes of the file beyond those of ``progress``
            that are settled, about, and what troubles a provider.

    Returns:
        Why it ended before the end of the input; empty if it did not.
    """
    chunk: Chunk | None = next(chunks)
    while chunk is not None:
        lines, read = chunk.line - progress.totals.lines, chunk.read - progress.read
        delivery.start(chunk)
        following = next(chunks, None)
        result = delivery.settle(lambda part, trouble: tick(part * lines, part * read, trouble))  # noqa: B023
        if result.lost:
            return result.lost
        _add(progress, chunk, result)
        settled(chunk)
        tick(0, 0, "")
        if chunk.broken:
            return f"behind line {chunk.line:,} the file can't be read: {chunk.broken}"
        if delivery.asked() and following is not None:
            return "interrupted"
        chunk = following
    return ""


def _add(progress: Progress, chunk: Chunk, result: Settled) -> None:
    totals = progress.totals
    identities = chunk.identities
    totals.lines = chunk.line
    totals.events += len(chunk.records) - identities
    totals.identities += identities
    totals.wrong += chunk.wrong
    totals.problems += [Problem(*each) for each in chunk.problems[: LISTED - len(totals.problems)]]
    totals.repeated += chunk.repeated
    totals.changed += result.changed
    totals.nobody += chunk.nobody
    for name, delivered in result.delivered.items():
        provider = totals.providers.setdefault(name, ProviderTotals())
        provider.delivered += delivered
        provider.retried += result.retried[name]
        for reason, count in result.refused[name].items():
            provider.refused[reason] = provider.refused.get(reason, 0) + count
    progress.position, progress.read = chunk.position, chunk.read
