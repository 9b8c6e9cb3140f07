"""An application whose relay is down: fills the spool that the environment names.

    python -m benchmarks.fill RECORDS GROUP

tracks so many, waits after each ``GROUP`` until they are on the disk, and prints the CPU seconds of the process.
"""

from __future__ import annotations

import sys

from agent_tracking import flush, track
from benchmarks.event import NAME, PROPERTIES, USER
from benchmarks.pace import cpu_seconds

__all__ = ["fill"]


def fill(records: int, group: int) -> float:
    """Track, and return CPU seconds."""
    track(NAME, PROPERTIES, user_id=USER)
    flush(60)
    before = cpu_seconds()
    for start in range(1, records, group):
        for _ in range(min(group, records - start)):
            track(NAME, PROPERTIES, user_id=USER)
        if not flush(60):
            raise RuntimeError("the spool does not take the records")
    return cpu_seconds() - before


if __name__ == "__main__":
    print(fill(int(sys.argv[1]), int(sys.argv[2])))
