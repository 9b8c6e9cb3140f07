"""Every error of agent_tracking, as one tree.

    TrackingError
    ├── ConfigurationError         a setting or a provider's variable is wrong (also a ValueError)
    └── ProviderError              something about one provider
        ├── ProviderLoadError      its package cannot be imported or made
        ├── ProviderSpecError      its hooks do not match the specifications (also a TypeError)
        └── DeliveryError          raised by a provider's hook to say what became of its records
            ├── RetryLater         not now: hand the records over again
            └── Reject             never: drop and count

``track()`` and ``identify()`` raise none of these, except in strict mode. Calls that an author or an
operator makes (``register_provider``, ``Tracker(...)``) do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_tracking.events import Record

__all__ = [
    "ConfigurationError",
    "DeliveryError",
    "ProviderError",
    "ProviderLoadError",
    "ProviderSpecError",
    "Reject",
    "RetryLater",
    "TrackingError",
]


class TrackingError(Exception):
    """The base of every error that agent_tracking raises."""


class ConfigurationError(TrackingError, ValueError):
    """A setting or a provider's variable has a value that cannot work.

    ``fix`` says what to do about it. Neither text ever holds the value itself, which may be a secret.
    """

    def __init__(self, reason: str, *, fix: str = "") -> None:
        super().__init__(f"{reason} ({fix})" if fix else reason)
        self.reason = reason
        self.fix = fix


class ProviderError(TrackingError):
    """Something is wrong with one provider."""


class ProviderLoadError(ProviderError):
    """A provider's package cannot be imported, or its class cannot be made."""


class ProviderSpecError(ProviderError, TypeError):
    """A provider's hooks do not match the hook specifications."""


class DeliveryError(ProviderError):
    """Raised by a provider's hook to tell its lane what became of the records."""


class RetryLater(DeliveryError):
    """The records could not be delivered now: hand them over again.

    Args:
        after: seconds to wait; ``None`` leaves it to the lane's exponential backoff.
        records: those that are left, oldest first; ``None`` means all that were handed over
            since the last ``flush``.
        rejected: how many of the others were given up, by reason.
    """

    def __init__(
        self,
        message: str = "",
        *,
        after: float | None = None,
        records: Sequence[Record] | None = None,
        rejected: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(message or "not now")
        self.after = after
        self.records = records
        self.rejected = dict(rejected or {})


class Reject(DeliveryError):
    """The record will never be taken: drop it and count it under ``reason``.

    Raised from ``track`` or ``identify`` it means that one record. Raised from ``flush`` with
    ``counts`` (how many records by reason) it means that the others were delivered.
    """

    def __init__(self, reason: str = "rejected", *, counts: Mapping[str, int] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.counts = dict(counts or {reason: 1})
