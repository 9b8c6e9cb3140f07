"""Importing the provider's module, and making the provider, cost next to nothing and change nothing."""

from __future__ import annotations

from typing import Any

from agent_tracking.testing.conformance import processes
from agent_tracking.testing.conformance.base import Kit
from agent_tracking.testing.conformance.bench import Bench

__all__ = ["ImportTests"]

#: Seconds that importing the provider may take however fast the machine is.
_FLOOR = 0.1
_RUNS = 3


class ImportTests(Kit):
    """An application imports every installed provider: each must be cheap and quiet."""

    def test_importing_it_starts_nothing_and_changes_nothing(self, bench: Bench) -> None:
        """While it is imported no thread starts, no socket is made, nothing sleeps, nothing is changed.

        The root logger's handlers, the signal handlers, the environment, the hooks of ``sys`` are those
        of the application.

        If it fails: move what the message names from the module's level into a function that runs when
        there is something to deliver.
        """
        self._check(processes.run(self, "imports", bench.environ)["import"], "importing it")

    def test_importing_it_imports_no_http_client_and_no_kit_of_a_vendor(self, bench: Bench) -> None:
        """An HTTP client costs tens of milliseconds and megabytes, also where the provider is inactive.

        If it fails: let the core send (``HTTPProvider``), or import the client in the function that
        needs it.
        """
        found = processes.run(self, "imports", bench.environ)
        self.hold_nothing(found["import"]["clients"], "importing it imports")

    def test_importing_it_takes_no_time(self, bench: Bench) -> None:
        """It takes at most twice as long as importing what every provider needs of the core.

        Or a tenth of a second. The best of three counts: machines are busy.

        If it fails: ``python -X importtime -c 'import your_package'`` shows what takes long.
        """
        runs = []
        for _ in range(_RUNS):
            found = processes.run(self, "imports", bench.environ)
            own, bound = found["import"]["seconds"], max(_FLOOR, 2 * found["control"]["seconds"])
            if own <= bound:
                return
            runs.append(f"{own:.2f} s, where {bound:.2f} would do")
        self.hold(False, f"importing it took {'; '.join(runs)}")

    def test_making_it_starts_nothing_and_changes_nothing(self, bench: Bench) -> None:
        """Making the provider starts no thread, makes no connection and changes nothing.

        It happens in a process that may fork afterwards, and for a provider that may never be used.

        If it fails: move what the message names from ``configure`` to the first ``track`` or ``flush``.
        """
        self._check(processes.run(self, "imports", bench.environ)["make"], "making it")

    def _check(self, found: dict[str, Any], what: str) -> None:
        self.hold_nothing(found["did"], what)
        self.hold_nothing(found["changed"], f"{what} changes")
