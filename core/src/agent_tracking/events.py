"""What travels: :class:`TrackingEvent` and :class:`Identity`, frozen, with their data as JSON text.

``track()`` turns what it was given into JSON once. That text is the record: it cannot change any more,
its size is known, and every provider that wants a ``dict`` decodes a copy of its own, so that no
provider can harm another one's data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import msgspec

from agent_tracking.clock import iso_text

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Identity", "Record", "TrackingEvent"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_decode = msgspec.json.Decoder(dict[str, Any]).decode
R = TypeVar("R", bound="TrackingEvent | Identity")


class _Changes(TypedDict, total=False):
    """What ``replace()`` of both kinds takes."""

    user_id: str | int | None
    anonymous_id: str | None
    timestamp: datetime | float | str
    message_id: str
    only: Iterable[str] | None
    never: Iterable[str]


class _EventChanges(_Changes, total=False):
    name: str
    properties: Mapping[str, Any] | None
    session_id: str | None


class _IdentityChanges(_Changes, total=False):
    traits: Mapping[str, Any] | None


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

    def replace(self, **changes: Unpack[_EventChanges]) -> TrackingEvent:
        """Return a copy with other values, for processors; cleaned as ``track()`` does.

        Args:
            changes: ``name``, ``properties`` (all of them), ``user_id``, ``anonymous_id``, ``session_id``,
                ``timestamp``, ``message_id``, ``only``, ``never``.

        Raises:
            TypeError: there is no such field, or it cannot have a value of this type.
            ValueError: the value cannot be used, for example an empty name.

        Example::

            event.replace(properties={**event.properties, "plan": "pro"})
        """
        return _replaced(self, changes, _EventChanges, "properties")

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

    def replace(self, **changes: Unpack[_IdentityChanges]) -> Identity:
        """Return a copy with other values, as :meth:`TrackingEvent.replace`, with ``traits`` for the data."""
        identity = _replaced(self, changes, _IdentityChanges, "traits")
        if not identity.user_id:
            raise ValueError("the user id of an identity must be text or an int, and no placeholder")
        return identity

    def __repr__(self) -> str:
        return f"<Identity {self.message_id} {len(self.traits_json)} bytes>"


Record = TrackingEvent | Identity


def _replaced(record: R, changes: Mapping[str, Any], known: type, data: str) -> R:
    from agent_tracking.changes import cleaned

    return msgspec.structs.replace(record, **cleaned(changes, known.__annotations__, data))
