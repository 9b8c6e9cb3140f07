"""Makes the packages of tests/samples importable, here and in the processes that the suite starts."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in sorted((Path(__file__).parents[1] / "samples").glob("*/src")):
    sys.path.append(str(folder))
