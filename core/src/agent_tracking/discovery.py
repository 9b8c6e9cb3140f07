"""From the installed packages to providers, in stages of pure functions.

    find        metadata only, nothing is imported; one broken package hides no other
    switch      AGENT_TRACKING_DISABLED, _PROVIDERS, _DISABLED_PROVIDERS
    conflicts   two distributions with one name: neither is loaded
    compatible  the distribution's own requirement on agent-tracking, still before any import
    load        the entry point, guarded against everything and bounded in time
    make        the required variables, then the class

Each stage turns a candidate into a :class:`ProviderRecord` with a state, or hands it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import msgspec
from importlib_metadata import PackageNotFoundError, distributions, version
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from agent_tracking.exceptions import ConfigurationError
from agent_tracking.logs import one_line
from agent_tracking.provider import Provider, Values, missing
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.settings import Settings

__all__ = [
    "FIRST_PARTY",
    "GROUP",
    "Candidate",
    "Found",
    "Loaded",
    "find",
    "forgotten",
    "make",
    "select",
    "unknown_names",
    "unknown_routes",
]

GROUP = "agent_tracking.providers"

#: Which package reads which variable: so that a variable set without its package is noticed.
FIRST_PARTY = {
    "POSTHOG_API_KEY": "agent-tracking-posthog",
    "MIXPANEL_TOKEN": "agent-tracking-mixpanel",
    "AMPLITUDE_API_KEY": "agent-tracking-amplitude",
    "TRACKING_WEBHOOK_URL": "agent-tracking-webhook",
}


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An entry point of the group, by its metadata alone."""

    name: str
    entry_point: str
    distribution: str
    version: str
    requires: tuple[str, ...] = ()
    load: Callable[[], Any]

    def record(self, state: ProviderState, reason: str = "", fix: str = "", **more: Any) -> ProviderRecord:  # noqa: ANN401
        """Return the record of this candidate in ``state``."""
        return ProviderRecord(
            name=self.name,
            state=state,
            reason=reason,
            fix=fix,
            distribution=self.distribution,
            version=self.version,
            entry_point=self.entry_point,
            **more,
        )


class Found(msgspec.Struct, frozen=True):
    """What ``find`` saw: the candidates sorted by name, and packages that could not be read."""

    candidates: tuple[Candidate, ...]
    problems: tuple[str, ...] = ()


class Loaded(msgspec.Struct, frozen=True):
    """A provider's record and, when it is active, the provider."""

    record: ProviderRecord
    provider: object | None = None


def find(installed: Callable[[], Iterable[Any]] = distributions) -> Found:
    """Return every entry point of the group; the same package seen twice on the path counts once."""
    candidates: dict[tuple[str, str], Candidate] = {}
    problems: list[str] = []
    for distribution in _readable(installed, problems):
        try:
            for candidate in _candidates(distribution):
                candidates.setdefault((candidate.name, canonicalize_name(candidate.distribution)), candidate)
        except Exception as error:  # noqa: BLE001  metadata is anybody's file
            place = one_line(str(getattr(distribution, "_path", "a package without a path")))
            problems.append(
                f"cannot read the metadata of {place} ({type(error).__name__}): reinstall or delete it"
            )
    return Found(tuple(sorted(candidates.values(), key=lambda c: (c.name, c.distribution))), tuple(problems))


def _readable(installed: Callable[[], Iterable[Any]], problems: list[str]) -> Iterable[Any]:
    """Yield the distributions, as far as what finds them goes: anybody may put a finder on sys.meta_path."""
    try:
        yield from installed()
    except Exception as error:  # noqa: BLE001  see above
        problems.append(
            f"looking for installed packages ended with {type(error).__name__}: some are not seen"
        )


def _candidates(distribution: Any) -> list[Candidate]:  # noqa: ANN401  importlib_metadata's Distribution
    points = [point for point in distribution.entry_points if point.group == GROUP]
    if not points:
        return []
    return [
        Candidate(
            name=point.name,
            entry_point=point.value,
            distribution=distribution.metadata["Name"] or "",
            version=distribution.version or "",
            requires=tuple(distribution.requires or ()),
            load=point.load,
        )
        for point in points
    ]


def select(found: Sequence[Candidate], settings: Settings) -> tuple[list[Candidate], list[ProviderRecord]]:
    """Return what may be loaded, and the records of what may not: switched off, in conflict, incompatible."""
    go: list[Candidate] = []
    stay: list[ProviderRecord] = []
    for candidate in found:
        record = (
            _switched_off(candidate, settings)
            or _conflicting(candidate, found, settings)
            or _incompatible(candidate)
        )
        if record is None:
            go.append(candidate)
        else:
            stay.append(record)
    return go, stay


def _named(candidate: Candidate, names: Iterable[str]) -> bool:
    own = {canonicalize_name(candidate.name), canonicalize_name(candidate.distribution)}
    return any(canonicalize_name(name) in own for name in names)


def _switched_off(candidate: Candidate, settings: Settings) -> ProviderRecord | None:
    if settings.disabled:
        return candidate.record(
            ProviderState.DISABLED, "AGENT_TRACKING_DISABLED is on", "unset AGENT_TRACKING_DISABLED"
        )
    if "*" in settings.disabled_providers or _named(candidate, settings.disabled_providers):
        return candidate.record(
            ProviderState.DISABLED,
            "named in AGENT_TRACKING_DISABLED_PROVIDERS",
            f"take {candidate.name} out of AGENT_TRACKING_DISABLED_PROVIDERS",
        )
    only = settings.providers
    if only is not None and "*" not in only and not _named(candidate, only):
        return candidate.record(
            ProviderState.DISABLED,
            "not named in AGENT_TRACKING_PROVIDERS",
            f"add {candidate.name} to AGENT_TRACKING_PROVIDERS, or unset it",
        )
    return None


def _conflicting(
    candidate: Candidate, found: Sequence[Candidate], settings: Settings
) -> ProviderRecord | None:
    others = [
        other.distribution
        for other in found
        if other.name == candidate.name and other is not candidate and not _switched_off(other, settings)
    ]
    if not others:
        return None
    return candidate.record(
        ProviderState.CONFLICT,
        f"{candidate.distribution} and {', '.join(others)} both provide {candidate.name!r}: neither loads",
        f"pip uninstall one of them, or name one in AGENT_TRACKING_DISABLED_PROVIDERS ({others[0]})",
    )


def _incompatible(candidate: Candidate) -> ProviderRecord | None:
    own = _own_version() if candidate.requires else ""
    for text in candidate.requires if own else ():
        specifier = _required_of_us(text)
        if specifier is not None and not specifier.contains(own, prereleases=True):
            return candidate.record(
                ProviderState.INCOMPATIBLE,
                f"{candidate.distribution} {candidate.version} is made for agent-tracking"
                f" {specifier}, this is {own}",
                f"pip install --upgrade {candidate.distribution} agent-tracking",
            )
    return None


def _own_version() -> str:
    """Return the version of this package; nothing in a frozen application, which has no metadata."""
    try:
        return version("agent-tracking")
    except PackageNotFoundError:
        return ""


def _required_of_us(text: str) -> SpecifierSet | None:
    """Return the versions of agent-tracking that a requirement asks for here; ``None``: it asks for none."""
    try:
        requirement = Requirement(text)
        ours = canonicalize_name(requirement.name) == "agent-tracking"
        applies = ours and (requirement.marker is None or requirement.marker.evaluate({"extra": ""}))
    except ValueError:  # metadata is anybody's file
        return None
    return requirement.specifier if applies else None


def make(candidate: Candidate, environ: Mapping[str, str]) -> Loaded:
    """Import the candidate, check it, read its variables, make the provider. Raises nothing."""
    try:
        loaded = candidate.load()
    except BaseException as error:  # noqa: BLE001  a module may even call sys.exit while it is imported
        return _failed(
            candidate, f"importing {candidate.entry_point} raised {_short(error)}", _upgrade(candidate)
        )
    if not (isinstance(loaded, type) and issubclass(loaded, Provider)):
        return Loaded(candidate.record(ProviderState.ACTIVE), loaded)
    declared = loaded.env
    variables = tuple(var.name for var in declared)
    if absent := missing(declared, Values(declared, environ)):
        names = " and ".join(absent)
        verb = "is" if len(absent) == 1 else "are"
        state = candidate.record(
            ProviderState.INACTIVE, f"{names} {verb} not set", f"set {names}", variables=variables
        )
        return Loaded(state)
    return _construct(candidate, loaded, environ, variables)


def _construct(
    candidate: Candidate, loaded: type[Provider], environ: Mapping[str, str], variables: tuple[str, ...]
) -> Loaded:
    try:
        provider = loaded(environ)
    except ConfigurationError as error:
        return Loaded(candidate.record(ProviderState.FAILED, error.reason, error.fix, variables=variables))
    except BaseException as error:  # noqa: BLE001  see make
        kind = type(error).__name__  # its text may hold the value of a variable
        return _failed(
            candidate, f"making {candidate.entry_point} raised {kind}", _upgrade(candidate), variables
        )
    return Loaded(candidate.record(ProviderState.ACTIVE, variables=variables), provider)


def _failed(candidate: Candidate, reason: str, fix: str, variables: tuple[str, ...] = ()) -> Loaded:
    return Loaded(candidate.record(ProviderState.FAILED, reason, fix, variables=variables))


#: Errors whose text is about code; that of others may hold the value of a variable.
_TOLD = (ImportError, SyntaxError, AttributeError, NameError)


def _short(error: BaseException) -> str:
    name = type(error).__name__
    return one_line(f"{name}: {error}", 200) if isinstance(error, _TOLD) else name


def _upgrade(candidate: Candidate) -> str:
    return f"pip install --upgrade --force-reinstall {candidate.distribution}"


def unknown_names(found: Sequence[Candidate], settings: Settings) -> list[str]:
    """Return a sentence for each name in the switches that no installed provider has."""
    known = sorted({c.name for c in found} | {canonicalize_name(c.distribution) for c in found})
    canonical = {canonicalize_name(name) for name in known}
    sentences = []
    for variable, names in (
        ("AGENT_TRACKING_PROVIDERS", settings.providers or ()),
        ("AGENT_TRACKING_DISABLED_PROVIDERS", settings.disabled_providers),
    ):
        for name in names:
            if name == "*" or canonicalize_name(name) in canonical:
                continue
            close = get_close_matches(canonicalize_name(name), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"installed: {', '.join(known) or 'none'}"
            sentences.append(f"{variable} names {one_line(name, 60)}, which is not installed: {hint}")
    return sentences


def unknown_routes(processors: Sequence[object], known: Sequence[str]) -> list[str]:
    """Return a sentence for each name in a ``route()`` that no provider has: a misspelt one lets all pass."""
    if not processors:
        return []
    from agent_tracking.processors.routing import Route  # with all that are ready-made, for who has some

    routes = [processor for processor in processors if isinstance(processor, Route)]
    sentences = []
    for name in sorted({name for each in routes for name in each.providers}.difference(known)):
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known) or 'none'}"
        sentences.append(f"route() names {one_line(name, 60)}, which is no provider here: {hint}")
    return sentences


def forgotten(found: Sequence[Candidate], environ: Mapping[str, str]) -> list[ProviderRecord]:
    """Return a record for each built-in provider whose variable is set while its package is missing."""
    installed = {canonicalize_name(candidate.distribution) for candidate in found}
    return [
        ProviderRecord(
            name=distribution.removeprefix("agent-tracking-"),
            state=ProviderState.NOT_INSTALLED,
            reason=f"{variable} is set but {distribution} is not installed",
            fix=f"pip install {distribution}",
            distribution=distribution,
            variables=(variable,),
        )
        for variable, distribution in FIRST_PARTY.items()
        if (environ.get(variable) or "").strip() and distribution not in installed
    ]
