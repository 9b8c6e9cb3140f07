"""What a provider claims."""

from __future__ import annotations

import msgspec

__all__ = ["Capabilities"]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider and its backend claim to do; each claim is tested, and nothing else of its kind.

    That a provider speaks HTTP is no claim but a fact: it is an ``HTTPProvider``, or none of the tests
    of HTTP is collected.

    Args:
        identities: identities are delivered, too (the provider has the hook ``identify``).
        retry: what a passing failure of the backend held up is delivered when it is over. For a
            provider that is not HTTP the test needs ``outage``.
        dedup: each record carries a key by which the backend counts it once, however often it comes.
        partial_failure: a record that the backend refuses costs none of the others in its batch.
        split: a request that is too large is sent in parts.
        stops: after an answer that says that the key is wrong nothing more is sent.
        own_answers: a success is believed only in the backend's own words, so that the web page of a
            captive portal is no delivery.
        gzip: bodies are compressed (for which an endpoint says ``gzip=True``).
        json: payloads are JSON texts.
        key_in_url: the backend wants a secret in the address.
        volatile_headers: those that differ from one try to the next, e.g. a signature's time.
    """

    identities: bool = True
    retry: bool = True
    dedup: bool = True
    partial_failure: bool = True
    split: bool = True
    stops: bool = True
    own_answers: bool = False
    gzip: bool = False
    json: bool = True
    key_in_url: bool = False
    volatile_headers: tuple[str, ...] = ()
