"""The plots of docs/performance.md: small SVGs that can be read on a light and on a dark page."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.figures import cpu_by_rate, latency_of, served_of
from benchmarks.senders import BASIS, OURS, SENDERS

__all__ = ["draw"]

_INK = "#1f2328"
_DARK = "#d1d7e0"
_OUR, _FLOOR, _OTHER, _CONTROL = "#2f81f7", "#8b949e", "#d1762d", "#8b949e"
#: What a page's reader with a dark theme gets instead of the ink.
_STYLE = (
    "<style>@media (prefers-color-scheme: dark) {"
    f' [style*="fill: {_INK}"] {{ fill: {_DARK} !important }}'
    f' [style*="stroke: {_INK}"] {{ stroke: {_DARK} !important }} }}</style>'
)
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "agent-tracking",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#8b949e",
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "savefig.transparent": True,
}


def draw(results: dict[str, Any], folder: Path) -> None:
    """Write those plots for which there are figures."""
    makers: dict[str, Callable[[dict[str, Any]], Figure | None]] = {
        "latency": _latency,
        "cpu": _cpu,
        "app": _app,
        "growth": _growth,
    }
    with mpl.rc_context(_SETTINGS):
        for name, maker in makers.items():
            figure = maker(results)
            if figure is not None:
                (folder / f"{name}.svg").write_text(_svg(figure))
                plt.close(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    start = text.index("<svg")
    head, rest = text[start:].split(">", 1)
    return f"{head}>{_STYLE}{rest}"


def _title(name: str) -> str:
    return SENDERS[name].title.replace("*", "")


def _color(name: str) -> str:
    if name in OURS:
        return _OUR
    return _FLOOR if name in BASIS else _OTHER


def _latency(results: dict[str, Any]) -> Figure | None:
    found = latency_of(results)
    if not found:
        return None
    names = list(reversed(found))
    figure, panels = plt.subplots(1, 2, figsize=(8.2, 0.27 * len(names) + 0.9), sharey=True)
    for axes, how, points in (
        (panels[0], "paced", ("p50", "p99", "max")),
        (panels[1], "tight", ("p50", "p99.9", "max")),
    ):
        for place, name in enumerate(names):
            values = [found[name][f"{how} {point}"] for point in points]
            color = _color(name)
            axes.plot(values, [place] * 3, color=color, linewidth=1.2)
            axes.plot(values[:1], [place], "o", color=color, markersize=5)
            axes.plot(values[1:2], [place], "|", color=color, markersize=9, markeredgewidth=1.6)
        axes.set_xscale("log")
        axes.grid(axis="x")
        axes.set_xlabel(f"µs, {how}: ● p50, | {points[1]}, end: longest")
    panels[0].set_yticks(range(len(names)), [_title(name) for name in names])
    return figure


def _cpu(results: dict[str, Any]) -> Figure | None:
    found = cpu_by_rate(results)
    if not found:
        return None
    figure, axes = plt.subplots(figsize=(6.4, 5.2))
    ends = []
    for name, by_rate in found.items():
        points = [(each["reached"], each["cpu"]) for each in by_rate.values() if each["cpu"] > 0]
        if points:
            style = {"linewidth": 2.2 if name in OURS else 1.1, "color": _color(name)}
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, **style)
            ends.append((points[0][1], _title(name), _color(name)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.spines["left"].set_visible(False)
    _label(axes, ends)
    axes.grid()
    axes.set_xlabel("events a second")
    axes.set_ylabel("CPU for each delivery, µs")
    return figure


def _label(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write names to the left of the lines, far enough from each other to be read."""
    axes.margins(y=0.1)
    lowest, highest = axes.get_ylim()
    step, above = (highest / lowest) ** 0.033, 0.0
    for value, title, color in sorted(ends):
        above = max(value, above * step)
        axes.text(
            -0.01,
            above,
            title,
            fontsize=7.5,
            ha="right",
            va="center",
            color=color,
            transform=axes.get_yaxis_transform(),
        )


def _app(results: dict[str, Any]) -> Figure | None:
    servers = {server: found for server, found in served_of(results).items() if len(found) > 1}
    if not servers:
        return None
    heights = [len(found) for found in servers.values()]
    size = (8.2, 0.27 * sum(heights) + 0.8 * len(heights))
    figure, rows = plt.subplots(
        len(servers), 2, figsize=size, squeeze=False, gridspec_kw={"height_ratios": heights, "hspace": 0.35}
    )
    for (server, found), panels in zip(servers.items(), rows, strict=True):
        names = [name for name in reversed(SENDERS) if name in found]
        for axes, key in zip(panels, ("throughput", "p99"), strict=True):
            values = [found[name][key] - 1 for name in names]
            axes.barh(range(len(names)), values, left=1, color=[_color(name) for name in names], height=0.6)
            axes.axvline(1, color=_INK, linewidth=0.8)
            axes.grid(axis="x")
            axes.set_xlabel(f"{server}: {key}, with tracking ÷ without")
            axes.set_yticks(
                range(len(names)), [_title(name) for name in names] if key == "throughput" else []
            )
    return figure


def _short(number: int) -> str:
    return f"{number / 1000:g}k" if number >= 1000 else str(number)


def _growth(results: dict[str, Any]) -> Figure | None:
    found = results.get("growth")
    if not found:
        return None
    titles = {
        "providers": "providers",
        "threads": "threads",
        "size": "bytes of an event",
        "waiting": "waiting",
    }
    figure, panels = plt.subplots(1, 5, figsize=(11, 2.4), gridspec_kw={"wspace": 0.35})
    for axes, (axis, title) in zip(panels, titles.items(), strict=False):
        points = found[axis]
        at = [point["at"] for point in points]
        axes.plot(at, [point["p50"] for point in points], marker="o", markersize=3, color=_OUR)
        axes.set_xscale("log")
        axes.set_xticks(at, [_short(each) for each in at], minor=False)
        axes.set_xticks([], minor=True)
        if max(point["p50"] for point in points) > 20:
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, max(point["p50"] for point in points) * 1.2)
        axes.set_xlabel(title)
        axes.grid()
    pythons = [point for point in found["python"] if "skipped" not in point]
    axes = panels[4]
    if pythons:
        places = range(len(pythons))
        axes.bar(places, [point["p50"] for point in pythons], color=_OUR, width=0.5)
        axes.plot(places, [point["floor"] for point in pythons], "_", color=_FLOOR, markersize=16)
        axes.set_xticks(places, [point["at"] for point in pythons])
        axes.set_xlabel("Python (line: floor)")
    else:
        axes.set_visible(False)
    panels[0].set_ylabel("µs for track(), p50")
    return figure
