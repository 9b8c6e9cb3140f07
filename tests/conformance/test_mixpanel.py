"""Mixpanel, proved by the suite that anybody may use."""

from __future__ import annotations

from agent_tracking.testing import Capabilities, ProviderConformance
from agent_tracking_mixpanel import MixpanelProvider


class TestMixpanel(ProviderConformance):
    provider = MixpanelProvider
    capabilities = Capabilities(own_answers=True, gzip=True)

    def make_environ(self, place):
        return {"MIXPANEL_TOKEN": "mp_t0ps3cret_of_the_tests", "MIXPANEL_HOST": place}
