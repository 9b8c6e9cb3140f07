"""Checks of ``AGENT_TRACKING_*``."""

from __future__ import annotations

from collections.abc import Iterator

from agent_tracking.cli.doctor.findings import Case, Finding, note, ok, problem
from agent_tracking.settings import VARIABLES

__all__ = ["check_settings"]


def check_settings(case: Case) -> Iterator[Finding]:
    """Tell every setting that cannot be read, and what else was said while looking."""
    for error in case.problems:
        variable = next((name for name in VARIABLES if error.reason.startswith(f"{name} ")), "settings")
        yield problem("settings", variable, error.reason, error.fix)
    for text in case.notes:
        what, _, fix = text.partition(": ")
        yield problem("settings", _named(text), what, fix or "see what it names")
    if case.settings.disabled:
        yield note(
            "settings",
            "AGENT_TRACKING_DISABLED",
            "it is on: nothing is tracked and no provider is loaded",
            "unset AGENT_TRACKING_DISABLED",
        )
    if not case.problems and not case.notes:
        given = [name for name in VARIABLES if case.environ.get(name, "").strip()]
        yield ok("settings", "AGENT_TRACKING_*", f"all can be read; set: {', '.join(given) or 'none'}")


def _named(text: str) -> str:
    word = text.split(" ", 1)[0]
    return word if word in VARIABLES else "packages"
