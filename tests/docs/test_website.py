"""The site has every page, its pictures show what the commands do, and nothing is asked of another host.

That it builds without a warning is shown by ``python -m tests.docs.website``, which needs the group ``docs``.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import yaml
from importlib_metadata import entry_points
from tests.docs.record import PICTURES, shape, words_of
from tests.docs.website import CONFIGURATION, LOADED, ROOT, outside

import agent_tracking
from agent_tracking.cli.app import app
from agent_tracking.discovery import GROUP
from agent_tracking.settings import VARIABLES

DOCS = ROOT / "docs"
SITE = yaml.safe_load(CONFIGURATION.read_text())
PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
DRAWINGS = sorted(DOCS.rglob("*.svg"))


def _pages(entry: object) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        yield from _pages(list(entry.values()))
    elif isinstance(entry, list):
        for each in entry:
            yield from _pages(each)


def test_every_page_is_in_the_navigation_once():
    assert sorted(_pages(SITE["nav"])) == PAGES


def test_a_warning_of_the_build_is_an_error_and_links_are_checked():
    assert SITE["strict"] is True
    assert {*SITE["validation"]["links"].values(), *SITE["validation"]["nav"].values()} == {"warn"}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_a_site_that_loads_something_from_elsewhere_is_noticed(tmp_path):
    (tmp_path / "page.html").write_text(
        '<a href="https://a.example/">a link</a><script src="own.js"></script>'
        '<script defer src=https://b.example/s.js></script><img alt="" src="//c.example/i.png">'
        '<link rel="stylesheet" href="https://d.example/s.css"><link rel="canonical" href="https://e.example/">'
    )
    (tmp_path / "style.css").write_text(
        "@font-face { src: url('https://f.example/f.woff2') } a { color: red }"
    )
    hosts = [line.split("/")[2] for line in outside(tmp_path)]
    assert hosts == ["b.example", "c.example", "d.example", "f.example"]


@pytest.mark.parametrize(
    ("page", "link", "becomes"),
    [
        ("README.md", "[how](../CONTRIBUTING.md)", "how (`CONTRIBUTING.md`)"),
        ("authors/http.md", "[it](../../tests/samples/x)", "it (`tests/samples/x`)"),
        ("authors/http.md", "[it](../settings.md#all)", "[it](../settings.md#all)"),
        ("README.md", "[it](settings.md)", "[it](settings.md)"),
    ],
)
def test_a_link_that_leaves_the_docs_becomes_the_name_of_its_target(page, link, becomes):
    namespace: dict[str, object] = {}
    exec((DOCS / "site" / "links.py").read_text(), namespace)
    file = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert namespace["on_page_markdown"](f"see {link}.", page=file, config=None) == f"see {becomes}."


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda path: path.name)
def test_a_drawing_loads_nothing_and_names_no_folder_of_this_machine(drawing):
    text = drawing.read_text()
    assert not LOADED.search(text)
    assert str(Path.home()) not in text


@pytest.mark.parametrize(
    "drawing", [DOCS / "way.svg", *sorted((DOCS / "recordings").glob("*.svg"))], ids=lambda path: path.name
)
def test_a_drawing_without_a_table_beside_it_tells_in_words_what_it_shows(drawing):
    assert len(words_of(re.sub("<desc[^>]*>", "<desc>", drawing.read_text())).split()) > 20


def test_every_picture_has_words_in_its_place():
    for page in DOCS.rglob("*.md"):
        for words in re.findall(r"!\[([^\]]*)\]\(", page.read_text()):
            assert len(words.split()) > 3, page


def test_every_picture_is_on_a_page():
    shown = {
        (page.parent / target).resolve()
        for page in DOCS.rglob("*.md")
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text())
    }
    assert shown >= {drawing.resolve() for drawing in DRAWINGS}
    assert {path.stem for path in DRAWINGS if path.parent.name == "recordings"} == set(PICTURES)


def test_the_pictures_show_what_the_commands_do_now():
    command = [sys.executable, "-m", "tests.docs.record", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `python -m tests.docs.record`:\n{done.stdout}{done.stderr}"


def test_two_runs_have_one_shape_and_other_words_another():
    first = "posthog  2,200  0  13  118 kB\n ━━━━━━━╸\n8712b8bc-076f-4787-b9d1-79e06c0fd4f5 at 10:00:01"
    second = "posthog  2,198  2  9   97.5 kB\n ━━━━━━━━━━━\n0712b8bc-076f-4787-b9d1-79e06c0fd4ff at 10:00:02"
    assert shape(first) == shape(second) != shape(first.replace("posthog", "mixpanel"))


def _rows(page: str) -> list[str]:
    """Return the right sides of the tables that compare an SDK with this package."""
    text = (DOCS / page).read_text()
    tables = re.findall(r"^\| [a-z]+ \| here \|\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [
        re.split(r"(?<!\\) \| ", line.strip("|\n "))[1] for table in tables for line in table.splitlines()
    ]


MOVES = sorted({code for row in _rows("migrate.md") for code in re.findall("`([^`]+)`", row)})
_PUBLIC = {name: getattr(agent_tracking, name) for name in agent_tracking.__all__}


def _variables() -> set[str]:
    providers = [point.load() for point in entry_points(group=GROUP)]
    return {*VARIABLES, *(var.name for provider in providers for var in provider.env)}


def test_every_call_of_the_four_sdks_has_a_right_side():
    assert len(_rows("migrate.md")) > 40
    assert len(MOVES) > 25


@pytest.mark.parametrize("code", MOVES)
def test_what_a_call_of_an_sdk_becomes_exists(code):
    if code.startswith("agent-tracking "):
        assert isinstance(app, click.Group)
        assert code.split()[1] in app.commands
    elif code.isupper():
        assert code in _variables()
    elif code.startswith("agent_tracking."):
        module, _, name = code.rpartition(".")
        assert hasattr(sys.modules.get(module) or __import__(module, fromlist=[name]), name)
    else:
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        for call in calls or [pytest.fail(f"{code} is neither a call, a command nor a variable")]:
            _check_call(call)


def _check_call(call: ast.Call) -> None:
    import agent_tracking.processors

    name = ast.unparse(call.func)
    if name == "str":
        return
    function = _PUBLIC.get(name) or getattr(agent_tracking.processors, name)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    inspect.signature(function).bind(*call.args, **keywords)
