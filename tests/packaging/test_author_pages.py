"""The pages for authors, step by step as an author goes through them: with pip, in an environment of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ROOT / "tests" / "docs" / "run.py"
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "\n$ pip " in page.read_text()]

pytestmark = pytest.mark.timeout(300)


def test_there_are_pages_that_install_something():
    assert [page.name for page in PAGES] == ["publish-one.md", "test-one.md", "write-one.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_step_of_a_page_does_what_the_page_says(workshop, page):
    try:
        done = workshop.run(str(RUN), str(page))
    finally:
        workshop.run("-m", "pip", "uninstall", "--yes", "agent-tracking-acme")
    assert done.returncode == 0, done.stderr
