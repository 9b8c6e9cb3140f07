"""Event names and ids, as every provider gets them."""

from __future__ import annotations

from os import urandom
from uuid import UUID, uuid5

__all__ = ["ID_CHARS", "NAME_CHARS", "PLACEHOLDERS", "IdPrefix", "clean_id", "clean_name", "message_uuid"]

#: The most characters of an event's name; PostHog and Mixpanel refuse or cut longer ones.
NAME_CHARS = 200
#: The most characters of an id; PostHog cuts at 200, Amplitude and Mixpanel at more.
ID_CHARS = 1_024

#: Ids that stand for "nobody", compared stripped and case-folded: backends refuse them or lump everyone
#: who has one into a single person. Sources: Mixpanel's page on /import, Amplitude's on the HTTP V2 API,
#: PostHog's list of illegal distinct ids (rust/capture/src/v1/analytics/constants.rs).
PLACEHOLDERS = frozenset(
    {
        "", "-1", "0", "00000000-0000-0000-0000-000000000000", "<nil>", "[]", "[object object]", "anon",
        "anonymous", "anonymous-user", "backend", "distinct_id", "distinctid", "email", "false", "guest",
        "id", "lmy47d", "n/a", "na", "nan", "nil", "none", "not_authenticated", "null", "system", "true",
        "undefined", "unknown", "user", "{}",
    }
)  # fmt: skip

#: The namespace of message ids made from the caller's own: uuid5(NAMESPACE_URL, "agent_tracking:message_id").
_NAMESPACE = UUID("2b92955e-c58c-5854-81f8-f26ea51d529b")


def clean_name(value: object) -> str | None:
    """Return the event's name, stripped and at most 200 characters; ``None`` if it has none."""
    if type(value) is not str:
        return None
    name = value.strip()
    return name[:NAME_CHARS] or None


def clean_id(value: object) -> str | None:
    """Return an id as text; ``None`` for no id, a placeholder, or what cannot be an id.

    >>> clean_id(42), clean_id(" u1 "), clean_id("Anonymous"), clean_id(1.5)
    ('42', 'u1', None, None)
    """
    if type(value) is str:
        text = value.strip()
        return None if text.casefold() in PLACEHOLDERS else text[:ID_CHARS]
    if type(value) is int and value not in {0, -1}:
        return str(value)
    return None


class IdPrefix:
    """Makes message ids: 74 random bits of this process and a running number, as a UUID.

    Version 4 by its form, which every backend takes: the random part is a process's, not an event's.

    Args:
        head: that of the process whose records are prepared here; by default a new one is made.
    """

    __slots__ = ("head",)

    def __init__(self, head: str | None = None) -> None:
        raw = urandom(10).hex()
        self.head = head or f"{raw[:8]}-{raw[8:12]}-4{raw[12:15]}-{'89ab'[int(raw[15], 16) % 4]}{raw[16:19]}-"

    def uuid(self, number: int) -> str:
        """Return the message id of the record with this number."""
        return f"{self.head}{number:012x}"


def message_uuid(value: str) -> str:
    """Return a message id given by the caller as a UUID: as it is if it is one, else UUIDv5 of the text."""
    try:
        given = UUID(value)
    except ValueError:
        return str(uuid5(_NAMESPACE, value))
    # Backends refuse the all-zero UUID as a placeholder.
    return str(given) if given.int else str(uuid5(_NAMESPACE, value))
