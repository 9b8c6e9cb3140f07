"""One request for each provider as it went over the wire, with the keys masked."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from agent_tracking.testing import Received

__all__ = ["MASK", "Sample", "sample"]

#: Stands for a key or a token.
MASK = "*****"
#: Headers worth showing, and those of them that hold a key.
_HEADERS = ("content-type", "content-encoding", "authorization")
_MASKED = frozenset({"authorization"})


class Sample(msgspec.Struct, frozen=True):
    """A request: where to, what came back, and its body with only the record that is looked at.

    ``others`` is how many more records the request carried.
    """

    request: str
    status: int
    headers: dict[str, str]
    body: Any
    others: int


def sample(requests: Collection[Received], message_id: str, secrets: Collection[str]) -> Sample | None:
    """Return the request that delivered the record with this id, or ``None``."""
    for received in requests:
        if message_id in received.kept:
            return Sample(
                f"{received.method} {received.path}{_query(received.query)}",
                received.status,
                _headers(received.headers),
                _only(received.json(), message_id.encode(), secrets),
                len(received.keys) - 1,
            )
    return None


def _query(query: dict[str, str]) -> str:
    return "?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""


def _headers(headers: dict[str, str]) -> dict[str, str]:
    return {
        name: _masked(headers[name]) if name in _MASKED else headers[name]
        for name in _HEADERS
        if name in headers
    }


def _masked(value: str) -> str:
    """Return a header without what follows its scheme."""
    scheme, space, _ = value.partition(" ")
    return f"{scheme} {MASK}" if space else MASK


def _only(node: Any, wanted: bytes, secrets: Collection[str]) -> Any:  # noqa: ANN401  any JSON
    """Return the JSON with keys masked and, of each list of objects with the wanted record, that record."""
    if isinstance(node, str):
        return MASK if node in secrets else node
    if isinstance(node, dict):
        return {key: _only(value, wanted, secrets) for key, value in node.items()}
    if isinstance(node, list):
        named = [each for each in node if isinstance(each, dict) and wanted in msgspec.json.encode(each)]
        return [_only(each, wanted, secrets) for each in named or node]
    return node
