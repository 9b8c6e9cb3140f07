"""What pytest's terminal and ``--conformance-report=FILE`` say of the classes that ran."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

__all__ = ["Report"]

_NAME = "agent_tracking_conformance"
_ROW = "agent_tracking_conformance"


class Report:
    """A pytest plugin; registers itself at the first test of a conformance class."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        #: By the class's name: its row, as the JSON file has it.
        self.rows: dict[str, dict[str, Any]] = {}

    @classmethod
    def of(cls, config: pytest.Config) -> Report:
        """Return the one report of this run."""
        found = config.pluginmanager.get_plugin(_NAME)
        if not isinstance(found, Report):
            found = cls(config)
            config.pluginmanager.register(found, _NAME)
        return found

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add to a test's report which class it belongs to: it may have run in another process."""
        report = yield
        kit = getattr(item, "cls", None)
        if hasattr(kit, "capabilities") and hasattr(kit, "exceptions"):
            setattr(report, _ROW, _described(kit, item))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Enter one outcome."""
        given = getattr(report, _ROW, None)
        if given is None or (report.when != "call" and report.outcome == "passed"):
            return
        place = report.nodeid.rpartition("::")[0]
        row = self.rows.setdefault(place, {**given["class"], "passed": 0, "failed": [], "exceptions": []})
        name = report.nodeid.rpartition("::")[2]
        if given["reason"]:
            row["exceptions"].append(
                {"test": name, "reason": given["reason"], "outcome": _outcome(report, given["replaced"])}
            )
        elif report.outcome == "passed":
            row["passed"] += 1
        if report.outcome == "failed":
            row["failed"].append(name)
        row["ok"] = not row["failed"]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:  # noqa: ANN401  pytest's own, private
        """Show a line for each class, and one for each exception."""
        if not self.rows:
            return
        terminalreporter.section("conformance of providers")
        for place, row in self.rows.items():
            counts = [f"{row['passed']} rules hold"]
            counts += [f"{len(row[kind])} {kind}" for kind in ("failed", "exceptions") if row[kind]]
            terminalreporter.line(f"{row['provider']} ({place}): {', '.join(counts)}")
            for each in row["exceptions"]:
                terminalreporter.line(f"    {each['test']} {each['outcome']}: {each['reason']}")

    def pytest_sessionfinish(self) -> None:
        """Write the JSON file, if one is asked for."""
        path = self._config.getoption("conformance_report", None)
        if path and not hasattr(self._config, "workerinput"):
            body = {"providers": [{"class": place, **row} for place, row in self.rows.items()]}
            Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(body)) + b"\n")


def _described(kit: Any, item: pytest.Item) -> dict[str, Any]:  # noqa: ANN401  a class of the suite
    from agent_tracking.testing.conformance.base import left_out, overridden

    test = getattr(item, "originalname", item.name)
    return {
        "class": {
            "provider": kit.provider.name,
            "claims": msgspec.to_builtins(kit.capabilities),
            "not_claimed": {name: " ".join(needs) for name, needs in left_out(kit).items()},
        },
        "reason": kit.exceptions.get(test) or kit.exceptions.get(item.name) or "",
        "replaced": test in overridden(kit),
    }


def _outcome(report: pytest.TestReport, replaced: bool) -> str:
    if replaced:
        return f"is the author's own and {'holds' if report.outcome == 'passed' else 'fails'}"
    return "is expected to fail" if report.outcome == "skipped" else "holds now: take it out of exceptions"
