"""Amplitude's two endpoints, proved by the suite that anybody may use."""

from __future__ import annotations

from agent_tracking.testing import Capabilities, ProviderConformance
from agent_tracking_amplitude import AmplitudeProvider


class TestAmplitude(ProviderConformance):
    provider = AmplitudeProvider
    capabilities = Capabilities(own_answers=True)

    def make_environ(self, place):
        return {"AMPLITUDE_API_KEY": "amp_t0ps3cret_of_the_tests", "AMPLITUDE_HOST": place}


class TestAmplitudeBatch(TestAmplitude):
    def make_environ(self, place):
        return {**super().make_environ(place), "AMPLITUDE_ENDPOINT": "batch"}
