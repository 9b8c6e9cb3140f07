"""The command line: ``agent-tracking``, and ``python -m agent_tracking``.

It needs click and rich, which servers do without: ``pip install 'agent-tracking[cli]'``.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from io import TextIOWrapper

__all__ = ["main"]


def main() -> None:
    """Run the command line; the exit status is 2 where click and rich are not installed."""
    if not all(map(find_spec, ("click", "rich"))):
        sys.stderr.write("the command line needs click and rich: pip install 'agent-tracking[cli]'\n")
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without "✓" gets "?", not a traceback
    from agent_tracking.cli.app import app

    app(prog_name="agent-tracking")
