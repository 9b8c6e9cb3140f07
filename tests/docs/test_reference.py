"""The pages say what the code says: no hook, setting or variable is missing, and nothing is out of date."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlib_metadata import entry_points

import agent_tracking
from agent_tracking.discovery import FIRST_PARTY, GROUP
from agent_tracking.hookspecs import HookSpecs
from agent_tracking.settings import VARIABLES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
HOOKS = [name for name in vars(HookSpecs) if not name.startswith("_")]
SETTINGS = (DOCS / "settings.md").read_text()
NAMES = sorted(distribution.removeprefix("agent-tracking-") for distribution in FIRST_PARTY.values())
_ALL = agent_tracking.__all__
FOR_AUTHORS = {*_ALL[_ALL.index("Provider") : _ALL.index("hookspecs")], "RetryLater", "Reject"}


def _tables(text: str) -> list[str]:
    return re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)


def test_what_is_generated_is_up_to_date():
    command = [sys.executable, "-m", "tests.docs.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `python -m tests.docs.generate`: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_heading_with_its_signature_and_an_example(hook):
    parameters = [name for name in inspect.signature(getattr(HookSpecs, hook)).parameters if name != "self"]
    page = (DOCS / "authors" / "hooks.md").read_text()
    section = page.split(f"\n## `{hook}({', '.join(parameters)})`\n")[1].split("\n## ")[0]
    assert "```python\n@hookimpl\n" in section


def test_every_setting_is_in_the_table_of_settings():
    assert _tables(SETTINGS.split("## The four providers")[0]) == list(VARIABLES)


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_of_a_provider_is_in_its_table_and_in_its_readme(name):
    (provider,) = [point.load() for point in entry_points(group=GROUP) if point.name == name]
    declared = [var.name for var in provider.env]
    assert _tables(SETTINGS.split(f"### {name}\n")[1].split("### ")[0]) == declared
    assert _tables((ROOT / "plugins" / name / "README.md").read_text()) == declared


@pytest.mark.parametrize("name", sorted(FOR_AUTHORS))
def test_every_public_name_for_authors_is_on_a_page_for_them(name):
    pages = "".join(path.read_text() for path in (DOCS / "authors").glob("*.md"))
    assert re.search(rf"\b{name}\b", pages)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(DOCS)))
def test_a_page_is_short(page):
    assert len(page.read_text().splitlines()) < 150


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem
)
def test_what_a_page_links_to_exists(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_index_names_every_page():
    index = (DOCS / "README.md").read_text()
    for page in PAGES:
        if page.name != "README.md":
            assert f"]({page.relative_to(DOCS)})" in index


def test_every_sample_is_linked_from_the_pages_for_authors():
    pages = "".join(path.read_text() for path in (DOCS / "authors").glob("*.md"))
    for sample in (ROOT / "tests" / "samples").iterdir():
        assert f"](../../tests/samples/{sample.name})" in pages, sample.name
