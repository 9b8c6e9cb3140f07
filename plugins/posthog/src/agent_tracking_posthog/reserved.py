"""Which of a caller's properties PostHog would stumble over.

The server reads a batch as a whole: one property of a wrong type can cost all of its events. What a
caller may say himself stays if its type is right; what is ours is taken out, so that it stands once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from agent_tracking.exceptions import Reject

if TYPE_CHECKING:
    from agent_tracking.events import TrackingEvent

__all__ = ["PERSONAL", "Sifted", "needs_sifting", "sift"]

#: Events that PostHog drops when they say ``$process_person_profile: false``.
PERSONAL = frozenset({"$identify", "$create_alias", "$merge_dangerously", "$groupidentify"})

_OURS = frozenset({"$lib", "$lib_version", "$is_server", "$geoip_disable"})
#: What the text of a property's value must begin with.
_BEGINS = {
    "$set": b"{",
    "$set_once": b"{",
    "$groups": b"{",
    "$group_set": b"{n",
    "$exception_list": b"[",
    "$process_person_profile": b"tf",
    "$cookieless_mode": b"tf",
    "$ip": b'"',
    "$session_id": b'"',
    "$group_type": b'"',
    "$group_key": b'"',
    "$anon_distinct_id": b'"',
    "distinct_id": b'"',
}
_EMPTY = frozenset({b'""', b"[]"})
_GROUP = frozenset({"$group_type", "$group_key"})
_PERSON = frozenset({"$set", "$set_once"})
#: Characters of a group's type or key: https://posthog.com/docs/data/ingestion-warnings
GROUP_LENGTH = 400
#: Events that PostHog throws away after its 200 unless they have these.
_NEEDS = {
    "$groupidentify": ("$group_type", "$group_key"),
    "$create_alias": ("alias",),
    "$exception": ("$exception_list",),
}
_id_key = re.compile(rb'_id":').search
_key = re.compile(rb'"(?:\$|(?:distinct|session)_id":)').search
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Sifted(msgspec.Struct, frozen=True):
    """What is left of a caller's properties.

    Args:
        data: a JSON object as text.
        place: the end user's address is in it, so a place may be looked up.
        person: it says itself whether the event makes a person's profile.
    """

    data: bytes
    place: bool
    person: bool


def needs_sifting(data: bytes) -> bool:
    """Return whether PostHog may read any key of this JSON object: quick, and a ``False`` is certain."""
    return (b"$" in data or _id_key(data) is not None) and _key(data) is not None


def sift(event: TrackingEvent, session: str) -> Sifted:
    """Return the properties that may stand beside ours; ``session`` is the name of ours for the session.

    Raises:
        Reject: the event is one of PostHog's own and lacks what makes it one.
    """
    given = _decode(event.properties_json)
    ours = {*_OURS, session}
    if event.user_id is None and event.anonymous_id is None:
        ours.add("$process_person_profile")  # a profile for an id that never comes again
    kept = {
        key: value
        for key, value in given.items()
        if key not in ours and _may_stay(event.name, key, bytes(value))
    }
    if not all(key in kept for key in _NEEDS.get(event.name, ())):
        raise Reject
    place = "$ip" in kept and bytes(given.get("$geoip_disable", msgspec.Raw())) != b"true"
    data = event.properties_json if len(kept) == len(given) else _encode(kept)
    return Sifted(data, place, "$process_person_profile" in kept)


def _may_stay(name: str, key: str, value: bytes) -> bool:
    begins = _BEGINS.get(key)
    if begins is not None and (value[:1] not in begins or value in _EMPTY):
        return False
    if key in _GROUP and len(msgspec.json.decode(value)) > GROUP_LENGTH:
        return False
    if key in _PERSON and name == "$exception":
        return False
    return not (key == "$process_person_profile" and value == b"false" and name in PERSONAL)
