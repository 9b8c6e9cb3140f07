"""``AGENT_TRACKING_*`` as one frozen :class:`Settings`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agent_tracking.exceptions import ConfigurationError

__all__ = ["VARIABLES", "Settings", "boolean", "read_settings"]

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a tracker behaves; each attribute is the variable ``AGENT_TRACKING_<NAME>``.

    Attributes:
        disabled: everything off.
        providers: only these (entry-point or distribution names, comma-separated); ``none`` makes it
            empty and means none of them; unset, it is ``None`` and means all.
        disabled_providers: not these; ``*`` means none at all.
        flush_at: records after which a batch is sent.
        flush_interval: seconds after which a batch is sent.
        shutdown_timeout: seconds for a normal exit, shared by all providers.
        queue_records: the most records in each queue.
        queue_bytes: the most bytes in each queue.
        strict: raise what would be logged.
        debug: log each request, redacted.
    """

    disabled: bool = False
    providers: tuple[str, ...] | None = None
    disabled_providers: tuple[str, ...] = ()
    flush_at: int = 50
    flush_interval: float = 10.0
    shutdown_timeout: float = 5.0
    queue_records: int = 100_000
    queue_bytes: int = 64 * 1024 * 1024
    strict: bool = False
    debug: bool = False


def boolean(text: str) -> bool:
    """Return the meaning of 1/true/yes/on and 0/false/no/off, in any case; ``ValueError`` otherwise."""
    folded = text.strip().casefold()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise ValueError("must be one of 1, true, yes, on, 0, false, no, off")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _only(text: str) -> tuple[str, ...]:
    names = _names(text)
    return () if [name.casefold() for name in names] == ["none"] else names


def _whole(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ValueError("must be a whole number, at least 1")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 86_400:
        raise ValueError("must be a number of seconds between 0 and 86400")
    return number


#: Each variable with what reads its text.
VARIABLES: Mapping[str, Callable[[str], Any]] = {
    "AGENT_TRACKING_DISABLED": boolean,
    "AGENT_TRACKING_PROVIDERS": _only,
    "AGENT_TRACKING_DISABLED_PROVIDERS": _names,
    "AGENT_TRACKING_FLUSH_AT": _whole,
    "AGENT_TRACKING_FLUSH_INTERVAL": _seconds,
    "AGENT_TRACKING_SHUTDOWN_TIMEOUT": _seconds,
    "AGENT_TRACKING_QUEUE_RECORDS": _whole,
    "AGENT_TRACKING_QUEUE_BYTES": _whole,
    "AGENT_TRACKING_STRICT": boolean,
    "AGENT_TRACKING_DEBUG": boolean,
}


def read_settings(environ: Mapping[str, str]) -> tuple[Settings, list[ConfigurationError]]:
    """Return the settings that ``environ`` asks for, and every problem found; a bad one keeps its default."""
    values: dict[str, Any] = {}
    problems: list[ConfigurationError] = []
    for variable, parse in VARIABLES.items():
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            values[variable.removeprefix("AGENT_TRACKING_").lower()] = parse(text)
        except ValueError as error:
            problems.append(
                ConfigurationError(
                    f"{variable} {error}; its default applies", fix=f"correct {variable} or unset it"
                )
            )
    return Settings(**values), problems
