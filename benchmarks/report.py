"""The tables: printed, and put into the pages between their markers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import cpu_by_rate, imports_of, latency_of, served_of, targets
from benchmarks.senders import SENDERS

__all__ = ["DOCUMENT", "FIGURES", "RESULTS", "page", "sections", "trust", "write"]

_DOCS = Path(__file__).parents[1] / "docs"
DOCUMENT = _DOCS / "performance.md"
FIGURES = (_DOCS / "performance" / "figures.md", _DOCS / "performance" / "growth.md")
RESULTS = _DOCS / "performance" / "results.json"
_MARK = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- /measured -->)", re.DOTALL)
_AXES = {
    "providers": "providers",
    "threads": "threads that call at once",
    "size": "bytes of an event",
    "waiting": "events that wait",
    "python": "Python",
}


def sections(results: dict[str, Any]) -> dict[str, str]:
    """Return each table as Markdown, by the name of its markers."""
    makers = {
        "about": _about,
        "targets": _targets,
        "latency": _latency,
        "load": _load,
        "app": _app,
        "memory": _memory,
        "backlog": _backlog,
        "imports": _imports,
        "growth": _growth,
        "instructions": _instructions,
    }
    return {name: maker(results) for name, maker in makers.items()}


def page(results: dict[str, Any]) -> str:
    """Return everything that was measured, to be printed."""
    return "\n\n".join(f"## {name}\n\n{text}" for name, text in sections(results).items() if text)


def write(results: dict[str, Any], documents: Sequence[Path] = (DOCUMENT, *FIGURES)) -> None:
    """Replace what stands between the markers of the pages."""
    made = sections(results)
    for document in documents:
        document.write_text(
            _MARK.sub(
                lambda match: f"{match[1]}\n{made[match[2]] or 'Not measured.'}\n\n{match[3]}",
                document.read_text(),
            )
        )


def trust(results: dict[str, Any]) -> str:
    """Return in one line whether the figures are to be believed, and the control."""
    controls = ", ".join(f"{server} {ratio:.3f}" for server, ratio in results["controls"].items())
    said = f"control, an empty call in place of track(), with ÷ without: {controls or 'not run'}"
    if results["doubts"]:
        return f"THE MACHINE WAS TOO BUSY, do not believe the times: {'; '.join(results['doubts'])} ({said})"
    return said


def _about(results: dict[str, Any]) -> str:
    about, watched = results["about"], results["watched"]
    versions = ", ".join(f"{name} {found}" for name, found in about["versions"].items())
    foreign = "" if watched["foreign"] is None else f", others used {watched['foreign']:.1%} of it meanwhile"
    said = trust(results)
    first = (
        f"{about['date']}, CPython {about['python']}, {about['system']}, {about['cpu']}, {about['cores']} cores;"
        f" load average before {watched['load']:.2f}{foreign}; {results['minutes']:.0f} minutes"
        f"{' (the quick way: fewer and shorter rounds)' if results['quick'] else ''}. {versions}."
    )
    second = f"**{said}.**" if results["doubts"] else f"{said[0].upper()}{said[1:]}."
    skipped = [f"Not measured: {name}: {why}." for name, why in results.get("skipped", {}).items()]
    return "\n\n".join([first, second, *skipped])


def _targets(results: dict[str, Any]) -> str:
    if not {"latency", "load", "app"} & set(results["parts"]):
        return ""
    words = {True: "yes", False: "**no**", None: "too close to tell"}
    rows = [
        (
            each.what,
            each.limit,
            _number(each.got) + (f" ± {each.error:.3f}" if each.error else ""),
            _number(each.floor),
            _number(each.got / each.floor if each.got is not None and each.floor else None),
            words[each.met] if each.got is not None else "-",
        )
        for each in targets(results)
    ]
    return _table(("", "target", "measured", "floor", "measured ÷ floor", "met"), rows)


def _latency(results: dict[str, Any]) -> str:
    rows = []
    for name, found in latency_of(results).items():
        deliveries = int(found["calls"]) * SENDERS[name].copies
        lost = f"{found['lost']:,.0f} of {deliveries:,}" if deliveries else "-"
        if found["too_many"]:
            lost += f", {found['too_many']:,.0f} twice"
        columns = ("first", "paced p50", "paced p99", "paced max", "tight p50", "tight p99.9", "tight max")
        rows.append(
            (
                SENDERS[name].title,
                *(_number(found[column]) for column in columns),
                lost,
                _number(found["requests"]),
            )
        )
    heads = (
        "µs",
        "first",
        "paced p50",
        "p99",
        "max",
        "tight p50",
        "p99.9",
        "max",
        "lost",
        "requests per 1,000",
    )
    return _table(heads, rows)


def _load(results: dict[str, Any]) -> str:
    found = cpu_by_rate(results)
    rates = list(dict.fromkeys(rate for each in found.values() for rate in each))
    rows = []
    for name, by_rate in found.items():
        cells = []
        for rate in rates:
            each = by_rate.get(rate)
            slow = each is not None and each["reached"] < 0.9 * float(rate)
            cells.append(
                "-"
                if each is None
                else _number(each["cpu"]) + (f" ({each['reached']:,.0f}/s)" if slow else "")
            )
        lost = 1 - next(iter(by_rate.values()))["share"]
        rows.append((SENDERS[name].title, *cells, f"{lost:.0%}" if lost else "0"))
    table = _table(("µs per delivery", *(f"{int(rate):,}/s" for rate in rates), "lost"), rows)
    relay = [
        row["relay_cpu"] / row["delivered"]
        for row in results.get("load", {}).get("relay", ())
        if row["delivered"]
    ]
    if not relay:
        return table
    beside = (
        f"The relay's own process used {_number(min(relay) * 1e6)} µs for each delivery, its start included."
    )
    return f"{table}\n\n{beside}"


def _app(results: dict[str, Any]) -> str:
    rows = [
        (
            server,
            SENDERS[name].title,
            f"{each['throughput']:.3f} ± {each['error']:.3f}",
            f"{each['p50']:.3f}",
            f"{each['p99']:.3f}",
            *_added(each),
        )
        for server, found in served_of(results).items()
        for name, each in sorted(found.items(), key=lambda item: list(SENDERS).index(item[0]))
    ]
    heads = (
        "server",
        "with ÷ without",
        "throughput",
        "p50",
        "p99",
        "µs added to a request",
        "behind it",
        "together",
    )
    work = [
        1e6 / turn["throughput"]
        for served in results.get("app", {}).values()
        for row in served
        for turn in row["turns"]
        if turn["path"] == "/off"
    ]
    about = f"Without tracking a request takes {min(work) / 1000:.2f} ms at best." if work else ""
    return "\n\n".join(part for part in (_table(heads, rows), about) if part)


def _added(each: Mapping[str, float]) -> tuple[str, str, str]:
    """Return what a call adds to its request, what other threads do for it, and both as a share of the request."""
    if "request" not in each:
        return "-", "-", "-"
    request, behind = each["request"], each["behind"]
    share = (request + behind) / each["whole"]
    return f"{request:.1f} ± {each['request_error']:.1f}", f"{behind:.1f}", f"{share:.1%}"


def _memory(results: dict[str, Any]) -> str:
    rows = [
        (SENDERS[name].title, f"{row['bytes'] / 1e6:.0f}", f"{row['lost']:,}", _number(row["tight"]["p50"]))
        for name, found in results.get("memory", {}).items()
        for row in found
    ]
    waiting = "100,000" if not results["quick"] else "10,000"
    return _table(("", f"MB for {waiting} calls, backends silent", "lost", "µs for a call then"), rows)


def _backlog(results: dict[str, Any]) -> str:
    found = results.get("backlog")
    if not found:
        return ""
    drained = [
        (
            f"{row['records']:,}",
            f"{row['rate']:,.0f}",
            _number(row["cpu"]),
            f"{row['megabytes']:.0f}",
            f"{row['lost']:,}",
        )
        for row in found["drain"]
    ]
    opened = [(f"{row['gigabytes']:g}", f"{row['seconds']:.2f}") for row in found["open"]]
    heads = (
        "records that wait, for four providers each",
        "deliveries a second",
        "CPU of each, µs",
        "MB",
        "lost",
    )
    written = (
        f"Written in groups of {found['write']['group']}, a record costs the application"
        f" {_number(found['write']['cpu'])} µs of CPU, `track()` included; the floor {_number(found['write']['floor'])} µs,"
        f" and {_number(found['write']['careful'])} µs when it looks at the data and writes checksums, too."
    )
    first = ("GB in the spool", "seconds from the start to the first delivery")
    return "\n\n".join((_table(heads, drained), _table(first, opened), written))


def _imports(results: dict[str, Any]) -> str:
    return _table(("import", "ms"), [(name, f"{value:.1f}") for name, value in imports_of(results).items()])


def _growth(results: dict[str, Any]) -> str:
    tables = []
    for axis, points in results.get("growth", {}).items():
        rows = [_point(point) for point in points if "skipped" not in point]
        if rows:
            extra = {
                "providers": "CPU per delivery",
                "size": "CPU per delivery",
                "threads": "wall per call",
                "waiting": "MB",
                "python": "CPU per delivery ÷ floor's",
            }[axis]
            tables.append(_table((_AXES[axis], "`track()` p50, µs", "p99", extra, "lost"), rows))
        tables += [f"Python {point['at']}: {point['skipped']}." for point in points if "skipped" in point]
    return "\n\n".join(tables)


def _point(point: Mapping[str, Any]) -> tuple[str, ...]:
    at = f"{point['at']:,}" if isinstance(point["at"], int) else str(point["at"])
    extra = point.get("cpu", point.get("wall"))
    if "bytes" in point:
        extra = point["bytes"] / 1e6
    if "floor_cpu" in point:
        return (
            at,
            _number(point["p50"]),
            _number(point["p99"]),
            f"{extra / point['floor_cpu']:.2f}",
            str(point["lost"]),
        )
    return (at, _number(point["p50"]), _number(point["p99"]), _number(extra), f"{point['lost']:,}")


def _instructions(results: dict[str, Any]) -> str:
    found = results.get("instructions")
    if not found:
        return ""
    if "skipped" in found:
        return f"Not counted: {found['skipped']}."
    rows = [(name, f"{value:,.0f}") for name, value in found["instructions"].items()]
    return _table((f"CPython {found['build']['python']}", "instructions"), rows)


def _number(value: float | None) -> str:
    """Return three figures, no more: the machine gives no more."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.{2 if abs(value) >= 1 else 3}f}".rstrip("0").rstrip(".") or "0"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines])
