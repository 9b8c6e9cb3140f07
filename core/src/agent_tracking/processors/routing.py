"""``route``: which providers get a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from agent_tracking.events import Record, TrackingEvent
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.processors.draft import Draft
from agent_tracking.processors.selection import Names
from agent_tracking.processors.step import Misused, Step, close, factory

__all__ = ["Route", "route"]


class Route(Step):
    """The processor that ``route()`` makes.

    Attributes:
        providers: the names of providers that it was given.
    """

    def __init__(self, change: Callable[[Draft], str | None], providers: frozenset[str]) -> None:
        super().__init__("route", change, required=True)
        self.providers = providers


@factory
def route(
    which: str | Iterable[str] | Callable[[Record], bool],
    *,
    only: Iterable[str] | None = None,
    never: Iterable[str] | None = None,
) -> Route:
    """Send some records only to some providers, or never to some.

    Several combine: a provider gets a record if every one of them lets it. When no provider is left the
    record is dropped and counted as ``denied``. A name that no provider has is told in the log, once.

    Args:
        which: names of events or globs (identities are not concerned, then), or a function of a record,
            event or identity, that returns whether this is about it.
        only: names of providers, as ``agent-tracking providers`` lists them: no other gets it.
        never: names of providers that do not get it.

    Raises:
        ConfigurationError: an argument cannot work.

    Example::

        configure(processors=[route("order *", only=["mixpanel"]), route(is_employee, never=["posthog"])])
    """
    just, not_these = _providers("only", only), _providers("never", never)
    if not just and not not_these:
        raise ConfigurationError(
            "route() needs names of providers",
            fix='only=["mixpanel"] or never=["posthog"]; deny() drops for all of them',
        )
    concerns = _concerned(which)

    def change(draft: Draft) -> str | None:
        if not concerns(draft):
            return None
        record = draft.record
        left = record.only if not just else just if record.only is None else record.only & just
        never = record.never | not_these
        draft.record = replace(record, only=left, never=never)
        return None if left is None or left - never else "denied"

    return Route(change, just | not_these)


def _providers(argument: str, names: object) -> frozenset[str]:
    if names is None:
        return frozenset()
    chosen = () if isinstance(names, str) or not isinstance(names, Iterable) else tuple(names)
    if not chosen or not all(isinstance(name, str) and name.strip() for name in chosen):
        raise ConfigurationError(
            f"route(): {argument} must be a list of names of providers", fix=f'{argument}=["mixpanel"]'
        )
    return frozenset(name.strip() for name in chosen)


def _concerned(which: str | Iterable[str] | Callable[[Record], object]) -> Callable[[Draft], bool]:
    if not callable(which):
        matches = Names(which, "route()").matches
        return lambda draft: type(draft.record) is TrackingEvent and matches(draft.record.name)

    def asked(draft: Draft) -> bool:
        answer = which(draft.settle())
        if type(answer) is not bool:
            close(answer)
            raise Misused(f"got {type(answer).__name__} from its function, neither True nor False")
        return answer

    return asked
