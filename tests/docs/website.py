"""Build the documentation as a site, strictly, and check that it asks nothing of another host.

    uv run --group docs python -m tests.docs.website [FOLDER]

The folder is ``build/site`` unless one is named. The exit status is 1, with one line for each problem, if mkdocs
warns of anything (a link or an anchor that leads nowhere, a page outside of the navigation) or if a page would load
a script, a style, a font or a picture from elsewhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "docs" / "site" / "mkdocs.yml"
#: What a browser loads by itself: not the links that a reader may follow.
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=[\"']?((?:https?:)?//[^\"' >]+)"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon|dns-prefetch))[^>]*\bhref=[\"']?((?:https?:)?//[^\"' >]+)"
    r"|(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"') ]+)"
)


def build(folder: Path) -> int:
    """Run mkdocs; return its exit status, which is not 0 if it warns of anything."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--clean"]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    where = ["-f", str(CONFIGURATION), "-d", str(folder)]
    return subprocess.run([*command, *where], env=environ, cwd=ROOT, check=False).returncode


def outside(folder: Path) -> Iterator[str]:
    """Yield what the pages and styles of a site would load from another host."""
    for path in sorted([*folder.rglob("*.html"), *folder.rglob("*.css"), *folder.rglob("*.svg")]):
        for found in LOADED.finditer(path.read_text()):
            yield f"{path.relative_to(folder)}: {next(filter(None, found.groups()))}"


def main() -> int:
    """Build and check."""
    folder = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "build" / "site"
    if status := build(folder):
        return status
    found = list(outside(folder))
    for line in found:
        print(f"asks another host: {line}", file=sys.stderr)
    print(f"{len(list(folder.rglob('*.html')))} pages in {folder}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
