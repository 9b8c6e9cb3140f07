"""Checks of providers: the state of each, and how long its import takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import msgspec

from agent_tracking.cli.doctor.findings import Case, Finding, Installed, note, ok, problem
from agent_tracking.records import ProviderState
from agent_tracking.registry import IMPORT_SECONDS

__all__ = ["Import", "check_imports", "check_providers", "measure"]

#: Seconds that an import may take without a word; from IMPORT_SECONDS on the others no longer wait for it.
SLOW_SECONDS = 1.0
#: Seconds after which an import is given up.
LONGEST_SECONDS = 2 * IMPORT_SECONDS

#: What is imported in an application before any provider is, so that it is not counted.
_SCRIPT = """
import sys, time
import agent_tracking.discovery, agent_tracking.http_provider, agent_tracking.urls
before = set(sys.modules)
started = time.perf_counter()
__import__(sys.argv[1])
seconds = time.perf_counter() - started
sys.stdout.write(f"\\n{seconds} {len(set(sys.modules) - before)}")
"""

_FIXES = {
    ProviderState.FAILED: "correct what the reason names",
    ProviderState.INCOMPATIBLE: "upgrade both packages",
    ProviderState.CONFLICT: "uninstall one of the two",
    ProviderState.NOT_INSTALLED: "install it",
}


class Import(msgspec.Struct, frozen=True):
    """What the import of one provider costs; ``seconds`` is ``None`` where it did not end or raised."""

    seconds: float | None
    modules: int = 0
    hangs: bool = False


def check_providers(case: Case) -> Iterator[Finding]:
    """Tell the state of each provider; and if none is active, that nothing goes anywhere."""
    states = [each.record.state for each in case.installed]
    for each in case.installed:
        yield from _state(each)
    if ProviderState.ACTIVE in states or case.settings.disabled:
        return
    what = "no provider is active: nothing that is tracked goes anywhere"
    if states and all(state is ProviderState.DISABLED for state in states):
        yield note(
            "providers", "all", what, "see AGENT_TRACKING_PROVIDERS, AGENT_TRACKING_DISABLED_PROVIDERS"
        )
        return
    if case.settings.delivery == "relay":
        what = "no provider is active here: the relay delivers, with variables of its own"
        yield note("providers", "all", what, "run doctor with the variables of that process, too")
        return
    fix = "set the variable of one of them" if states else "pip install 'agent-tracking[posthog]'"
    yield problem("providers", "all", what, fix)


def _state(installed: Installed) -> Iterator[Finding]:
    record = installed.record
    package = f"{record.distribution} {record.version}".strip()
    if record.state is ProviderState.ACTIVE:
        yield ok("providers", record.name, f"active ({package})")
    elif record.state is ProviderState.DISABLED:
        yield note("providers", record.name, f"disabled: {record.reason}", record.fix)
    elif record.state is not ProviderState.INACTIVE:  # that is about variables, and told there
        yield problem(
            "providers",
            record.name,
            f"{record.state} ({package}): {record.reason}",
            record.fix or _FIXES[record.state],
        )
    elif not installed.env:
        yield note("providers", record.name, f"inactive: {record.reason}", record.fix)


def measure(installed: Installed) -> Import | None:
    """Import a provider's module in a process of its own; ``None`` for one that would not be imported."""
    switched_off = {ProviderState.DISABLED, ProviderState.CONFLICT, ProviderState.INCOMPATIBLE}
    if installed.candidate is None or installed.record.state in switched_off:
        return None
    module = installed.candidate.entry_point.partition(":")[0].strip()
    try:
        done = subprocess.run(  # noqa: S603  the same interpreter, and a module that is installed
            [sys.executable, "-c", _SCRIPT, module],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Import(None, hangs=True)
    except OSError:
        return Import(None)
    try:
        # What the module itself prints stands before it.
        seconds, modules = done.stdout.rsplit(b"\n", 1)[-1].split()
        return Import(round(float(seconds), 4), int(modules))
    except (ValueError, IndexError):
        return Import(None)


def check_imports(case: Case, imports: dict[str, Import]) -> Iterator[Finding]:
    """Measure each provider's import; fills ``imports``."""
    for each in case.installed:
        found = measure(each)
        if found is None:
            continue
        name = each.record.name
        imports[name] = found
        if found.seconds is not None:
            what = f"importing it takes {found.seconds:.3f} s ({found.modules} modules)"
            if found.seconds < SLOW_SECONDS:
                yield ok("import", name, what)
            elif found.seconds < IMPORT_SECONDS:
                yield note("import", name, f"{what}: it is slow", _upgrade(each))
            else:
                yield problem("import", name, f"{what}: the others do not wait for it", _upgrade(each))
        elif found.hangs:
            what = f"importing it does not end within {LONGEST_SECONDS:.0f} s"
            yield problem("import", name, what, _upgrade(each))
        # One that raises is told with the provider's state.


def _upgrade(installed: Installed) -> str:
    module = installed.record.entry_point.partition(":")[0]
    return f"python -X importtime -c 'import {module}' shows where; upgrade {installed.record.distribution}"
