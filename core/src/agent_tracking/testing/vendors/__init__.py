"""The built-in backends: strict where the vendors are strict, and answering in their words.

Where the vendors' documentation leaves something open, the stricter reading applies.
"""

from __future__ import annotations

from agent_tracking.testing.backends import Backend
from agent_tracking.testing.vendors.amplitude import Amplitude
from agent_tracking.testing.vendors.mixpanel import Mixpanel
from agent_tracking.testing.vendors.posthog import PostHog
from agent_tracking.testing.vendors.webhook import Webhook

__all__ = ["Amplitude", "Mixpanel", "PostHog", "Webhook", "vendors"]


def vendors() -> dict[str, Backend]:
    """Return the four built-in backends by provider name."""
    return {"posthog": PostHog(), "mixpanel": Mixpanel(), "amplitude": Amplitude(), "webhook": Webhook()}
