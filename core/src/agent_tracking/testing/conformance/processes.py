"""Runs the probe: a Python process that sees what this one sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_tracking.testing.conformance.base import Kit

__all__ = ["run"]

_SECONDS = 90.0


def run(
    kit: Kit, command: str, environ: Mapping[str, str], *, path: str = "", **variables: str
) -> dict[str, Any]:
    """Run one command of the probe in a process of its own and return what it found.

    Args:
        kit: the test's class.
        command: see :mod:`agent_tracking.testing.conformance.probe`.
        environ: the provider's variables; they go through standard input, where nobody reads them.
        path: one more folder to import from.
        variables: of the process's environment.
    """
    module, qualname = kit.provider.__module__, kit.provider.__qualname__
    given = {"module": module, "qualname": qualname, "environ": dict(environ)}
    folders = [path] if path else []
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AGENT_TRACKING_", "COV_CORE_"))
    }
    done = subprocess.run(  # noqa: S603  this Python, this package
        [sys.executable, "-m", "agent_tracking.testing.conformance.probe", command],
        input=json.dumps(given),
        env={**own, "PYTHONPATH": os.pathsep.join([*folders, *filter(None, sys.path)]), **variables},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    kit.hold(
        done.returncode == 0,
        f"a process that imports {module}:{qualname} ended with {done.returncode}:\n{done.stderr[-2000:]}",
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
