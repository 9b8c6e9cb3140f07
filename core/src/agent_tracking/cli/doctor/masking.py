"""No value of a secret variable on the screen: neither as it is nor as requests encode it."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import msgspec

from agent_tracking.discovery import FIRST_PARTY
from agent_tracking.provider import EnvVar

__all__ = ["MASK", "Masker"]

MASK = "***"
#: Headers that are credentials whatever they hold: only their scheme is shown.
_CREDENTIALS = re.compile(r"auth|cookie|token|secret|signature|api-?key|password", re.IGNORECASE)
#: "Bearer", "Basic", "Key", "v1,".
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,15}(?= )")
#: "phc_", "whsec_": what tells the kind of a key.
_KIND = re.compile(r"[a-z]{2,8}_(.{8,})", re.DOTALL)
#: A part of a secret that is shorter stands in many texts by chance.
_SHORT = 4
#: The same for a part of an address, which is often a plain word.
_PIECE = 8
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


class Masker:
    """Replaces secrets in texts.

    Args:
        declared: every variable that a provider declares.
        environ: the variables' values.
        public: words that are shown although an address may have them in its path: names of providers.
    """

    def __init__(
        self, declared: Iterable[EnvVar], environ: Mapping[str, str], public: Iterable[str] = ()
    ) -> None:
        names = {var.name for var in declared if var.secret} | set(FIRST_PARTY)
        values = [environ.get(name, "").strip() for name in names]
        proxies = [environ.get(name, "") for each in _PROXIES for name in (each, each.upper())]
        traces = {
            trace
            for secret in [*_of_values(values, {"agent-tracking", *public}), *_of_proxies(proxies)]
            for trace in _encodings(secret)
        }
        # The longest first: a part of one may be another one.
        patterns = [_pattern(trace) for trace in sorted(traces, key=lambda trace: (-len(trace), trace))]
        self._pattern = re.compile("|".join(patterns)) if patterns else None

    def text(self, text: str) -> str:
        """Return ``text`` without any secret."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def header(self, name: str, value: str) -> str:
        """Return a header's value; of one that is a credential by its name only the scheme is left."""
        if not _CREDENTIALS.search(name):
            return self.text(value)
        scheme = _SCHEME.match(value)
        return f"{self.text(scheme.group())} {MASK}" if scheme else MASK

    def json(self, node: Any) -> Any:  # noqa: ANN401  any JSON
        """Return JSON with every secret in a text or a key replaced."""
        if isinstance(node, str):
            return self.text(node)
        if isinstance(node, dict):
            return {self.text(str(key)): self.json(value) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [self.json(value) for value in node]
        if isinstance(node, bool) or node is None:
            return node
        shown = self.text(str(node))  # a secret may be all digits
        return node if shown == str(node) else shown

    def data(self, value: object) -> Any:  # noqa: ANN401  any JSON
        """Return what ``value`` is as JSON, masked."""
        return self.json(msgspec.to_builtins(value, str_keys=True))


def _pattern(trace: str) -> str:
    found = re.escape(trace)
    # "k" as a key is a word of its own, and no letter of others.
    return found if len(trace) >= _SHORT else rf"(?<![A-Za-z0-9]){found}(?![A-Za-z0-9])"


def _of_values(values: Iterable[str], public: Collection[str]) -> Iterator[str]:
    """Yield each value and the parts of it that are secret by themselves."""
    for value in values:
        yield value
        if "://" in value:
            yield from _of_address(value, public)
            continue
        words = value.split()
        if len(words) > 1 and _SCHEME.match(value):
            words = words[1:]
        for word in words:
            yield word
            if kind := _KIND.fullmatch(word):
                yield kind.group(1)
            yield from _of_basic(word)


def _of_address(value: str, public: Collection[str]) -> Iterator[str]:
    """Yield what an address keeps secret: all but its scheme and host."""
    try:
        parts = urlsplit(value)
        yield from (parts.username or "", parts.password or "")
    except ValueError:
        return
    behind = value.partition("://")[2].partition("/")[2]
    yield f"/{behind}"
    yield f"/{behind}".rstrip("/")
    pieces = [behind, parts.path.strip("/"), *parts.path.split("/"), parts.query]
    pieces += [item for _, item in parse_qsl(parts.query)]
    yield from (piece for piece in pieces if len(piece) >= _PIECE and piece not in public)


def _of_basic(word: str) -> Iterator[str]:
    """Yield the user and the password of an ``Authorization: Basic``."""
    try:
        user, colon, password = b64decode(word, validate=True).decode().partition(":")
    except ValueError:
        return
    if colon:
        yield from (user, password)


def _of_proxies(addresses: Iterable[str]) -> Iterator[str]:
    for address in addresses:
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            yield from (parts.username or "", parts.password or "")
        except ValueError:
            yield address


def _encodings(secret: str) -> Iterator[str]:
    """Yield the texts by which ``secret`` would be known; nothing for one that is no more than a slash."""
    if not secret.strip("/"):
        return
    yield secret
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    data = secret.encode("utf-8", "surrogateescape")  # a variable's bytes, also those that are not UTF-8
    yield from (quote(data), quote(data, safe=""), quote_plus(data))
    for text in _base64s(data):
        if len(text) >= _SHORT:
            yield from (text, text.replace("+", "-").replace("/", "_"))


def _base64s(data: bytes) -> Iterator[str]:
    """Yield the characters that ``data`` alone fixes in Base64, wherever it begins in what is encoded."""
    yield b64encode(data).decode()
    for before in range(3):
        whole = b64encode(bytes(before) + data).decode()
        yield whole[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
