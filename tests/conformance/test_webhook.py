"""The webhook's four formats, and its signatures, proved by the suite that anybody may use."""

from __future__ import annotations

from agent_tracking.testing import Capabilities, ProviderConformance
from agent_tracking_webhook import WebhookProvider


class TestWebhook(ProviderConformance):
    provider = WebhookProvider
    # A receiver may check who sends before it is configured: its 401 is not final.
    capabilities = Capabilities(stops=False)

    def make_environ(self, place):
        return {"TRACKING_WEBHOOK_URL": f"{place}/hooks/t0ps3cret-of-the-tests"}


class TestWebhookObject(TestWebhook):
    def make_environ(self, place):
        return {**super().make_environ(place), "TRACKING_WEBHOOK_FORMAT": "object"}


class TestWebhookLines(TestWebhook):
    def make_environ(self, place):
        return {**super().make_environ(place), "TRACKING_WEBHOOK_FORMAT": "ndjson"}


class TestWebhookCloudEvents(TestWebhook):
    def make_environ(self, place):
        return {**super().make_environ(place), "TRACKING_WEBHOOK_FORMAT": "cloudevents"}


class TestWebhookSigned(TestWebhook):
    capabilities = Capabilities(stops=False, volatile_headers=("webhook-timestamp", "webhook-signature"))

    def make_environ(self, place):
        return {
            **super().make_environ(place),
            "TRACKING_WEBHOOK_AUTH": "Bearer t0ps3cret-bearer-of-the-tests",
            "TRACKING_WEBHOOK_SECRET": "whsec_dDBwczNjcmV0LXNpZ25pbmcta2V5LW9mLXRoZS10ZXN0cw==",
        }
