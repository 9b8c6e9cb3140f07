"""Processors: functions that change a record or drop it before any provider sees it.

>>> from agent_tracking import configure
>>> from agent_tracking.processors import deny, redact
>>> configure(processors=[deny("debug *"), redact()])

They run on the dispatcher's thread, in the order of the list; what the first drops the second never sees.
One of your own is any function ``record -> record | None``; ``record.replace(...)`` makes a changed record.
When it fails the record goes on without its change, and that is logged. When ``redact``, ``hash_ids``,
``consent``, ``allow``, ``deny``, ``route`` or one marked by ``required`` fails the record is dropped: it must
not be sent without.
"""

from __future__ import annotations

from agent_tracking.processors.enrichment import enrich
from agent_tracking.processors.hashing import hash_ids
from agent_tracking.processors.permission import Consent, consent
from agent_tracking.processors.redaction import SENSITIVE_KEYS, redact
from agent_tracking.processors.routing import route
from agent_tracking.processors.sampling import sample
from agent_tracking.processors.selection import allow, deny
from agent_tracking.processors.step import required

__all__ = [
    "SENSITIVE_KEYS",
    "Consent",
    "allow",
    "consent",
    "deny",
    "enrich",
    "hash_ids",
    "redact",
    "required",
    "route",
    "sample",
]
