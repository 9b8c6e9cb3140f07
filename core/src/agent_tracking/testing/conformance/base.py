"""What an author fills in, which tests there are, and which of them apply."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
import pytest

from agent_tracking.http_provider import HTTPProvider
from agent_tracking.provider import Provider
from agent_tracking.testing.backends import Backend
from agent_tracking.testing.conformance.bench import Bench
from agent_tracking.testing.conformance.capabilities import Capabilities
from agent_tracking.testing.conformance.report import Report

__all__ = ["Kit", "left_out", "needs", "overridden", "rules_of"]

_HOME = __name__.rpartition(".")[0]
_NEEDS = "__conformance_needs__"
Test = TypeVar("Test", bound=Callable[..., Any])


class _LeftOut:
    """Stands in a class for a test that does not apply: pytest collects only what can be called."""

    def __repr__(self) -> str:
        return "<not claimed>"


_LEFT_OUT = _LeftOut()


def needs(*claims: str) -> Callable[[Test], Test]:
    """Collect a test only for a provider that claims all of these; ``http`` and ``plain`` are facts."""

    def mark(test: Test) -> Test:
        setattr(test, _NEEDS, claims)
        return test

    return mark


def rules_of(cls: type) -> dict[str, Callable[..., Any]]:
    """Return the suite's own tests by name, whatever ``cls`` made of them."""
    found: dict[str, Callable[..., Any]] = {}
    for base in cls.__mro__:
        if base.__module__.startswith(_HOME):
            for name, value in vars(base).items():
                if name.startswith("test_") and callable(value):
                    found.setdefault(name, value)
    return found


def left_out(cls: type) -> dict[str, tuple[str, ...]]:
    """Return the tests that do not apply, and what they need."""
    return {
        name: getattr(test, _NEEDS) for name, test in rules_of(cls).items() if getattr(cls, name) is _LEFT_OUT
    }


def overridden(cls: type) -> list[str]:
    """Return the suite's tests that ``cls`` replaces by its own, or by nothing."""
    return [name for name, test in rules_of(cls).items() if getattr(cls, name) not in (test, _LEFT_OUT)]


class Kit:
    """What an author fills in: ``provider`` and ``make_environ``, and the rest where it matters."""

    #: The provider's class, as its entry point names it.
    provider: ClassVar[type[Provider]]
    #: What it claims.
    capabilities: ClassVar[Capabilities] = Capabilities()
    #: Tests that are expected to fail, or that the class replaces by its own, each with the reason:
    #: ``{"test_name": "why"}`` or ``{"test_name[case]": "why"}``. The report shows them.
    exceptions: ClassVar[Mapping[str, str]] = {}

    def make_environ(self, place: str) -> Mapping[str, str]:
        """Return the variables with which the provider delivers to ``place``.

        Args:
            place: the address of the stand-in, ``http://127.0.0.1:PORT/NAME``, to which any path may be
                added; for a provider that is not HTTP an empty folder.

        Give secrets values of eight characters or more that stand nowhere else: they are looked for.
        """
        raise NotImplementedError(f"{type(self).__name__} needs make_environ(place)")

    def make_backend(self) -> Backend | None:
        """Return the backend's manners for the stand-in.

        By default those that the sink has for a backend of this name, or those of a backend that takes
        JSON objects which have an ``id``. See :class:`agent_tracking.testing.Backend`.
        """
        return None

    def delivered(self, place: str) -> Iterable[str] | int:
        """Return the message ids of the events that have come to ``place``, each as often as it came.

        Only for a provider that is not HTTP. Identities may be among them. Where no ids are kept: the
        number of events.
        """
        raise NotImplementedError(f"{type(self).__name__} needs delivered(place)")

    def outage(self, place: str) -> AbstractContextManager[object]:
        """Return a context in which ``place`` takes nothing. Only for one that is not HTTP."""
        raise NotImplementedError(
            f"{type(self).__name__} needs outage(place), or capabilities = Capabilities(retry=False)"
        )

    # What the tests are made with.

    _advice = ""

    def __init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401  of any mixin
        super().__init_subclass__(**options)
        if not hasattr(cls, "provider"):
            return
        if "test_exceptions_state_their_reasons" in vars(cls):
            raise TypeError("test_exceptions_state_their_reasons guards the others and cannot be replaced")
        replaced = overridden(cls)
        for name, test in rules_of(cls).items():
            if name not in replaced:
                setattr(cls, name, test if cls._applies(test) else _LEFT_OUT)

    @classmethod
    def _applies(cls, test: Callable[..., Any]) -> bool:
        http = issubclass(cls.provider, HTTPProvider)
        facts = {"http": http, "plain": not http, **msgspec.structs.asdict(cls.capabilities)}
        return all(facts[claim] for claim in getattr(test, _NEEDS, ()))

    @pytest.fixture(autouse=True)
    def _conformance(self, request: pytest.FixtureRequest) -> None:
        Report.of(request.config)
        self._advice = inspect.cleandoc(request.function.__doc__ or "")
        name = request.function.__name__
        reason = self.exceptions.get(name) or self.exceptions.get(request.node.name)
        if reason and name not in overridden(type(self)):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=False))

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        """The provider in a tracker, at a stand-in of its own."""
        with Bench(self, tmp_path) as bench:
            yield bench

    def hold(self, condition: object, text: str) -> None:
        """Fail the test, in words that name the provider and the rule, unless ``condition`` is true."""
        if not condition:
            name = self.provider.name or self.provider.__name__
            pytest.fail(f"{name}: {text}\n\n{self._advice}", pytrace=False)

    def hold_nothing(self, found: Sequence[object] | Mapping[Any, object], text: str) -> None:
        """Fail the test if anything was found; show the first of it."""
        shown = list(found.items() if isinstance(found, Mapping) else found)
        self.hold(not shown, f"{text}: {', '.join(map(str, shown[:5]))}{', ...' if len(shown) > 5 else ''}")
