"""What travels: :class:`TrackingEvent` and :class:`Identity`, frozen, with their data as JSON text.

``track()`` turns what it was given into JSON once. That text is the record: it cannot change any more,
its size is known, and every provider that wants a ``dict`` decodes a copy of its own, so that no
provider can harm another one's data.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from agent_tracking.clock import iso_text

__all__ = ["Identity", "Record", "TrackingEvent"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class _Travelling(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What events and identities have in common."""

    message_id: str
    time: float
    user_id: str | None = None
    anonymous_id: str | None = None
    only: frozenset[str] | None = None
    never: frozenset[str] = frozenset()

    def goes_to(self, provider: str) -> bool:
        """Return whether the provider of this name gets the record."""
        return provider not in self.never and (self.only is None or provider in self.only)

    @property
    def timestamp(self) -> datetime:
        """When it happened, in UTC."""
        return _EPOCH + timedelta(seconds=self.time)

    @property
    def time_ms(self) -> int:
        """When it happened, in whole milliseconds since 1970-01-01T00:00:00Z."""
        return int(self.time * 1000)

    @property
    def iso(self) -> str:
        """When it happened, as RFC 3339 text with microseconds: ``2026-05-04T10:00:00.123456Z``."""
        return iso_text(self.time)


class TrackingEvent(_Travelling, frozen=True, gc=False, kw_only=True):
    """Something that happened.

    Attributes:
        name: 1 to 200 characters, stripped.
        properties_json: the properties, a JSON object as UTF-8 text without double keys.
        time: seconds since 1970-01-01T00:00:00Z.
        user_id, anonymous_id, session_id: text, or ``None`` when unknown.
        message_id: a UUID; the same for every provider and on every try, so that each of them can
            count the event once.
        only, never: names of the only providers that get it (``None``: all), and of those that don't.
    """

    name: str
    properties_json: bytes = b"{}"
    session_id: str | None = None

    @property
    def properties(self) -> dict[str, Any]:
        """A fresh copy of the properties: decoded at each access, so keep it in a variable."""
        return _decode(self.properties_json)

    @property
    def data_json(self) -> bytes:
        """The properties or the traits, whichever this record has."""
        return self.properties_json

    def __repr__(self) -> str:
        return f"<TrackingEvent {self.name!r} {self.message_id} {len(self.properties_json)} bytes>"


class Identity(_Travelling, frozen=True, gc=False, kw_only=True):
    """What is known of a user: ``traits``, and perhaps the anonymous id used so far.

    The attributes are those of :class:`TrackingEvent`, with ``traits_json`` for the data; ``user_id``
    is always text.
    """

    user_id: str
    traits_json: bytes = b"{}"

    @property
    def traits(self) -> dict[str, Any]:
        """A fresh copy of the traits: decoded at each access, so keep it in a variable."""
        return _decode(self.traits_json)

    @property
    def data_json(self) -> bytes:
        """The properties or the traits, whichever this record has."""
        return self.traits_json

    def __repr__(self) -> str:
        return f"<Identity {self.message_id} {len(self.traits_json)} bytes>"


Record = TrackingEvent | Identity
