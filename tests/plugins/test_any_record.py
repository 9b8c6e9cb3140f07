"""Whatever a record holds: its bytes are valid, without double keys, and the same every time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_tracking.exceptions import Reject
from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider
from agent_tracking_webhook import WebhookProvider

FORMATS = ["array", "object", "ndjson", "cloudevents"]


def draw(kit, data):
    return data.draw(st.one_of(kit.events(), kit.identities()))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_posthog_body_fits_the_schema(kit, data):
    provider = kit.make(PostHogProvider)
    record = draw(kit, data)
    try:
        body = kit.body(provider, record)
    except Reject:
        return
    kit.validator("posthog-batch-v0.request.schema.json").validate(body)
    assert provider.encode(record) == kit.make(PostHogProvider).encode(record)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_mixpanel_bodies_fit_the_schemas(kit, data):
    provider = kit.make(MixpanelProvider)
    record = draw(kit, data)
    payloads = kit.payloads(provider.encode(record))
    assert payloads == kit.payloads(kit.make(MixpanelProvider).encode(record))
    for payload in payloads:
        body = kit.body(provider, record, endpoint=payload.endpoint)
        kit.validator(f"mixpanel-{payload.endpoint}.request.schema.json").validate(body)
        where = "/import" if payload.endpoint == "import" else "/engage#profile-set"
        kit.validator(
            "mixpanel-ingestion.openapi.yaml",
            *("paths", where, "post", "requestBody", "content", "application/json", "schema"),
        ).validate(body)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_amplitude_body_fits_the_schema(kit, data):
    provider = kit.make(AmplitudeProvider)
    record = draw(kit, data)
    kit.validator("amplitude-events.request.schema.json").validate(kit.body(provider, record))
    assert provider.encode(record) == kit.make(AmplitudeProvider).encode(record)


@pytest.mark.parametrize("form", FORMATS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_webhook_payload_says_the_record_and_nothing_else(kit, form, data):
    provider = kit.make(WebhookProvider, TRACKING_WEBHOOK_FORMAT=form)
    record = draw(kit, data)
    said = kit.one(provider, record)
    if form == "cloudevents":
        kit.validator("cloudevents-1.0.schema.json").validate(said)
        said = said["data"]
    named = {"userId": record.user_id, "anonymousId": record.anonymous_id}
    named["sessionId"] = getattr(record, "session_id", None)
    data_key = "properties" if hasattr(record, "properties_json") else "traits"
    expected = {
        "id": record.message_id,
        "event": getattr(record, "name", "$identify"),
        data_key: kit.read(record.data_json),
        "timestamp": record.iso,
        **{key: value for key, value in named.items() if value is not None},
    }
    assert said == expected
    assert provider.encode(record) == kit.make(WebhookProvider, TRACKING_WEBHOOK_FORMAT=form).encode(record)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_payload_key_is_the_message_id(kit, data):
    record = draw(kit, data)
    for cls in kit.REQUIRED:
        try:
            payloads = kit.payloads(kit.make(cls).encode(record))
        except Reject:
            continue
        assert {payload.key for payload in payloads} == {record.message_id}


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_what_a_caller_says_arrives_unless_the_backend_would_refuse_it(kit, data):
    record = data.draw(kit.events())
    given_properties = kit.read(record.properties_json)
    try:
        sent = kit.one(kit.make(PostHogProvider), record)["properties"]
    except Reject:
        return
    for key, value in given_properties.items():
        if not key.startswith("$") and key not in {"distinct_id", "session_id"}:
            assert sent[key] == value
