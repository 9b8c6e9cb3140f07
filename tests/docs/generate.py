"""Rewrite what the pages in docs/ take from the code: the sections between two markers.

    python -m tests.docs.generate            rewrites them
    python -m tests.docs.generate --check    says which are out of date; the exit status is then 1

Needs the four providers installed, as they are in a checkout's environment.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import msgspec
from importlib_metadata import entry_points

from agent_tracking import http_provider
from agent_tracking.counters import REASONS
from agent_tracking.discovery import FIRST_PARTY, GROUP
from agent_tracking.hookspecs import HookSpecs
from agent_tracking.provider import EnvVar, Provider
from agent_tracking.settings import VARIABLES, Settings, SpoolSync

DOCS = Path(__file__).parents[2] / "docs"
SECTION = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def hooks() -> str:
    """Every hook with its signature and its docstring."""
    return "\n".join(_function(hook, "##") for name, hook in vars(HookSpecs).items() if name[0] != "_")


def methods() -> str:
    """What the author of an HTTP provider writes, beside ``configure`` of every provider."""
    http = http_provider.HTTPProvider
    return "\n".join(
        _function(each, "###") for each in (Provider.configure, http.encode, http.request, http.judge)
    )


def structs() -> str:
    """The classes that ``encode``, ``request`` and ``judge`` take and return."""
    found = [getattr(http_provider, name) for name in http_provider.__all__]
    return "\n".join(
        _struct(each) for each in found if isinstance(each, type) and issubclass(each, msgspec.Struct)
    )


def variable() -> str:
    """``EnvVar``."""
    return _struct(EnvVar)


def settings() -> str:
    """The table of ``AGENT_TRACKING_*``."""
    told = _arguments(inspect.getdoc(Settings) or "")
    defaults = Settings()
    rows = [
        (name, _default(getattr(defaults, field)), told[field])
        for name in VARIABLES
        for field in [name.removeprefix("AGENT_TRACKING_").lower()]
    ]
    return _table(("variable", "default", "meaning"), [(f"`{name}`", *rest) for name, *rest in rows])


def providers() -> str:
    """A table of variables for each of the four providers."""
    names = [distribution.removeprefix("agent-tracking-") for distribution in FIRST_PARTY.values()]
    classes = {point.name: point.load() for point in entry_points(group=GROUP) if point.name in names}
    return "\n".join(f"### {name}\n\n{_variables(classes[name].env)}" for name in names)


def reasons() -> str:
    """The table of the reasons for which records are dropped."""
    return _table(("reason", "meaning"), [(f"`{name}`", _inline(told)) for name, told in REASONS.items()])


def _variables(declared: list[EnvVar]) -> str:
    rows = [
        (
            f"`{var.name}`",
            ", ".join(word for word in ("required", "secret") if getattr(var, word)),
            f"`{var.default}`" if var.default else "-",
            var.help,
        )
        for var in declared
    ]
    return _table(("variable", "", "default", "meaning"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n".replace("|  |", "| |") for cells in lines)


def _default(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value == ():
        return "-"
    if isinstance(value, SpoolSync):
        return f"{value.seconds:g}{',fsync' if value.fsync else ''}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _function(function: Callable[..., object], level: str) -> str:
    arguments = [name for name in inspect.signature(function).parameters if name != "self"]
    text = _markdown(inspect.getdoc(function) or "")
    return f"{level} `{function.__name__}({', '.join(arguments)})`\n\n{text}\n"


def _struct(cls: type[msgspec.Struct]) -> str:
    fields = []
    for field in msgspec.structs.fields(cls):
        default = field.default
        if default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        fields.append(field.name if default is msgspec.NODEFAULT else f"{field.name}={default!r}")
    doc = inspect.getdoc(cls) or ""
    text = _markdown(doc.partition("\nArgs:\n")[0].strip())
    items = [f"- `{name}`: {meaning}\n" for name, meaning in _arguments(doc).items()]
    return f"### `{cls.__name__}({', '.join(fields)})`\n\n{text}\n" + ("\n" if items else "") + "".join(items)


def _arguments(doc: str) -> dict[str, str]:
    """Return what the section ``Args`` or ``Attributes`` says of each name."""
    found = re.search(r"^(?:Args|Attributes):\n((?:    .*\n?)+)", doc, re.MULTILINE)
    section = dedent(found[1]) if found else ""
    meanings: dict[str, str] = {}
    for line in re.sub(r"\n {4,}", " ", section).splitlines():  # an item's further lines are indented
        names, _, meaning = line.partition(": ")
        for name in names.split(", "):
            meanings[name] = _inline(meaning)
    return meanings


def _markdown(doc: str) -> str:
    """Return a docstring as Markdown: an indented text after ``::`` is a Python block."""
    return "\n\n".join(_paragraphs(_inline(doc)))


def _paragraphs(text: str) -> Iterator[str]:
    for part in re.split(r"\n\n(?=\S)", text):
        words, mark, code = part.partition("::\n\n")
        if mark and code.startswith("    "):
            yield f"{words}:"
            yield f"```python\n{dedent(code).strip()}\n```"
        else:
            yield part


def _inline(text: str) -> str:
    text = re.sub(r":\w+:`~?(?:agent_tracking\.)?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`").replace("|", "\\|")


MAKERS = {each.__name__: each for each in (hooks, methods, structs, variable, settings, providers, reasons)}


def rewritten(page: str) -> str:
    """Return the page with its sections as they should be."""
    return SECTION.sub(lambda found: f"{found[1]}\n{MAKERS[found[2]]()}\n{found[3]}", page)


def main() -> int:
    """Rewrite the pages, or say which of them are out of date."""
    old = [path for path in sorted(DOCS.rglob("*.md")) if rewritten(path.read_text()) != path.read_text()]
    for path in old:
        if "--check" not in sys.argv:
            path.write_text(rewritten(path.read_text()))
        print(path.relative_to(DOCS.parent))
    return 1 if old and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
