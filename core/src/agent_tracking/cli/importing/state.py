"""The small file by which an import goes on where it was ended: how far everything is settled."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import msgspec

from agent_tracking.cli.importing.files import Identity
from agent_tracking.cli.importing.mapping import Choices
from agent_tracking.cli.importing.problems import BadInput, quoted
from agent_tracking.cli.importing.report import Totals

__all__ = ["State", "StateFile", "check", "fingerprints"]


class State(msgspec.Struct, kw_only=True):
    """What is written down after every chunk.

    Attributes:
        input: the file that is imported.
        choices: the options that change its records.
        salt, targets: by provider a few bits by which the same variables are known again, and nothing else.
        position, line: up to where everything is settled, in bytes of the decompressed input and in lines.
        totals: what was counted up to there.
    """

    kind: Literal["agent-tracking import"] = "agent-tracking import"
    format: Literal[1] = 1
    input: Identity
    choices: Choices
    salt: str
    targets: dict[str, str]
    position: int = 0
    line: int = 0
    totals: Totals = msgspec.field(default_factory=Totals)

    @classmethod
    def fresh(cls, choices: Choices) -> State:
        """Return the beginning of what can't be gone on with."""
        return cls(input=Identity(0, 0, ""), choices=choices, salt="", targets={})


class StateFile:
    """Where the state is kept: replaced as a whole, readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._beside = path.with_name(f"{path.name}.tmp")

    def read(self) -> State | None:
        """Return what is written there; ``None`` if there is nothing."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadInput(f"{quoted(str(self.path), 200)} cannot be read: {error.strerror}") from None
        try:
            return msgspec.json.decode(text, type=State)
        except (msgspec.DecodeError, UnicodeDecodeError):
            name = quoted(str(self.path), 200)
            raise BadInput(
                f"{name} is no state of an import: remove it, or name another by --state"
            ) from None

    def write(self, state: State) -> None:
        """Replace what is written there; it survives the end of the process and of the machine."""
        try:
            with os.fdopen(os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self._beside.replace(self.path)
        except OSError as error:
            name = quoted(str(self.path), 200)
            reason = f"{error.strerror}; --state names another place"
            raise BadInput(f"{name} cannot be written: {reason}") from None

    def remove(self) -> None:
        """Everything is settled: leave nothing behind."""
        for path in (self._beside, self.path):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def fingerprints(
    variables: Mapping[str, Sequence[str]], environ: Mapping[str, str], salt: str
) -> dict[str, str]:
    """Return a few bits for each provider's variables: too few to try values out by them."""
    found = {}
    for provider, names in variables.items():
        digest = blake2b(salt.encode(), digest_size=4)
        for name in sorted(names):
            digest.update(f"{name}={environ.get(name, '').strip()}\n".encode(errors="replace"))
        found[provider] = digest.hexdigest()
    return found


def check(
    state: State,
    path: Path,
    identity: Identity,
    choices: Choices,
    variables: Mapping[str, Sequence[str]],
    environ: Mapping[str, str],
) -> None:
    """Raise if an import that was begun can't go on as it is asked for now."""
    again = f"{_AGAIN} (it is written in {quoted(str(path), 200)})"
    if state.input != identity:
        raise BadInput(f"the file was changed since its import began: {again}")
    if state.choices != choices:
        raise BadInput(f"its import was begun with other options: use those, or {again}")
    if set(state.targets) != set(variables):
        before, now = (", ".join(sorted(names)) for names in (state.targets, variables))
        raise BadInput(f"its import to {before} was begun, this one is to {now}: use --only, or {again}")
    found = fingerprints(variables, environ, state.salt)
    for provider in sorted(variables):
        if state.targets[provider] != found[provider]:
            raise BadInput(f"{provider} had other variables when its import began: set those, or {again}")


_AGAIN = "--restart begins anew; what has arrived has the same ids and is not counted twice"
