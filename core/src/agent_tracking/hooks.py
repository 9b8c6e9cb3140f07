"""From a provider object to the functions that its lane calls: checked by pluggy, adapted once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pluggy

from agent_tracking.exceptions import ProviderSpecError
from agent_tracking.hookspecs import PROJECT, HookSpecs

__all__ = ["Hooks", "adapt", "find_hooks"]

Hook = Callable[..., Any]
_MARK = f"{PROJECT}_impl"


class Hooks(msgspec.Struct, frozen=True):
    """A provider's hooks as plain functions of the specification's arguments; ``None`` if it has none."""

    track: Hook
    identify: Hook | None
    flush: Hook | None


class _Manager(pluggy.PluginManager):
    """Takes methods named like a hook for its implementation, marked or not."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:  # noqa: ANN401  pluggy's own type
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None and _specified(name) is not None and callable(getattr(plugin, name, None)):
            return {}
        return options


def find_hooks(provider: object, name: str, specs: type = HookSpecs) -> Hooks:
    """Return the hooks of ``provider``, checked against the specifications.

    Raises:
        ProviderSpecError: ``track`` is missing, a hook's name is unknown, an argument is one that the
            hook does not have, or the implementation is a wrapper or a generator. It names the
            provider, the hook and both signatures.
    """
    manager = _Manager(PROJECT)
    manager.add_hookspecs(specs)
    try:
        manager.register(provider, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ProviderSpecError(_explain(provider, name, specs, str(error))) from None
    found = {hook: _implementation(manager, hook, name, specs) for hook in ("track", "identify", "flush")}
    if found["track"] is None:
        raise ProviderSpecError(f"provider {name!r} has no hook 'track': write {_signature(specs, 'track')}")
    return Hooks(found["track"], found["identify"], found["flush"])


def adapt(function: Hook, accepted: Sequence[str], given: Sequence[str]) -> Hook:
    """Return a function of the arguments ``given`` that passes on those that ``function`` accepts.

    The two are the same as a rule, and then it is ``function`` itself. A hook that gains an argument
    calls older implementations without it.
    """
    if tuple(accepted) == tuple(given):
        return function
    positions = [given.index(argument) for argument in accepted]
    return lambda *values: function(*[values[position] for position in positions])


def _implementation(manager: pluggy.PluginManager, hook: str, name: str, specs: type) -> Hook | None:
    implementations = getattr(manager.hook, hook).get_hookimpls()
    if not implementations:
        return None
    implementation = implementations[0]
    function = implementation.function
    generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if implementation.hookwrapper or implementation.wrapper or generator:
        raise ProviderSpecError(
            f"provider {name!r}: hook {hook!r} is a wrapper or a generator, which a provider's hook cannot be"
        )
    given = [
        argument for argument in inspect.signature(getattr(specs, hook)).parameters if argument != "self"
    ]
    return adapt(function, implementation.argnames, given)


def _specified(hook: str, specs: type = HookSpecs) -> Hook | None:
    return None if hook.startswith("_") else vars(specs).get(hook)


def _signature(specs: type, hook: str) -> str:
    parameters = list(inspect.signature(getattr(specs, hook)).parameters)
    return f"{hook}({', '.join(parameters)})"


def _explain(provider: object, name: str, specs: type, text: str) -> str:
    """Return an error text that names the provider, the hook and both signatures."""
    known = ", ".join(_signature(specs, hook) for hook in ("track", "identify", "flush"))
    for hook in dir(type(provider)) + list(getattr(provider, "__dict__", ())):
        function = getattr(provider, hook, None)
        if not inspect.isroutine(function):
            continue
        marked = hasattr(function, _MARK)
        if marked and _specified(hook, specs) is None:
            return f"provider {name!r}: there is no hook {hook!r}; the hooks are {known}"
        if _specified(hook, specs) is not None and _unknown_arguments(function, specs, hook):
            return (
                f"provider {name!r}: hook {hook}{inspect.signature(function)} asks for"
                f" {', '.join(_unknown_arguments(function, specs, hook))}, which the specification"
                f" {_signature(specs, hook)} does not have"
            )
    return f"provider {name!r}: {text.splitlines()[0]}; the hooks are {known}"


def _unknown_arguments(function: Hook, specs: type, hook: str) -> list[str]:
    known = inspect.signature(getattr(specs, hook)).parameters
    required = inspect.Parameter.empty
    return [
        argument
        for argument, parameter in inspect.signature(function).parameters.items()
        if argument not in known and argument != "self" and parameter.default is required
    ]
