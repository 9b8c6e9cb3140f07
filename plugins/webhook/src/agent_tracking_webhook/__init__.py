"""The Webhook provider of agent-tracking; the entry point ``webhook`` names its class."""

from __future__ import annotations

from agent_tracking_webhook.provider import WebhookProvider

__all__ = ["WebhookProvider"]
