"""The conformance suite: an author's test module subclasses it, and knows that the provider is right.

::

    from agent_tracking.testing import Capabilities, ProviderConformance
    from agent_tracking_acme import AcmeProvider

    class TestAcme(ProviderConformance):
        provider = AcmeProvider
        capabilities = Capabilities(gzip=True)

        def make_environ(self, place):
            return {"ACME_KEY": "key-of-the-tests", "ACME_HOST": place}

Everything goes through a real tracker and real HTTP, to a stand-in for the backend on this machine. A
provider that is not HTTP gets a folder instead of an address, and says by ``delivered`` what has come.
Needs pytest: ``pip install 'agent-tracking[testing]'``.

    capabilities   what a provider claims; tests of what it does not claim are not collected
    base           what an author fills in, and which tests there are
    bench          the provider in a tracker, at a stand-in
    records        ordinary and hostile records
    probe          what runs in a process of its own
    report         what the terminal and the JSON file say
    activation, secrecy, imports, encoding, requests, answers, hooks, delivery, faults: the tests
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_tracking.testing.conformance.capabilities import Capabilities
    from agent_tracking.testing.conformance.suite import ProviderConformance

__all__ = ["Capabilities", "ProviderConformance"]

#: Looked up at first use: the probe's processes must not pay for pytest.
_HOMES = {"Capabilities": "capabilities", "ProviderConformance": "suite"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
