"""``hash_ids``: ids that say nothing of who it is, the same in every process."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Any, Literal

from msgspec.structs import replace

from agent_tracking.exceptions import ConfigurationError
from agent_tracking.processors.draft import Draft
from agent_tracking.processors.step import Step, factory

__all__ = ["hash_ids"]

_KEY_BYTES = 16
_Field = Literal["user_id", "anonymous_id", "session_id"]
_FIELDS = frozenset({"user_id", "anonymous_id", "session_id"})


@factory
def hash_ids(*, key: str | bytes, fields: Iterable[_Field] = ("user_id", "anonymous_id")) -> Step:
    """Replace ids by their HMAC-SHA256 under a secret key: 64 hexadecimal digits.

    The same id and key give the same digits in every process, so that providers still tell users apart.
    Without the key nobody can find out whose they are, not by trying every address either.

    Args:
        key: the secret, at least 16 bytes; keep it for as long as users shall stay the same.
        fields: which ids; ``user_id`` and ``anonymous_id`` by default.

    Raises:
        ConfigurationError: the key is missing or too short, or there is no such field.

    Example::

        configure(processors=[hash_ids(key=os.environ["TRACKING_ID_KEY"])])
    """
    secret: object = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
    if not isinstance(secret, bytes) or len(secret.strip()) < _KEY_BYTES:
        raise ConfigurationError(
            f"hash_ids(): key must be a secret of at least {_KEY_BYTES} bytes",
            fix='make one by: python -c "import secrets; print(secrets.token_hex())"',
        )
    given: Any = fields
    chosen = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    if not chosen or not all(isinstance(field, str) and field in _FIELDS for field in chosen):
        raise ConfigurationError(f"hash_ids(): fields must be some of {', '.join(sorted(_FIELDS))}")
    keyed = hmac.new(secret, digestmod="sha256")

    def hashed(text: str) -> str:
        digest = keyed.copy()
        digest.update(text.encode())
        return digest.hexdigest()

    def change(draft: Draft) -> str | None:
        record = draft.record
        ids = {field: hashed(text) for field in chosen if (text := getattr(record, field, None))}
        if ids:
            draft.record = replace(record, **ids)
        return None

    return Step("hash_ids", change, required=True)
