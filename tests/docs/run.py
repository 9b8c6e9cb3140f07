"""Run the code blocks of one page, from top to bottom, in an empty folder.

    python tests/docs/run.py docs/authors/write-one.md

The word after a fence says what happens to its block:

    python                  executed; the page's blocks share one namespace and reach no provider; await may stand
                            outside of a function, as in a notebook
    python title="a/b.py"   written to that file; so is a block of any other language that has a title
    console                 each line after ``$`` runs in bash, by itself; the lines below it must be its
                            output, where ``...`` stands for any text, and alone for any lines
    toml, json              parsed
    sh                      parsed: it is for the reader, since it installs something or does not end
    text                    nothing

``<!-- not run: reason -->`` on the line before a fence has Python parsed only. Whoever calls this chooses the
interpreter, and with it what is installed; nothing but the standard library is needed.
"""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FENCE = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?$')
NOT_RUN = re.compile(r"^<!-- not run: .{4,} -->$")
SECONDS = 120


class Block(NamedTuple):
    """One fenced block: its first line's number, what it is, its text."""

    line: int
    language: str
    title: str
    text: str
    run: bool


class Wrong(Exception):
    """A block does not do what the page says."""


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    lines = ["", *page.splitlines()]
    number = 0
    while (number := number + 1) < len(lines):
        if not lines[number].lstrip().startswith("```"):
            continue
        found = FENCE.match(lines[number])
        if found is None or "```" not in lines[number + 1 :]:
            raise Wrong(f"line {number}: {lines[number]!r} begins no block that {Path(__file__).name} knows")
        end = lines.index("```", number + 1)
        text = "".join(f"{line}\n" for line in lines[number + 1 : end])
        runs = not NOT_RUN.match(lines[number - 1])
        yield Block(number + 1, found["language"], found["title"] or "", text, runs)
        number = end


def commands_of(block: Block) -> Iterator[tuple[int, str, str]]:
    """Yield the commands of a console block, each with its line's number and the output expected."""
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    if parts[0] or len(parts) < 2:
        raise Wrong(f"line {block.line}: a console block begins with '$ '")
    line = block.line
    for part in parts[1:]:
        command, _, expected = part.partition("\n")
        while command.endswith("\\"):
            more, _, expected = expected.partition("\n")
            command += f"\n{more}"
        yield line, command, expected
        line += part.count("\n")


def matches(expected: str, output: str) -> bool:
    """Tell whether the output is what was expected; blanks at the ends of lines do not count."""
    pattern = ""
    for line in expected.splitlines():
        texts = [re.escape(text) for text in line.rstrip().split("...")]
        pattern += r"(?:.*\n)*" if line.strip() == "..." else ".*".join(texts) + r"\n"
    output = "".join(f"{line.rstrip()}\n" for line in output.rstrip().splitlines())
    return re.fullmatch(pattern, output) is not None


def run_console(block: Block, environ: Mapping[str, str]) -> None:
    for line, command, expected in commands_of(block):
        done = subprocess.run(
            ["bash", "-c", command],
            check=False,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        if not matches(expected, done.stdout):
            raise Wrong(f"line {line}: $ {command}\nshould say\n{expected}\nbut says\n{done.stdout}")


def run_python(block: Block, page: str, namespace: dict[str, Any]) -> None:
    text, flags = "\n" * (block.line - 1) + block.text, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(text, page, "exec", flags, dont_inherit=True)
    if block.run and (coroutine := eval(code, namespace)) is not None:
        asyncio.run(coroutine)


def parse(block: Block) -> None:
    """Check a block that is only shown."""
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "toml" and sys.version_info >= (3, 11):
        import tomllib

        tomllib.loads(block.text)
    elif block.language == "sh":
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    elif block.language not in {"text", "toml"}:
        raise Wrong(
            f"line {block.line}: nothing is known of {block.language!r} blocks; see {Path(__file__).name}"
        )


def write(block: Block) -> None:
    path = Path(block.title)
    if path.is_absolute() or ".." in path.parts:
        raise Wrong(f"line {block.line}: {block.title} is not in the page's folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text)


def run(page: Path) -> int:
    """Run every block of the page; return how many there are."""
    text, count, namespace = page.read_text(), 0, {"__name__": "__main__"}
    outside = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_TRACKING_")}
    outside["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{outside.get('PATH', '')}"
    os.environ["AGENT_TRACKING_PROVIDERS"] = "none"
    for block in blocks_of(text):
        count += 1
        if block.title:
            write(block)
        elif block.language == "python":
            run_python(block, page.name, namespace)
        elif block.language == "console":
            run_console(block, outside)
        else:
            parse(block)
    return count


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as room:
        os.chdir(room)
        try:
            print(f"{run(where)} blocks")
        except Wrong as wrong:
            sys.exit(f"{where.name}, {wrong}")
        finally:
            os.chdir("/")
