"""Checks of variables: missing, misspelt, blank, quoted, or set for a package that is not installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher, get_close_matches

from agent_tracking.cli.doctor.findings import Case, Finding, Installed, note, problem
from agent_tracking.provider import EnvVar
from agent_tracking.records import ProviderState
from agent_tracking.settings import VARIABLES

__all__ = ["check_variables"]

_PREFIX = "AGENT_TRACKING_"
#: How alike two names have to be: of a variable that a provider lacks, when they begin with the same word,
#: and of any other one.
_LIKE_NEEDED, _LIKE = 0.6, 0.85


def check_variables(case: Case) -> Iterator[Finding]:
    """Look at each variable that is declared, and at those that resemble one."""
    known = {*VARIABLES, *(name for each in case.installed for name in each.record.variables)}
    strangers = [name for name, value in case.environ.items() if name not in known and value.strip()]
    meant = _meant(case, strangers)
    for name, (reader, var) in sorted(meant.items()):
        yield _misspelt(name, var.name, f"{reader} reads {var.name}")
    explained = {var.name for _, var in meant.values()}
    for installed in case.installed:
        yield from _of_provider(case, installed, explained)
    yield from _of_settings(case, [name for name in strangers if name not in meant])
    yield from _quoted(case, sorted(known))
    yield from _garbled(case, sorted(known))


def _meant(case: Case, strangers: Iterable[str]) -> dict[str, tuple[str, EnvVar]]:
    """Return which unset variable of which provider each of the strangers resembles most, if any."""
    unset = [
        (installed, var)
        for installed in case.installed
        for var in installed.env
        if var.name not in case.environ
    ]
    found = {}
    for name in strangers:
        likes = [(_likeness(name.upper(), var.name, _is_needed(each, var)), each, var) for each, var in unset]
        best = max(likes, key=lambda like: like[0], default=None)
        if best is not None and best[0] > 0:
            found[name] = (best[1].record.name, best[2])
    return found


def _is_needed(installed: Installed, var: EnvVar) -> bool:
    return var.required and installed.record.state is ProviderState.INACTIVE


def _likeness(name: str, var: str, needed: bool) -> float:
    """Return how alike the names are, 0 to 1; 0 where that is too little to speak of."""
    kin = needed and name.partition("_")[0] == var.partition("_")[0]
    ratio = SequenceMatcher(None, name, var, autojunk=False).ratio()
    return ratio if ratio >= (_LIKE_NEEDED if kin else _LIKE) else 0.0


def _of_provider(case: Case, installed: Installed, explained: set[str]) -> Iterator[Finding]:
    lacking = []
    for var in installed.env:
        value = case.environ.get(var.name)
        needed = _is_needed(installed, var)
        if value is not None and not value.strip():
            yield _blank(var, needed=needed)
        elif value is None and needed and var.name not in explained:
            lacking.append(var)
    if lacking:
        yield _missing(case, installed, lacking)


def _misspelt(given: str, meant: str, reader: str) -> Finding:
    return problem(
        "variables",
        given,
        f"{given} is set, but nothing reads it; {reader}",
        f"set {meant} instead of {given}",
    )


def _blank(var: EnvVar, *, needed: bool) -> Finding:
    what = f"{var.name} is set, but blank: that counts as unset"
    if needed:
        return problem(
            "variables", var.name, what, f"give {var.name} a value: {var.help or 'it is required'}"
        )
    return note("variables", var.name, what, f"unset {var.name}, or give it a value")


def _missing(case: Case, installed: Installed, lacking: list[EnvVar]) -> Finding:
    """Return a problem where the provider is meant to be on, by a variable of its own or by its name."""
    record = installed.record
    names = " and ".join(var.name for var in lacking)
    verb = "is" if len(lacking) == 1 else "are"
    helps = "; ".join(var.help for var in lacking if var.help)
    fix = f"set {names}" + (f" ({helps})" if helps else "")
    what = f"{record.distribution} is installed, but {names} {verb} not set"
    others = [var.name for var in installed.env if case.environ.get(var.name, "").strip()]
    if others:
        return problem("variables", names, f"{what}, while {', '.join(others)} is", fix)
    if {record.name, record.distribution} & set(case.settings.providers or ()):
        return problem("variables", names, f"{what}, while AGENT_TRACKING_PROVIDERS names it", fix)
    return note("variables", names, f"{what}: {record.name} is off", fix)


def _of_settings(case: Case, strangers: Iterable[str]) -> Iterator[Finding]:
    unset = [name for name in VARIABLES if not case.environ.get(name, "").strip()]
    for name in sorted(strangers):
        upper = name.upper()
        if not upper.startswith(_PREFIX):
            # AGENT_TRACKNG_FLUSH_AT: a slip in the prefix.
            if close := get_close_matches(upper, unset, 1, 0.9):
                yield _misspelt(name, close[0], f"the setting is {close[0]}")
            continue
        close = [upper] if upper in VARIABLES else _closest_setting(upper)
        if close:
            yield _misspelt(name, close[0], f"the setting is {close[0]}")
        else:
            yield problem(
                "variables",
                name,
                f"{name} is set, but there is no such setting",
                f"unset {name}, or correct it",
            )


def _closest_setting(name: str) -> list[str]:
    """Return the setting that resembles ``name`` most, by what stands behind the prefix they share."""
    rests = [variable.removeprefix(_PREFIX) for variable in VARIABLES]
    return [
        f"{_PREFIX}{rest}" for rest in get_close_matches(name.removeprefix(_PREFIX), rests, 1, _LIKE_NEEDED)
    ]


def _quoted(case: Case, names: Iterable[str]) -> Iterator[Finding]:
    for name in names:
        value = case.environ.get(name, "").strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            yield problem(
                "variables",
                name,
                f"the value of {name} begins and ends with a quotation mark, which becomes part of it",
                f"write {name}=value without quotes: docker's --env-file keeps them",
            )


def _garbled(case: Case, names: Iterable[str]) -> Iterator[Finding]:
    for name in names:
        value = case.environ.get(name, "").strip()
        if any("\udc80" <= char <= "\udcff" for char in value):  # how Python shows bytes it cannot decode
            what = f"the value of {name} holds bytes that are not UTF-8 text"
        elif any(char < " " or char == "\x7f" for char in value):
            what = f"the value of {name} holds a line break or another control character"
        else:
            continue
        yield problem("variables", name, what, f"set {name} again, to the text alone")
