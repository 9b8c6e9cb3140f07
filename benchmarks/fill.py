"""An application whose relay is down: fills the spool that the environment names.

    python -m benchmarks.fill RECORDS GROUP

tracks so many, and waits after each ``GROUP`` until they are on the disk.
"""

from __future__ import annotations

import sys

from agent_tracking import flush, track
from benchmarks.event import NAME, PROPERTIES, USER

__all__ = ["fill"]


def fill(records: int, group: int) -> None:
    """Track so many; after each group wait until it is on the disk."""
    for start in range(0, records, group):
        for _ in range(min(group, records - start)):
            track(NAME, PROPERTIES, user_id=USER)
        if not flush(60):
            raise RuntimeError("the spool does not take the records")


if __name__ == "__main__":
    fill(int(sys.argv[1]), int(sys.argv[2]))
