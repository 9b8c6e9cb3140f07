"""For tests: what an application tracks, captured; and a stand-in for backends that misbehaves on command.

>>> from agent_tracking import track
>>> from agent_tracking.testing import capture
>>> with capture() as events:
...     track("order paid", {"total": 9.5})
>>> events.one("order paid").properties
{'total': 9.5}

:class:`Sink` is a local server that keeps a ledger of what providers sent:

>>> from agent_tracking.testing import Fault, Sink
>>> with Sink() as sink:
...     sink.fail("posthog", Fault.status(503, times=2))
...     environ = sink.environ("posthog")
>>> sorted(environ)
['POSTHOG_API_KEY', 'POSTHOG_HOST']

:class:`ProviderConformance` proves a provider (:mod:`agent_tracking.testing.conformance`); it needs pytest.
:class:`Sink` runs in threads of this process, :class:`SinkProcess` (or
``python -m agent_tracking.testing.sink``) in a process of its own. See :mod:`agent_tracking.testing.sink`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_tracking.testing.backends import Answer, Backend, Incoming, Reading
    from agent_tracking.testing.captured import Captured
    from agent_tracking.testing.capturing import capture
    from agent_tracking.testing.conformance import Capabilities, ProviderConformance
    from agent_tracking.testing.elsewhere import refused_url, unresolvable_url
    from agent_tracking.testing.faults import Fault
    from agent_tracking.testing.ledger import Count, Ledger, Received, Totals
    from agent_tracking.testing.process import SinkProcess
    from agent_tracking.testing.sink import Sink, tls_sink

__all__ = [
    "Answer",
    "Backend",
    "Capabilities",
    "Captured",
    "Count",
    "Fault",
    "Incoming",
    "Ledger",
    "ProviderConformance",
    "Reading",
    "Received",
    "Sink",
    "SinkProcess",
    "Totals",
    "capture",
    "refused_url",
    "tls_sink",
    "unresolvable_url",
]

#: Looked up at first use: ``python -m agent_tracking.testing.sink`` must find its module unloaded.
_HOMES = {
    "Answer": "backends",
    "Backend": "backends",
    "Capabilities": "conformance",
    "Captured": "captured",
    "Count": "ledger",
    "Fault": "faults",
    "Incoming": "backends",
    "Ledger": "ledger",
    "ProviderConformance": "conformance",
    "Reading": "backends",
    "Received": "ledger",
    "Sink": "sink",
    "SinkProcess": "process",
    "Totals": "ledger",
    "capture": "capturing",
    "refused_url": "elsewhere",
    "tls_sink": "sink",
    "unresolvable_url": "elsewhere",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
