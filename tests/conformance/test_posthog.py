"""PostHog, proved by the suite that anybody may use."""

from __future__ import annotations

from agent_tracking.testing import Capabilities, ProviderConformance
from agent_tracking_posthog import PostHogProvider


class TestPostHog(ProviderConformance):
    provider = PostHogProvider
    capabilities = Capabilities(own_answers=True, gzip=True)

    def make_environ(self, place):
        return {"POSTHOG_API_KEY": "phc_t0ps3cret_of_the_tests", "POSTHOG_HOST": place}
