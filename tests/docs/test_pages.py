"""Every code block of README.md and docs/ does what its page says.

Pages that install something are run in tests/packaging, in an environment that is made for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ROOT / "tests" / "docs" / "run.py"
ALL = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in ALL if "\n$ pip install " not in page.read_text()]
_OURS = ("AGENT_TRACKING_", "POSTHOG_", "MIXPANEL_", "AMPLITUDE_", "TRACKING_WEBHOOK_")

GOOD = """
```python
number = 41
```

```python title="folder/script.py"
print("one\\ntwo  \\nthree")
```

```console
$ python folder/script.py
one
...
$ python -c "print(6 * 7)" \\
  && echo "fo\
o"
4...
foo
```

```python
assert number == 41
```

```python
import asyncio

assert await asyncio.sleep(0, 42) == 42
```

<!-- not run: it would raise -->
```python
raise ValueError
```
"""


def _run(page: Path) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return subprocess.run(
        [sys.executable, str(RUN), str(page)], env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_does_what_the_page_says(page):
    done = _run(page)
    assert done.returncode == 0, done.stderr


def test_the_pages_that_install_something_are_those_of_the_authors():
    assert {page.parent.name for page in ALL if page not in PAGES} <= {"authors"}


def test_a_page_whose_blocks_are_right_passes(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(GOOD)
    done = _run(page)
    assert (done.returncode, done.stdout) == (0, "6 blocks\n"), done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("assert number == 41", "assert number == 42", "AssertionError"),
        ("assert number == 41", "assert number ==", "SyntaxError"),
        ("sleep(0, 42) == 42", "sleep(0, 42) == 41", "AssertionError"),
        ("raise ValueError", "raise ValueError(", "SyntaxError"),
        ("<!-- not run: it would raise -->", "<!-- not run: -->", "ValueError"),
        ("one\n...", "one\n", "should say"),
        ("4...", "5...", "should say"),
        ("$ python folder", "> python folder", "begins with '$ '"),
        ('folder/script.py"', '../script.py"', "is not in the page's folder"),
        ("```console", "```shell", "nothing is known of 'shell'"),
        ("```console", "``` console", "begins no block"),
    ],
)
def test_a_block_that_is_wrong_fails_its_page(tmp_path, right, wrong, said):
    page = tmp_path / "page.md"
    assert right in GOOD
    page.write_text(GOOD.replace(right, wrong))
    done = _run(page)
    assert done.returncode != 0
    assert said in done.stderr
