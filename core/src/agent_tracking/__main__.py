"""``python -m agent_tracking``: the same as ``agent-tracking``."""

from __future__ import annotations

from agent_tracking.cli import main

if __name__ == "__main__":
    main()
