"""The PostHog provider of agent-tracking; the entry point ``posthog`` names its class."""

from __future__ import annotations

from agent_tracking_posthog.provider import PostHogProvider

__all__ = ["PostHogProvider"]
