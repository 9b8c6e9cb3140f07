"""Measure everything, or the parts that are named; print a table.

    python -m benchmarks [PART ...] [--quick] [--write] [--only SENDER,...] [--json FILE]

Needs the dependency group ``bench``. Exit status 3: the machine was too busy to believe the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.plan import FULL, PARTS, QUICK
from benchmarks.report import DOCUMENT, RESULTS, page, trust
from benchmarks.run import measure_all
from benchmarks.senders import SENDERS


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    options = _options(argv)
    if options.from_json:
        results = json.loads(options.from_json.read_text())
    else:
        plan = QUICK if options.quick else FULL
        if not options.parts and not options.only:
            print(f"expected: about {plan.expected:g} minutes on a quiet machine", file=sys.stderr)
        results = measure_all(options.parts or PARTS, plan, options.only)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    print(page(results))
    if options.write:
        from benchmarks.plots import draw
        from benchmarks.report import write

        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        draw(results, RESULTS.parent)
        write(results)
        print(f"written: {DOCUMENT.name}, plots and raw figures in {RESULTS.parent.name}/", file=sys.stderr)
    print(trust(results), file=sys.stderr)
    return 3 if results["doubts"] else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What tracking costs, measured."
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them by default"
    )
    parser.add_argument("--quick", action="store_true", help=f"about {QUICK.expected:g} minutes, less exact")
    parser.add_argument("--write", action="store_true", help="put tables and plots into docs/performance.md")
    parser.add_argument("--only", default="", help="only these senders, comma-separated")
    parser.add_argument("--json", type=Path, help="also write the raw figures to this file")
    parser.add_argument("--from-json", type=Path, help="measure nothing: report the raw figures of this file")
    options = parser.parse_args(argv)
    options.only = [name for name in options.only.split(",") if name]
    for given, known, what in ((options.parts, PARTS, "part"), (options.only, SENDERS, "sender")):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"there is no {what} {unknown[0]!r}; there are {', '.join(known)}")
    if options.write and not options.from_json and (options.quick or options.parts or options.only):
        parser.error("--write takes the whole measurement: leave out parts, --quick and --only")
    return options


if __name__ == "__main__":
    sys.exit(main())
