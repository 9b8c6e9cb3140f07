"""The Amplitude provider of agent-tracking; the entry point ``amplitude`` names its class."""

from __future__ import annotations

from agent_tracking_amplitude.provider import AmplitudeProvider

__all__ = ["AmplitudeProvider"]
