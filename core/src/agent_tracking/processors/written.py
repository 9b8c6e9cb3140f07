"""Keys and values that are written inside a text: JSON, queries of addresses, ``key=value`` of logs.

As with :mod:`agent_tracking.processors.detectors`, the time is in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["may_be_written", "without_values", "within_json"]

#: A key and what stands before its value: ``token=``, ``"token": ``.
_KEY = re.compile(r"""(?<![\w.%\[\]-])([\w.%\[\]-]+)(?:=|["']\s{0,9}:\s{0,9})""")
#: A value: in quotation marks, which may have been cut off, or until something that ends one.
_VALUE = re.compile(r""""(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^&;,\s"'<>{}\[\]]+""", re.DOTALL)
#: What is no secret under any key.
_HARMLESS = frozenset({"true", "false", "null", "none", '"', "'"})


def may_be_written(data: bytes) -> bool:
    """Return whether a text in a record's JSON may hold a key and its value."""
    return b"=" in data or b'\\"' in data or b"':" in data


def within_json(text: str, clean: Callable[[Any], Any]) -> str | None:
    """Return a text that is a JSON object or array as ``clean`` changes that; ``None``: it is none.

    What ``clean`` leaves alone stays as it was written. What is nested too deeply counts as none.
    """
    if text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        data = msgspec.json.decode(text)
        cleaned = clean(data)
    except (ValueError, RecursionError):
        return None
    return text if cleaned is data else msgspec.json.encode(cleaned).decode()


def without_values(text: str, goes: Callable[[str], bool], replacement: str) -> str:
    """Return a text with the value of each key that ``goes`` replaced."""
    parts: list[str] = []
    begin = 0
    for key in _KEY.finditer(text):
        if key.start() < begin or not goes(key[1]):
            continue
        value = _VALUE.match(text, key.end())
        if value is None or value[0].casefold() in _HARMLESS:
            continue
        quote = value[0][0] if value[0][0] in "\"'" else ""
        parts += (text[begin : key.end()], quote, replacement, quote)
        begin = value.end()
    return "".join([*parts, text[begin:]]) if parts else text
