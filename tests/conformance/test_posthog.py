"""PostHog, proved by the suite that anybody may use."""

from __future__ import annotations

from agent_tracking.testing import Capabilities, ProviderConformance
from agent_tracking_posthog import PostHogProvider


class TestPostHog(ProviderConformance):
    provider = PostHogProvider
    capabilities = Capabilities(own_answers=True, gzip=True)

    def make_environ(self, place):
        return {"POSTHOG_API_KEY": "phc_t0ps3cret_of_the_tests", "POSTHOG_HOST": place}


class TestPostHogHistorical(TestPostHog):
    """The same, where old records go as a migration: those of the suite are old, or will be."""

    def make_environ(self, place):
        return {**super().make_environ(place), "POSTHOG_HISTORICAL": "on"}
