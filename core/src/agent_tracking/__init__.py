"""Server-side product analytics: one ``track()`` call, and every installed provider gets the event.

>>> from agent_tracking import identify, track
>>> track("order paid", {"total": 9.5}, user_id="u-1")
>>> identify("u-1", {"plan": "pro"})

Providers are packages that switch themselves on by environment variables; see the README.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_tracking.api import (
    aflush,
    configure,
    flush,
    identify,
    providers,
    register_provider,
    shutdown,
    stats,
    track,
    unregister_provider,
)
from agent_tracking.contexts import context
from agent_tracking.exceptions import (
    ConfigurationError,
    DeliveryError,
    ProviderError,
    ProviderLoadError,
    ProviderSpecError,
    Reject,
    RetryLater,
    TrackingError,
)
from agent_tracking.tracker import Tracker

if TYPE_CHECKING:
    from agent_tracking import hookspecs
    from agent_tracking.counters import FlushResult, Stats
    from agent_tracking.events import Identity, TrackingEvent
    from agent_tracking.hookspecs import hookimpl
    from agent_tracking.http_provider import (
        Delivered,
        Drop,
        Endpoint,
        HTTPProvider,
        Payload,
        Request,
        Response,
        Retry,
        Split,
        Stop,
    )
    from agent_tracking.provider import EnvVar, Provider
    from agent_tracking.records import ProviderRecord, ProviderState

__all__ = [
    # for applications
    "track",
    "identify",
    "flush",
    "aflush",
    "shutdown",
    "configure",
    "context",
    "stats",
    "register_provider",
    "unregister_provider",
    "providers",
    "Tracker",
    "TrackingEvent",
    "Identity",
    "ProviderRecord",
    "ProviderState",
    "FlushResult",
    "Stats",
    # for authors of providers
    "Provider",
    "HTTPProvider",
    "EnvVar",
    "Endpoint",
    "Payload",
    "Request",
    "Response",
    "Delivered",
    "Retry",
    "Split",
    "Drop",
    "Stop",
    "hookimpl",
    "hookspecs",
    # errors
    "TrackingError",
    "ConfigurationError",
    "ProviderError",
    "ProviderLoadError",
    "ProviderSpecError",
    "DeliveryError",
    "RetryLater",
    "Reject",
]

#: Names that are imported when they are first asked for: applications that only track need none of them,
#: and they bring pluggy and msgspec with them.
_LAZY = {
    "TrackingEvent": "events",
    "Identity": "events",
    "ProviderRecord": "records",
    "ProviderState": "records",
    "FlushResult": "counters",
    "Stats": "counters",
    "Provider": "provider",
    "EnvVar": "provider",
    "hookimpl": "hookspecs",
    "HTTPProvider": "http_provider",
    "Endpoint": "http_provider",
    "Payload": "http_provider",
    "Request": "http_provider",
    "Response": "http_provider",
    "Delivered": "http_provider",
    "Retry": "http_provider",
    "Split": "http_provider",
    "Drop": "http_provider",
    "Stop": "http_provider",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  whatever the name stands for
    from importlib import import_module

    if name == "hookspecs":
        return import_module("agent_tracking.hookspecs")
    if name == "__version__":
        from importlib_metadata import version

        return version("agent-tracking")
    if name in _LAZY:
        value = getattr(import_module(f"agent_tracking.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
