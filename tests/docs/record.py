"""Record what commands show on a terminal, as pictures for the pages.

    python -m tests.docs.record            runs each command and writes docs/recordings/*.svg
    python -m tests.docs.record --check    says which pictures no longer show what the commands do

Each command runs under a pseudo-terminal of its own, 100 columns wide, against a local stand-in for the backends. Two
runs differ in their numbers, so a picture is compared by its shape: its words, line by line, with every number
the same. The four providers have to be installed, as they are in a checkout's environment.
"""

from __future__ import annotations

import fcntl
import html
import os
import platform
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from difflib import unified_diff
from functools import cache
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

from agent_tracking.testing import SinkProcess

FOLDER = Path(__file__).parents[2] / "docs" / "recordings"
COLUMNS, ROWS = 100, 120
#: What each picture shows: the arguments of agent-tracking, and how the first line begins that is shown.
PICTURES = {
    "demo": (("demo",), " provider "),
    "demo-requests": (("demo",), ""),
    "doctor": (("doctor", "--send"), ""),
}
#: Of rich's picture everything but its fonts, which it would load from another host.
PICTURE = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <desc>%s</desc>
    <style>
    .{unique_id}-matrix {{
        font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
        font-size: {char_height}px; line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: system-ui, sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def environ_of(sink: SinkProcess) -> dict[str, str]:
    """Return the variables of a command: one provider that works, and one variable that is misspelt."""
    here = str(Path(sys.executable).parent)
    return {
        "PATH": os.pathsep.join((here, "/usr/bin", "/bin")),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        **sink.environ("posthog"),
        "MIXPANEL_TOKN": "a-token",
    }


@cache
def run(arguments: tuple[str, ...]) -> bytes:
    """Return what a command writes to its terminal, without what is of this machine alone."""
    command = [str(Path(sys.executable).with_name("agent-tracking")), *arguments]
    with SinkProcess() as sink, tempfile.TemporaryDirectory() as room:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(
            command, cwd=room, env=environ_of(sink), stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        written = b"".join(_chunks(ours))
        os.close(ours)
        process.wait(60)
    for own, neutral in (
        (sys.executable, "/srv/shop/.venv/bin/python"),
        (platform.platform(), "Linux-x86_64"),
    ):
        written = written.replace(own.encode(), neutral.encode())
    return written


def _chunks(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:  # Linux says EIO when the other end is closed
            return
        if not chunk:
            return
        yield chunk


def screen_of(written: bytes, first: str = "") -> list[Text]:
    """Return what stands on the screen in the end, line by line, from the one that begins with ``first``."""
    screen = pyte.Screen(COLUMNS, ROWS)
    pyte.ByteStream(screen).feed(written)
    lines = []
    for row in range(ROWS):
        line = Text(no_wrap=True)
        cells = [screen.buffer[row][column] for column in range(COLUMNS)]
        for style, same in groupby(cells, _style):
            line.append("".join(cell.data for cell in same), style)
        line.rstrip()
        lines.append(line)
    while lines and not lines[-1].plain:
        lines.pop()
    begins = next((number for number, line in enumerate(lines) if line.plain.startswith(first)), 0)
    return lines[begins:]


def _style(cell: pyte.screens.Char) -> Style:
    colour = {"default": None, "brown": "yellow"}.get(cell.fg, cell.fg)
    if colour is not None:
        colour = colour.replace("bright", "bright_") if colour.startswith("bright") else colour
        colour = f"#{colour}" if re.fullmatch("[0-9a-f]{6}", colour) else colour
    return Style(color=colour, bold=cell.bold, italic=cell.italics, reverse=cell.reverse)


def picture(title: str, lines: list[Text]) -> str:
    """Return the screen as an SVG; its text is in ``<desc>`` too."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        for line in lines:
            console.print(line, soft_wrap=True)
    words = html.escape("\n".join(line.plain for line in lines))
    template = PICTURE % words.replace("{", "{{").replace("}", "}}")
    drawn = console.export_svg(
        title=title, theme=MONOKAI, code_format=template, unique_id=title.replace(" ", "-")
    )
    return "".join(f"{line.rstrip()}\n" for line in drawn.splitlines())


def words_of(drawn: str) -> str:
    """Return the text that a picture shows."""
    return html.unescape(drawn.partition("<desc>")[2].partition("</desc>")[0])


def shape(words: str) -> list[str]:
    """Return the words line by line, without what differs from run to run and from machine to machine."""
    shapes = (_shape(line) for line in words.splitlines())
    return [line for line in shapes if line and "python" not in line.lower()]


def _shape(line: str) -> str:
    without_ids = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "ID", line)
    without_numbers = re.sub(r"(?<![A-Za-z])[0-9][0-9.,:TZ-]*", "#", without_ids)
    return " ".join(re.sub(r"[─━╸╺]+", "-", without_numbers).split())


def stale(name: str) -> list[str]:
    """Return how a picture differs from what its command shows; nothing if one of three runs is like it."""
    path = FOLDER / f"{name}.svg"
    arguments, first = PICTURES[name]
    old = shape(words_of(path.read_text())) if path.exists() else []
    difference: list[str] = []
    for _ in range(3):  # on a busy machine an import may be slow enough to be told
        new = shape("\n".join(line.plain for line in screen_of(run(arguments), first)))
        difference = list(unified_diff(old, new, f"{name}.svg", "now", lineterm=""))
        if not difference:
            break
        run.cache_clear()
    return difference


def record(name: str) -> None:
    """Run a picture's command and draw what it shows."""
    arguments, first = PICTURES[name]
    lines = screen_of(run(arguments), first)
    if any(sys.prefix in line.plain for line in lines):
        sys.exit(f"{name}: a path of this machine is on the screen: {sys.prefix}")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.svg").write_text(picture(f"agent-tracking {' '.join(arguments)}", lines))


def main() -> int:
    """Record, or check what is recorded."""
    if "--check" not in sys.argv:
        for name in PICTURES:
            record(name)
        return 0
    differences = [line for name in PICTURES for line in stale(name)]
    print(*differences, sep="\n")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
