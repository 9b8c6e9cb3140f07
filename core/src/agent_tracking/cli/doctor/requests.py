"""Where an HTTP provider sends: asked of its own ``encode`` and ``request``, so it holds for any of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from agent_tracking.cli.doctor.findings import Case, Finding, note, ok, problem
from agent_tracking.events import Identity, Record, TrackingEvent
from agent_tracking.http_provider import HTTPProvider, Payload, Request
from agent_tracking.records import ProviderState

__all__ = ["EVENT", "MARKER", "Origin", "check_requests", "origin_of"]

#: What is sent by ``--send``, and what these samples look like.
EVENT = "agent-tracking doctor"
MARKER = {"agent_tracking_test": True}

_DEFAULTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host and port of an address."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address of the host itself, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _DEFAULTS[self.scheme] else f":{self.port}")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def origin_of(url: str) -> Origin | None:
    """Return the origin of an ``http`` or ``https`` address; ``None`` if it is none."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULTS or not parts.hostname:
            return None
        return Origin(parts.scheme, parts.hostname, parts.port or _DEFAULTS[parts.scheme])
    except ValueError:
        return None


def check_requests(case: Case, origins: dict[Origin, list[str]]) -> Iterator[Finding]:
    """Find out which host each active provider sends to; fills ``origins`` with the providers' names."""
    for each in case.installed:
        name = each.record.name
        if each.record.state is not ProviderState.ACTIVE:
            continue
        if not isinstance(each.provider, HTTPProvider):
            yield note(
                "network", name, "it is no HTTP provider: whether its backend can be reached isn't checked"
            )
            continue
        try:
            urls = {request.url for request in _requests(each.provider)}
        except Exception as error:  # noqa: BLE001  an author's code
            what = f"it made no request of a sample event: {type(error).__name__}"
            yield problem("network", name, what, f"upgrade {each.record.distribution}, or tell its author")
            continue
        found = sorted({origin for url in urls if (origin := origin_of(url))})
        for origin in found:
            origins.setdefault(origin, []).append(name)
        if found:
            yield ok("network", name, f"it sends to {', '.join(origin.url for origin in found)}")
        else:
            yield problem(
                "network", name, "it sends to no http or https address", "correct its host variable"
            )


def _requests(provider: HTTPProvider) -> Iterator[Request]:
    """Yield the requests that would carry an event and an identity; nothing is sent."""
    for record in _samples():
        encoded = provider.encode(record)
        payloads: Sequence[Payload] = (
            () if encoded is None else (encoded,) if isinstance(encoded, Payload) else tuple(encoded)
        )
        for payload in payloads:
            yield provider.request(payload.endpoint or provider.endpoints[0].name, [payload])


def _samples() -> Sequence[Record]:
    now = time.time()
    return (
        TrackingEvent(name=EVENT, message_id=str(uuid4()), time=now, anonymous_id="agent-tracking-doctor"),
        Identity(user_id="agent-tracking-doctor", message_id=str(uuid4()), time=now),
    )
