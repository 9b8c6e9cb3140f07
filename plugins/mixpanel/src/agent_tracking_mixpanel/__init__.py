"""The Mixpanel provider of agent-tracking; the entry point ``mixpanel`` names its class."""

from __future__ import annotations

from agent_tracking_mixpanel.provider import MixpanelProvider

__all__ = ["MixpanelProvider"]
