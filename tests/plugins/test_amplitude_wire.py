"""Amplitude: what is sent."""

from __future__ import annotations

import pytest

from agent_tracking.provider import IMPORTING
from agent_tracking_amplitude import AmplitudeProvider


@pytest.fixture
def send(kit):
    provider = kit.make(AmplitudeProvider)
    return lambda record: kit.one(provider, record)


def nested(levels):
    return {} if levels == 1 else {"n": nested(levels - 1)}


def test_body_is_key_options_and_events(kit):
    body = kit.body(kit.make(AmplitudeProvider), kit.event(user_id="u"), kit.event(user_id="v"))
    assert list(body) == ["api_key", "options", "events"]
    assert body["api_key"] == "amp_key"
    kit.validator("amplitude-events.request.schema.json").validate(body)


def test_short_ids_are_allowed_for(kit):
    body = kit.body(kit.make(AmplitudeProvider), kit.event(user_id="7"))
    assert body["options"] == {"min_id_length": 1}
    assert body["events"][0]["user_id"] == "7"


def test_event(kit, send):
    assert send(kit.event(properties={"amount": 9.5, "time": 1}, user_id="u")) == {
        "event_type": "order paid",
        "user_id": "u",
        "time": 1777888800123,
        "insert_id": kit.ID,
        "event_properties": {"amount": 9.5, "time": 1},
        "library": "agent-tracking/0.1.0",
    }


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"user_id": "u"}, {"user_id": "u"}),
        ({"user_id": "u", "anonymous_id": "a"}, {"user_id": "u", "device_id": "a"}),
        ({"anonymous_id": "a"}, {"device_id": "a"}),
        ({}, {"device_id": "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11"}),
    ],
)
def test_ids(kit, send, ids, said):
    event = send(kit.event(**ids))
    assert {key: event[key] for key in ("user_id", "device_id") if key in event} == said


def test_no_two_nobodies_share_a_device(kit, send):
    other = "7c0e5f0a-1111-4222-8333-444455556666"
    assert send(kit.event(message_id=other))["device_id"] != send(kit.event())["device_id"]


def test_session_is_a_session_only_if_it_is_a_time(kit, send):
    event = send(kit.event(session_id="1718716477000"))
    assert event["session_id"] == 1718716477000
    assert event["event_properties"] == {}
    for other in (kit.ID, "42", "-1", "01718716477000", "1718716477000\n", "١٧١٨٧١٦٤٧٧٠٠٠"):
        event = send(kit.event(properties={"kept": 1}, session_id=other))
        assert "session_id" not in event
        assert event["event_properties"] == {"kept": 1, "session_id": other}


def test_own_session_wins_over_a_property(kit, send):
    assert send(kit.event(properties={"session_id": "x"}, session_id="s"))["event_properties"] == {
        "session_id": "s"
    }
    assert send(kit.event(properties={"session_id": "x"}))["event_properties"] == {"session_id": "x"}
    inner = {"inner": {"session_id": "x"}}
    assert send(kit.event(properties=inner, session_id="s"))["event_properties"] == {
        **inner,
        "session_id": "s",
    }


def test_identity_sets_the_traits(kit, send):
    event = send(kit.identity({"email": "a@example.com", "$add": 1}, anonymous_id="a"))
    assert event["event_type"] == "$identify"
    assert (event["user_id"], event["device_id"]) == ("user_1", "a")
    assert event["user_properties"] == {"$set": {"email": "a@example.com", "$add": 1}}
    assert "event_properties" not in event


@pytest.mark.parametrize(
    ("name", "said"), [("$pageview", "pageview"), ("$identify", "identify"), ("$$", "_"), ("a$", "a$")]
)
def test_names_that_are_amplitudes_own_lose_their_dollar(kit, send, name, said):
    assert send(kit.event(name))["event_type"] == said


def test_no_address_is_sent(kit, send):
    assert "ip" not in send(kit.event(properties={"ip": "192.0.2.1"}))


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1024),
        ('"' * 1500, '"' * 1024),
        ("é" * 1024, "é" * 1024),
        ({str(i): 1 for i in range(1100)}, {str(i): 1 for i in range(1024)}),
        (list(range(3000)), list(range(3000))),
        (nested(39), nested(39)),
    ],
    ids=lambda value: str(value)[:12],
)
def test_value_is_cut_to_what_is_taken(kit, send, given, arrives):
    assert send(kit.event(properties={"v": given}))["event_properties"]["v"] == arrives
    assert send(kit.identity({"v": given}))["user_properties"]["$set"]["v"] == arrives


def test_what_is_too_deep_becomes_text(kit, send):
    value = send(kit.event(properties=nested(60)))["event_properties"]
    for _ in range(40):
        value = value["n"]
    assert isinstance(value, str)


def test_long_id_is_cut(kit, send):
    event = send(kit.event(user_id="u" * 2000, anonymous_id="a" * 2000))
    assert len(event["user_id"]) == len(event["device_id"]) == 1024


def test_batch_endpoint_takes_more(kit):
    usual = kit.make(AmplitudeProvider)
    bulk = kit.make(AmplitudeProvider, AMPLITUDE_ENDPOINT="Batch")
    payloads = [bulk.encode(kit.event())]
    assert usual.request("", payloads).url == "https://api2.amplitude.com/2/httpapi"
    assert bulk.request("", payloads).url == "https://api2.amplitude.com/batch"
    assert bulk.endpoints[0].records > usual.endpoints[0].records
    assert AmplitudeProvider.endpoints == usual.endpoints


@pytest.mark.parametrize("endpoint", ["httpapi", "batch"])
def test_limits_are_below_the_servers(kit, endpoint):
    limits = kit.load("limits.json")["amplitude"][endpoint]
    (ours,) = kit.make(AmplitudeProvider, AMPLITUDE_ENDPOINT=endpoint).endpoints
    assert ours.records <= limits["max_events_per_request"]
    assert ours.record_bytes <= ours.body_bytes < limits["max_body_bytes"] - 10_000
    assert not ours.gzip


def test_an_import_goes_to_batch_unless_the_variable_says_otherwise(kit):
    (endpoint,) = kit.make(AmplitudeProvider, **{IMPORTING: "1"}).endpoints
    assert endpoint.name == "batch"
    (endpoint,) = kit.make(AmplitudeProvider, **{IMPORTING: "1", "AMPLITUDE_ENDPOINT": "httpapi"}).endpoints
    assert endpoint.name == "httpapi"
