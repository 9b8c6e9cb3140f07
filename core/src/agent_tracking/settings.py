"""``AGENT_TRACKING_*`` as one frozen :class:`Settings`, from the environment and from code."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypedDict

import msgspec

from agent_tracking.exceptions import ConfigurationError

__all__ = ["VARIABLES", "Given", "Settings", "SpoolSync", "boolean", "check_given", "read_settings"]

_PREFIX = "AGENT_TRACKING_"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_DAY = 86_400.0


class SpoolSync(msgspec.Struct, frozen=True):
    """When records reach the disk: after how many seconds at most, and whether each group is fsynced.

    As text: ``0.1``, or ``0.1,fsync``.
    """

    seconds: float = 0.1
    fsync: bool = False


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
        serverless: deliver with each answer; unset, it is ``None`` and found out by the runtime's variables.
        spool: the folder in which records wait on disk; unset, they wait in memory.
        spool_sync: seconds until records are on disk, and ``fsync`` if that is to survive a power cut.
        spool_bytes: the most bytes of that folder's records.
        spool_age: seconds after which a record in it is given up.
        delivery: ``process``, or ``relay``: another process, ``agent-tracking relay``, delivers.
        status: the folder in which the process writes its counters; with a spool one is made in there.
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
    serverless: bool | None = None
    spool: str | None = None
    spool_sync: SpoolSync = SpoolSync()
    spool_bytes: int = 1024 * 1024 * 1024
    spool_age: float = 7 * _DAY
    delivery: Literal["process", "relay"] = "process"
    status: str | None = None


class Given(TypedDict, total=False):
    """What ``configure()`` takes beside the processors: each setting, as a value or as its text."""

    disabled: bool
    providers: Iterable[str] | str | None
    disabled_providers: Iterable[str] | str
    flush_at: int
    flush_interval: float
    shutdown_timeout: float
    queue_records: int
    queue_bytes: int
    strict: bool
    debug: bool
    serverless: bool | None
    spool: str | os.PathLike[str] | None
    spool_sync: float | str | SpoolSync
    spool_bytes: int
    spool_age: float
    delivery: Literal["process", "relay"]
    status: str | os.PathLike[str] | None


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


def _between(text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number <= most:
        raise ValueError(f"must be a number of seconds between {least:g} and {most:.0f}")
    return number


def _seconds(text: str) -> float:
    return _between(text, 0, _DAY)


def _age(text: str) -> float:
    return _between(text, 60, 3650 * _DAY)


def _sync(text: str) -> SpoolSync:
    seconds, comma, word = (part.strip() for part in text.partition(","))
    try:
        if comma and word.casefold() != "fsync":
            raise ValueError
        return SpoolSync(_between(seconds, 0.01, 60), fsync=bool(comma))
    except ValueError:
        raise ValueError("must be a number of seconds between 0.01 and 60, or that and ',fsync'") from None


def _delivery(text: str) -> str:
    folded = text.casefold()
    if folded not in {"process", "relay"}:
        raise ValueError("must be process or relay")
    return folded


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
    "AGENT_TRACKING_SERVERLESS": boolean,
    "AGENT_TRACKING_SPOOL": str,
    "AGENT_TRACKING_SPOOL_SYNC": _sync,
    "AGENT_TRACKING_SPOOL_BYTES": _whole,
    "AGENT_TRACKING_SPOOL_AGE": _age,
    "AGENT_TRACKING_DELIVERY": _delivery,
    "AGENT_TRACKING_STATUS": str,
}


def _variable(name: str) -> str:
    return f"{_PREFIX}{name.upper()}"


def read_settings(
    environ: Mapping[str, str], given: Mapping[str, Any] | None = None
) -> tuple[Settings, list[ConfigurationError]]:
    """Return the settings, and every problem found; a bad variable keeps its default.

    Args:
        environ: the variables.
        given: values by :func:`check_given`, which go before the variables.
    """
    values: dict[str, Any] = {}
    problems: list[ConfigurationError] = []
    for variable, parse in VARIABLES.items():
        text = environ.get(variable, "").strip()
        if not text:
            continue
        try:
            values[variable.removeprefix(_PREFIX).lower()] = parse(text)
        except ValueError as error:
            problems.append(
                ConfigurationError(
                    f"{variable} {error}; its default applies", fix=f"correct {variable} or unset it"
                )
            )
    values |= given or {}
    if values.get("delivery") == "relay" and not values.get("spool"):
        del values["delivery"]
        problems.append(
            ConfigurationError(
                "AGENT_TRACKING_DELIVERY is relay, but no spool is set: this process delivers itself",
                fix="set AGENT_TRACKING_SPOOL to the folder that the relay reads",
            )
        )
    return Settings(**values), problems


def check_given(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what was given by code as the values of :class:`Settings`, and what is wrong with the rest."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in given.items():
        if _variable(name) not in VARIABLES:
            close = get_close_matches(name, Settings.__struct_fields__, 1)
            problems.append(f"there is no setting {name!r}{f': {close[0]!r} is meant?' if close else ''}")
            continue
        try:
            values[name] = _value(name, value)
        except ValueError as error:
            problems.append(f"{name} {error}")
    return values, problems


def _value(name: str, value: object) -> Any:  # noqa: ANN401  each setting has a type of its own
    """Return the value of one setting given by code; ``ValueError`` if it can't be one."""
    parse = VARIABLES[_variable(name)]
    if parse is str and not isinstance(value, str | os.PathLike | None):
        raise ValueError("must be a path")
    text = _text(value).strip()
    if parse is _only and not text and value is not None and not isinstance(value, str):
        text = "none"
    default = getattr(Settings(), name)
    return default if default is None and not text else parse(text)


def _text(value: object) -> str:
    """Return a value given by code as the text that a variable would have."""
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, SpoolSync):
        return f"{value.seconds},fsync" if value.fsync else f"{value.seconds}"
    names = tuple(value) if isinstance(value, Iterable) else (value,)
    if all(isinstance(name, str) for name in names):
        return ",".join(names)
    raise ValueError(f"cannot be of type {type(value).__name__}")
