"""All tests together, as the class that an author subclasses."""

from __future__ import annotations

from agent_tracking.testing.conformance.activation import ActivationTests
from agent_tracking.testing.conformance.answers import AnswerTests
from agent_tracking.testing.conformance.delivery import DeliveryTests
from agent_tracking.testing.conformance.encoding import EncodingTests
from agent_tracking.testing.conformance.faults import FaultTests
from agent_tracking.testing.conformance.hooks import HookTests
from agent_tracking.testing.conformance.imports import ImportTests
from agent_tracking.testing.conformance.requests import RequestTests
from agent_tracking.testing.conformance.secrecy import SecrecyTests

__all__ = ["ProviderConformance"]


class ProviderConformance(
    ActivationTests,
    SecrecyTests,
    ImportTests,
    HookTests,
    EncodingTests,
    RequestTests,
    AnswerTests,
    DeliveryTests,
    FaultTests,
):
    """Subclass it in a test module of yours; see :mod:`agent_tracking.testing.conformance`."""
