"""For authors: what a provider is and how it declares its variables.

A provider that speaks HTTP is an :class:`agent_tracking.HTTPProvider`. Any other one subclasses
:class:`Provider` and writes ``track``, and if it needs them ``identify`` and ``flush``
(see :mod:`agent_tracking.hookspecs`)::

    class PrintProvider(Provider):
        name = "print"
        env = (EnvVar("PRINT_PREFIX", required=True, help="what each line starts with"),)

        def track(self, event):
            print(self.values["PRINT_PREFIX"], event.name, event.properties)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec

from agent_tracking.exceptions import ConfigurationError

__all__ = ["IMPORTING", "EnvVar", "Provider", "Values", "missing"]

#: In the environment of a tracker through which a file of old records is imported.
IMPORTING = "AGENT_TRACKING_IMPORTING"


class EnvVar(msgspec.Struct, frozen=True):
    """One environment variable that a provider reads, as data.

    This one declaration drives activation, the listing, the documentation and the redaction.

    Args:
        name: the variable, e.g. ``"POSTHOG_API_KEY"``.
        required: without it the provider stays inactive.
        secret: its value is never shown.
        default: used when the variable is unset or blank.
        help: one line for the listing.
        importing: used instead of the default while ``agent-tracking import`` runs, where a backend takes
            old records in another way.
    """

    name: str
    required: bool = False
    secret: bool = False
    default: str | None = None
    help: str = ""
    importing: str | None = None


class Values(Mapping[str, str]):
    """The values of a provider's variables, stripped; what is unset or blank is not in it.

    Its ``repr`` shows the names only.
    """

    __slots__ = ("_values",)

    def __init__(self, declared: Sequence[EnvVar], environ: Mapping[str, str]) -> None:
        importing = IMPORTING in environ
        found = {
            var.name: (environ.get(var.name) or "").strip() or (importing and var.importing) or var.default
            for var in declared
        }
        self._values = {name: value for name, value in found.items() if value}

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<Values of {', '.join(self._values) or 'nothing'}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("the values of a provider's variables cannot be pickled: they hold secrets")


def missing(declared: Sequence[EnvVar], values: Mapping[str, str]) -> list[str]:
    """Return the names of the required variables that have no value, in their declared order."""
    return [var.name for var in declared if var.required and var.name not in values]


class Provider:
    """The base class of a provider: its name, its variables, their values.

    Args:
        environ: where the values come from; the process's environment by default. Tests and
            ``register_provider(AcmeProvider({"ACME_KEY": "k"}))`` give their own.

    Raises:
        ConfigurationError: a required variable is unset or blank, or ``configure`` refused a value.
    """

    #: The entry point's name: lower-case letters, digits and ``-``.
    name: ClassVar[str] = ""
    #: The variables that it reads.
    env: ClassVar[Sequence[EnvVar]] = ()

    #: The variables' values by name (the key of a secret is shown in no ``repr``).
    values: Mapping[str, str]

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.values = Values(self.env, os.environ if environ is None else environ)
        del environ  # a traceback with local variables shows no values
        if absent := missing(self.env, self.values):
            raise ConfigurationError(f"{', '.join(absent)} is not set", fix=f"set {' and '.join(absent)}")
        try:
            self.configure()
        except ConfigurationError as error:
            problem = error
        else:
            return
        # Without the frames that it went through: they hold the value that is wrong.
        problem.__cause__ = problem.__context__ = None
        raise problem.with_traceback(None)

    def configure(self) -> None:
        """Check ``self.values`` and keep what was made of them; called once, before any record.

        Raise :class:`agent_tracking.ConfigurationError` for a value that cannot work: the provider
        is then listed as failed with the reason and the fix. Start nothing here: no thread, no
        connection.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
