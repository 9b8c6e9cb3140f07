"""The webhook: what is sent."""

from __future__ import annotations

import pytest

from agent_tracking_webhook import WebhookProvider
from agent_tracking_webhook.signing import sign, signatures, signing_keys

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
OTHER = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="


@pytest.fixture
def hook(kit):
    def hook(**variables):
        provider = kit.make(WebhookProvider, **{f"TRACKING_WEBHOOK_{k}": v for k, v in variables.items()})
        provider.clock = lambda: 1718716477.9
        return provider

    return hook


@pytest.fixture
def two(kit):
    other = "7c0e5f0a-1111-4222-8333-444455556666"
    return lambda provider: [provider.encode(kit.event()), provider.encode(kit.event(message_id=other))]


def test_event_says_all_that_is_known(kit, hook):
    event = kit.event(properties={"a": 1}, user_id="u", anonymous_id="a", session_id="s")
    assert kit.one(hook(), event) == {
        "id": kit.ID,
        "event": "order paid",
        "properties": {"a": 1},
        "userId": "u",
        "anonymousId": "a",
        "sessionId": "s",
        "timestamp": "2026-05-04T10:00:00.123000Z",
    }


def test_what_is_unknown_is_left_out(kit, hook):
    assert set(kit.one(hook(), kit.event())) == {"id", "event", "properties", "timestamp"}


def test_identity_is_an_identify_with_traits(kit, hook):
    assert kit.one(hook(), kit.identity({"a": 1}, anonymous_id="a")) == {
        "id": kit.ID,
        "event": "$identify",
        "traits": {"a": 1},
        "userId": "user_1",
        "anonymousId": "a",
        "timestamp": "2026-05-04T10:00:00.123000Z",
    }


def test_array_is_the_default(kit, hook, two):
    provider = hook()
    request = provider.request("batch", two(provider))
    assert request.headers["content-type"] == "application/json"
    assert len(kit.read(request.body)) == 2
    assert isinstance(kit.read(provider.request("batch", two(provider)[:1]).body), list)


def test_object_is_one_record_a_request(kit, hook):
    provider = hook(FORMAT="object")
    assert [endpoint.records for endpoint in provider.endpoints] == [1]
    request = provider.request("single", [provider.encode(kit.event())])
    assert request.headers["content-type"] == "application/json"
    assert kit.read(request.body)["id"] == kit.ID


def test_ndjson_ends_every_line(kit, hook, two):
    provider = hook(FORMAT="ndjson")
    request = provider.request("batch", [*two(provider), provider.encode(kit.event(properties={"a": "\n"}))])
    assert request.headers["content-type"] == "application/x-ndjson"
    assert request.body.endswith(b"\n")
    lines = request.body.splitlines()
    assert [kit.read(line)["event"] for line in lines] == ["order paid"] * 3


def test_cloudevents_is_a_batch_of_them(kit, hook, two):
    provider = hook(FORMAT="CloudEvents")
    request = provider.request("batch", two(provider))
    assert request.headers["content-type"] == "application/cloudevents-batch+json"
    for event in kit.read(request.body):
        kit.validator("cloudevents-1.0.schema.json").validate(event)
        assert event["type"] == event["data"]["event"] == "order paid"
        assert event["id"] == event["data"]["id"]
        assert event["time"] == event["data"]["timestamp"]
        assert event["specversion"] == "1.0"


def test_cloudevents_type_has_no_control_characters(kit, hook):
    event = kit.one(hook(FORMAT="cloudevents"), kit.event("a\x00b\x85c"))
    assert event["type"] == "a b c"
    assert event["data"]["event"] == "a\x00b\x85c"
    assert kit.one(hook(FORMAT="cloudevents"), kit.identity())["type"] == "$identify"


def test_formats_share_no_endpoints(hook):
    hook(FORMAT="object")
    assert hook().endpoints == WebhookProvider.endpoints
    assert hook().endpoints[0].records > 1


def test_url_is_posted_to_as_it_is(kit, hook, two):
    provider = hook(URL="https://hooks.example/in/?key=a/")
    assert provider.request("batch", two(provider)).url == "https://hooks.example/in/?key=a/"


def test_authorization_is_sent_verbatim(hook, two):
    provider = hook(AUTH="Custom a=b, ü")
    assert provider.request("batch", two(provider)).headers["authorization"] == "Custom a=b, ü"
    assert "authorization" not in hook().request("batch", two(provider)).headers


@pytest.mark.parametrize("secret", [{}, {"SECRET": SECRET}])
def test_webhook_id_is_the_same_on_every_try(hook, two, secret):
    provider = hook(**secret)
    batch = two(provider)
    first = provider.request("batch", batch)
    provider.clock = lambda: 1718719999.0
    again = provider.request("batch", batch)
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert first.body == again.body
    assert hook().request("batch", batch).headers["webhook-id"] == first.headers["webhook-id"]


def test_webhook_id_of_one_record_is_its_own(kit, hook, two):
    provider = hook()
    batch = two(provider)
    ids = {provider.request("batch", part).headers["webhook-id"] for part in (batch, batch[:1], batch[1:])}
    assert len(ids) == 3
    assert provider.request("batch", batch[:1]).headers["webhook-id"] == kit.ID
    assert not any("." in each for each in ids)


def test_signature_is_of_the_bytes_and_the_time_of_the_try(hook, two):
    provider = hook(SECRET=SECRET)
    request = provider.request("batch", two(provider))
    headers = request.headers
    assert headers["webhook-timestamp"] == "1718716477"
    (key,) = signing_keys("S", SECRET)
    assert headers["webhook-signature"] == sign(key, headers["webhook-id"], "1718716477", request.body)


def test_nothing_is_signed_without_a_secret(hook, two):
    headers = hook().request("batch", two(hook())).headers
    assert not {"webhook-signature", "webhook-timestamp"} & set(headers)


def test_two_secrets_give_two_signatures(hook, two):
    provider = hook(SECRET=f"{SECRET} {OTHER}")
    signature = provider.request("batch", two(provider)).headers["webhook-signature"]
    alone = [hook(SECRET=each).request("batch", two(provider)).headers for each in (SECRET, OTHER)]
    assert signature.split(" ") == [headers["webhook-signature"] for headers in alone]


@pytest.mark.parametrize("index", range(3))
def test_signature_vectors(kit, index):
    vector = kit.load("standard-webhooks-vectors.json")["vectors"][index]
    keys = signing_keys("S", vector["secret"])
    signed = signatures(keys, vector["webhook-id"], vector["webhook-timestamp"], vector["body"].encode())
    assert signed == vector["webhook-signature"]
