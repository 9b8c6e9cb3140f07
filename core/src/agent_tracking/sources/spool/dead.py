"""Records that were given up, kept for people to look at: refused, too large, or deadly for the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec

from agent_tracking.events import Record
from agent_tracking.names import IdPrefix
from agent_tracking.sources.spool.folder import Folder, file_name
from agent_tracking.sources.spool.lines import decode, encode

__all__ = ["DEAD_BYTES", "DeadLetter", "DeadLetters"]

#: The most bytes of one provider's records that are kept; beyond, the oldest half goes.
DEAD_BYTES = 16 * 1024 * 1024


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One record that was set aside.

    Attributes:
        provider: whose it is.
        reason: why it was given up, one of ``agent_tracking.counters.REASONS`` or the provider's own.
        time: when, in seconds since 1970.
        id: the record's message id.
        text: the record, as it stands in a segment.
    """

    provider: str
    reason: str
    time: float
    id: str
    text: msgspec.Raw

    def record(self) -> Record | None:
        """Return the record; ``None`` if it cannot be read any more."""
        try:
            record = decode(bytes(self.text), IdPrefix())
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return None if isinstance(record, str) else record

    def __repr__(self) -> str:
        return f"<DeadLetter {self.provider!r} {self.id} {self.reason!r}>"


class DeadLetters:
    """The records set aside in a folder: one file for each provider, and one with the older half.

    Args:
        folder: the spool's.
        most: bytes of each provider's.
    """

    def __init__(self, folder: Folder, most: int = DEAD_BYTES) -> None:
        self._folder = folder
        self._most = most

    def add(self, provider: str, record: Record, reason: str) -> int:
        """Keep a record; return how many older ones had to go. ``OSError`` if it cannot be kept."""
        text = encode(record, time.time())
        if text is None:
            return 0
        letter = DeadLetter(
            provider=provider, reason=reason, time=time.time(), id=record.message_id, text=msgspec.Raw(text)
        )
        line = msgspec.json.encode(letter) + b"\n"
        newer, older = self._paths(provider)
        files = self._folder.files
        files.make_folder(self._folder.file("dead"))
        gone = 0
        with self._folder.exclusive():
            try:
                full = files.stat(newer).st_size + len(line) > self._most // 2
            except FileNotFoundError:
                full = False
            if full:
                gone = self._folder.read(older).count(b"\n")
                files.rename(newer, older)
            self._folder.append(newer, line)
        return gone

    def providers(self) -> list[str]:
        """Return the names of the providers that have any."""
        return sorted({letter.provider for letter in self._all()})

    def read(self, provider: str | None = None) -> Iterator[DeadLetter]:
        """Yield what was set aside, by provider, oldest first, each record once."""
        for name in [provider] if provider is not None else self.providers():
            newer, older = self._paths(name)
            found = {letter.id: letter for path in (older, newer) for letter in self._lines(path)}
            yield from sorted(found.values(), key=lambda letter: letter.time)

    def drop(self, provider: str, ids: Collection[str] | None = None) -> int:
        """Forget those with these message ids, or all; return how many that was."""
        gone: set[str] = set()
        with self._folder.exclusive():
            for path in self._paths(provider):
                letters = list(self._lines(path))
                kept = [letter for letter in letters if ids is not None and letter.id not in ids]
                gone |= {letter.id for letter in letters} - {letter.id for letter in kept}
                if not kept:
                    self._folder.files.remove(path)
                elif len(kept) < len(letters):
                    self._folder.replace(path, b"".join(msgspec.json.encode(each) + b"\n" for each in kept))
        return len(gone)

    def write_again(
        self,
        provider: str,
        write: Callable[[Sequence[bytes]], int],
        ids: Collection[str] | None = None,
    ) -> int:
        """Put those with these message ids, or all, back into the spool, for this provider only.

        Args:
            provider: whose.
            write: appends texts of records and returns how many it took: ``Spool.append``.
            ids: message ids; ``None`` for all.

        Returns:
            How many were put back; each keeps its message id.
        """
        sent: list[str] = []
        for letter in self.read(provider):
            record = letter.record()
            if record is None or (ids is not None and letter.id not in ids):
                continue
            only = msgspec.structs.replace(record, only=frozenset({provider}), never=frozenset())
            text = encode(only, time.time())
            if text is None:
                continue
            if write([text]) < 1:
                break
            sent.append(letter.id)
        if sent:
            self.drop(provider, set(sent))
        return len(sent)

    def _paths(self, provider: str) -> tuple[str, str]:
        name = file_name(provider)
        return self._folder.file(f"dead/{name}.jsonl"), self._folder.file(f"dead/{name}@old.jsonl")

    def _all(self) -> Iterator[DeadLetter]:
        try:
            names = self._folder.files.names(self._folder.file("dead"))
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            if name.endswith(".jsonl"):
                yield from self._lines(self._folder.file(f"dead/{name}"))

    def _lines(self, path: str) -> Iterator[DeadLetter]:
        for line in self._folder.read(path).splitlines():
            try:
                yield msgspec.json.decode(line, type=DeadLetter)
            except (msgspec.DecodeError, UnicodeDecodeError):  # damaged
                continue
