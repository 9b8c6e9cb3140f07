"""Signatures by Standard Webhooks.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from agent_tracking.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_tracking.http_provider import Payload

__all__ = ["batch_id", "sign", "signatures", "signing_keys"]

PREFIX = "whsec_"
#: Bytes of a key, fewest and most.
KEY_BYTES = (24, 64)

#: A namespace of this package's own.
_BATCHES = UUID("6c1d3f0e-5f0b-4a43-9a0c-3a3c8f7f1c55")


def signing_keys(variable: str, value: str) -> tuple[bytes, ...]:
    """Return the keys in ``value``, which are separated by blanks.

    Raises:
        ConfigurationError: one is not ``whsec_`` and 24 to 64 bytes in Base64.
    """
    return tuple(_key(variable, secret) for secret in value.split())


def sign(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of one message with one key; ``timestamp`` is in whole seconds since 1970."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + b64encode(hmac.digest(key, signed, "sha256")).decode()


def signatures(keys: Sequence[bytes], message_id: str, timestamp: str, body: bytes) -> str:
    """Return the header's value: one signature for each key."""
    return " ".join(sign(key, message_id, timestamp, body) for key in keys)


def batch_id(batch: Sequence[Payload]) -> str:
    """Return the ``webhook-id``: a record's own id, or one made of the ids of all of them."""
    if len(batch) == 1:
        return batch[0].key
    return str(uuid5(_BATCHES, ",".join(payload.key for payload in batch)))


def _key(variable: str, secret: str) -> bytes:
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True) if secret.startswith(PREFIX) else b""
    except ValueError:  # its text may quote the secret, so it is not what the error below comes from
        key = b""
    if not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
        raise ConfigurationError(
            f"{variable} is no signing secret", fix="set it to whsec_ and 24 to 64 random bytes in Base64"
        )
    return key
