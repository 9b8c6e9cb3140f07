"""From the name of a provider to everything that is called after it; a bad one is told why."""

from __future__ import annotations

import keyword
import re

import msgspec

from agent_tracking.discovery import FIRST_PARTY

__all__ = ["BadName", "Names", "names_of"]

_PREFIX = "agent-tracking-"
#: What a distribution's name, normalised, and Python's and a shell's own rules have in common.
_PATTERN = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST = 50
#: Names that mean something else already, and what. The last three do in AGENT_TRACKING_PROVIDERS, or between
#: the brackets of a pip command.
_TAKEN = {
    **dict.fromkeys(keyword.kwlist, "is a word of the Python language"),
    **{taken.removeprefix(_PREFIX): f"is the name of {taken}" for taken in FIRST_PARTY.values()},
    "all": "stands for every provider",
    "none": "stands for no provider",
    "cli": "stands for the command line's extra",
}


class BadName(ValueError):
    """Its text says in one line what is wrong with the name, and what would be right."""


class Names(msgspec.Struct, frozen=True):
    """Everything that is called after a provider.

    Attributes:
        name: of the entry point: ``acme-labs``.
        distribution: ``agent-tracking-acme-labs``; also the folder.
        package: ``agent_tracking_acme_labs``.
        cls: what the class's name begins with: ``AcmeLabs``.
        variable: what each variable begins with: ``ACME_LABS``.
    """

    name: str
    distribution: str
    package: str
    cls: str
    variable: str


def names_of(name: str) -> Names:
    """Return the names after ``name``.

    Raises:
        BadName: it cannot be the name of a provider, or is taken.
    """
    if problem := _problem(name):
        close = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").removeprefix(_PREFIX)
        hint = "" if close == name or _problem(close) else f"; did you mean {close!r}?"
        raise BadName(f"{name!r} {problem}{hint}")
    distribution = _PREFIX + name
    names = Names(
        name=name,
        distribution=distribution,
        package=distribution.replace("-", "_"),
        cls="".join(part.capitalize() for part in name.split("-")),
        variable=name.replace("-", "_").upper(),
    )
    if taken := FIRST_PARTY.get(f"{names.variable}_KEY"):
        raise BadName(f"{name!r} would read {names.variable}_KEY, which belongs to {taken}")
    return names


def _problem(name: str) -> str:
    """Return what is wrong with the name, or nothing."""
    if not _PATTERN.fullmatch(name):
        return "cannot be a provider's name: lower-case letters, digits and single '-', a letter first"
    if len(name) > _LONGEST:
        return f"is too long: a provider's name has at most {_LONGEST} characters"
    if f"{name}-".startswith(_PREFIX):
        return f"cannot be a provider's name: leave out {_PREFIX!r}, the distribution gets it"
    taken = _TAKEN.get(name)
    return f"{taken}: choose another name" if taken else ""
