"""Variables: what is declared, what is missing, what is read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping

import pytest

from agent_tracking import discovery
from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import HTTPProvider
from agent_tracking.provider import EnvVar, Provider
from agent_tracking.records import ProviderRecord, ProviderState
from agent_tracking.testing.conformance.base import Kit, needs, overridden, rules_of
from agent_tracking.testing.conformance.bench import Bench

__all__ = ["ActivationTests"]

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
#: Words in a variable's name by which everybody takes its value for a secret.
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|CREDENTIAL|DSN", re.IGNORECASE)


class ActivationTests(Kit):
    """The one declaration of its variables drives a provider's activation."""

    def test_exceptions_state_their_reasons(self) -> None:
        """Whoever replaces a test, or expects one to fail, says why.

        If it fails: give ``exceptions`` an entry ``{"test_name": "the reason"}`` for each test that the
        class overrides; take out those that name no test.
        """
        known = rules_of(type(self))
        unknown = [name for name in self.exceptions if name.partition("[")[0] not in known]
        self.hold_nothing(unknown, "exceptions names tests that do not exist")
        silent = [name for name, reason in self.exceptions.items() if not str(reason).strip()]
        self.hold_nothing(silent, "exceptions gives no reason for")
        unsaid = [name for name in overridden(type(self)) if name not in self.exceptions]
        self.hold_nothing(unsaid, "tests are overridden without a reason in exceptions")

    def test_it_is_a_class_with_a_name_that_an_entry_point_can_have(self) -> None:
        """A provider is a subclass of ``Provider`` whose name is lower-case letters, digits and ``-``.

        If it fails: subclass ``agent_tracking.Provider`` or ``HTTPProvider``; set ``name``.
        """
        self.hold(issubclass(self.provider, Provider), "it is no subclass of Provider")
        self.hold(_NAME.fullmatch(self.provider.name), f"its name {self.provider.name!r} cannot be used")

    def test_its_variables_are_declared_whole(self) -> None:
        """Each variable is an ``EnvVar`` with a name of its own and a line of help.

        A required one has no default, which would never be used; a secret one has none, which would be
        everybody's.

        If it fails: correct ``env``.
        """
        declared = list(self.provider.env)
        self.hold(all(isinstance(var, EnvVar) for var in declared), "env holds what is no EnvVar")
        names = [var.name for var in declared]
        self.hold(len(set(names)) == len(names), "a variable is declared twice")
        self.hold_nothing([var.name for var in declared if not var.help.strip()], "variables without help")
        useless = [var.name for var in declared if (var.required or var.secret) and var.default]
        self.hold_nothing(useless, "required or secret variables with a default")

    def test_what_sounds_like_a_secret_is_declared_as_one(self) -> None:
        """A variable called ``..._KEY``, ``..._TOKEN``, ``..._AUTH`` and the like has ``secret=True``.

        If it fails: add ``secret=True``. Where the value may be shown to everybody, give the variable
        another name.
        """
        open_ones = [var.name for var in self.provider.env if _SECRET.search(var.name) and not var.secret]
        self.hold_nothing(open_ones, "variables that sound like secrets, not declared secret")

    def test_with_its_variables_it_is_active(self, bench: Bench) -> None:
        """With the variables of ``make_environ``, all of them declared, the provider is active.

        If it fails: declare in ``env`` what the provider reads; see that ``make_environ`` returns every
        required variable.
        """
        declared = {var.name for var in self.provider.env}
        unknown = sorted(bench.environ.keys() - declared)
        self.hold_nothing(unknown, "make_environ sets what env does not declare")
        record = self._discovered(bench.environ)
        self.hold(record.state is ProviderState.ACTIVE, f"it is {record.state}: {record.reason}")

    @pytest.mark.parametrize("value", [None, "", "  \t"], ids=["unset", "empty", "blank"])
    def test_without_a_required_variable_it_is_inactive_and_says_which(
        self, bench: Bench, value: str | None
    ) -> None:
        """Without one of its required variables a provider is inactive, and the reason names it.

        If it fails: declare the variable with ``required=True``; do not raise in ``configure`` for it,
        and do not override ``__init__``.
        """
        for var in self.provider.env:
            if var.required:
                environ = {name: text for name, text in bench.environ.items() if name != var.name}
                record = self._discovered(environ if value is None else {**environ, var.name: value})
                self.hold(record.state is ProviderState.INACTIVE, f"without {var.name} it is {record.state}")
                told = var.name in record.reason and var.name in record.fix
                self.hold(told, f"without {var.name} the reason does not name it: {record.reason}")

    def test_a_missing_variable_is_an_error_that_names_it(self, bench: Bench) -> None:
        """Making the class by hand without a required variable raises ``ConfigurationError``.

        If it fails: see the test above; the base class's ``__init__`` does this.
        """
        for var in self.provider.env:
            if not var.required:
                continue
            environ = {name: text for name, text in bench.environ.items() if name != var.name}
            try:
                self.provider(environ)
            except ConfigurationError as error:
                self.hold(var.name in str(error), f"the error without {var.name} does not name it")
            else:
                self.hold(False, f"it can be made without {var.name}")

    def test_optional_variables_may_be_unset(self, bench: Bench) -> None:
        """With nothing but its required variables a provider can be made.

        If it fails: give optional variables a default, or read them with ``self.values.get``.
        """
        required = {var.name for var in self.provider.env if var.required}
        environ = {name: text for name, text in bench.environ.items() if name in required}
        record = self._discovered(environ)
        self.hold(record.state is ProviderState.ACTIVE, f"it is {record.state}: {record.reason}")

    def test_it_reads_its_variables_from_values_alone(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing is read from the process's environment but what ``env`` declares, by ``self.values``.

        Otherwise the variable is missing from the listing, from the documentation and from what is
        never shown, and a second provider with other values cannot be made.

        If it fails: declare the variable and read ``self.values[name]``.
        """
        self._use(bench)  # what is imported at first use may read what it likes
        spy = _Spy(os.environ)
        monkeypatch.setattr(os, "environ", spy)
        self._use(bench)
        monkeypatch.undo()
        self.hold_nothing(sorted(spy.seen), "it reads the process's environment")

    def _use(self, bench: Bench) -> None:
        provider = bench.provider()
        if isinstance(provider, HTTPProvider):
            for name, batch in bench.batches(provider):
                provider.request(name, batch)

    def _discovered(self, environ: Mapping[str, str]) -> ProviderRecord:
        candidate = discovery.Candidate(
            name=self.provider.name,
            entry_point=f"{self.provider.__module__}:{self.provider.__qualname__}",
            distribution="the-package-under-test",
            version="1",
            load=lambda: self.provider,
        )
        return discovery.make(candidate, environ).record

    @needs("identities")
    def test_it_takes_identities_as_it_claims(self) -> None:
        """Who claims identities has the hook for them.

        If it fails: write ``identify(self, identity)``, or declare ``Capabilities(identities=False)``.
        """
        self.hold(callable(getattr(self.provider, "identify", None)), "there is no hook 'identify'")

    @needs("http")
    def test_its_endpoints_can_be_kept_to(self, bench: Bench) -> None:
        """Endpoints have names of their own, and limits that one record can fit into.

        If it fails: correct ``endpoints``: ``record_bytes`` is at most ``body_bytes``, both over 1000.
        """
        endpoints = list(bench.provider().endpoints)
        self.hold(endpoints, "it has no endpoint")
        names = [endpoint.name for endpoint in endpoints]
        self.hold(len(set(names)) == len(names), "two endpoints have one name")
        for endpoint in endpoints:
            sound = endpoint.records >= 1 and 1_000 <= endpoint.record_bytes <= endpoint.body_bytes
            self.hold(sound, f"the limits of the endpoint {endpoint.name!r} cannot be kept")
        claimed, found = self.capabilities.gzip, any(endpoint.gzip for endpoint in endpoints)
        self.hold(claimed == found, f"gzip is {found} by its endpoints, {claimed} by its capabilities")


class _Spy(MutableMapping[str, str]):
    """The process's environment, and which of its names were asked for."""

    def __init__(self, real: MutableMapping[str, str]) -> None:
        self._real = real
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.seen.add(name)
        return self._real[name]

    def __setitem__(self, name: str, value: str) -> None:
        self._real[name] = value

    def __delitem__(self, name: str) -> None:
        del self._real[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._real)

    def __len__(self) -> int:
        return len(self._real)
