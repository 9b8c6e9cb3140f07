"""A hook of the site: links to files that are not part of it become their names.

In a checkout they lead to the README, to CONTRIBUTING and to the samples; the site has no such pages.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)\s]*)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:  # noqa: ANN401  mkdocs passes more than is used
    """Return the page with each link that leaves ``docs/`` as the name of its target."""
    depth = len(PurePosixPath(page.file.src_uri).parent.parts)

    def named(link: re.Match[str]) -> str:
        climbs = link[2].count("../")
        if climbs <= depth:
            return link[0]
        return f"{link[1]} (`{link[2].replace('../', '')}`)"

    return _LINK.sub(named, markdown)
