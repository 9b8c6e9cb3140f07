"""Mixpanel: what is sent."""

from __future__ import annotations

from base64 import b64decode

import pytest

from agent_tracking_mixpanel import MixpanelProvider


@pytest.fixture
def provider(kit):
    return kit.make(MixpanelProvider)


@pytest.fixture
def properties(kit, provider):
    """Send an event of ``user_1`` with these properties; return those that arrive."""

    def properties(given=None, **fields):
        event = kit.one(provider, kit.event(properties=given, **{"user_id": "user_1", **fields}))
        assert set(event) == {"event", "properties"}
        return event["properties"]

    return properties


@pytest.fixture
def profile(kit, provider):
    return lambda traits: kit.body(provider, kit.identity(traits))[0]


def test_profiles_come_before_events():
    assert [endpoint.name for endpoint in MixpanelProvider.endpoints] == ["engage", "import"]


def test_profiles_are_never_compressed():
    assert [endpoint.gzip for endpoint in MixpanelProvider.endpoints] == [False, True]


def test_events_are_sent_with_the_token_as_user_name(kit, provider):
    request = provider.request("import", [provider.encode(kit.event())])
    assert request.url == "https://api.mixpanel.com/import?strict=1"
    scheme, _, credentials = request.headers["authorization"].partition(" ")
    assert scheme == "Basic"
    assert b64decode(credentials) == b"mp_token:"
    assert request.headers["content-type"] == "application/json"


def test_profiles_carry_the_token_themselves(kit, provider):
    request = provider.request("engage", [provider.encode(kit.identity())])
    assert request.url == "https://api.mixpanel.com/engage?verbose=1&strict=1&ip=0"
    assert "authorization" not in request.headers


def test_event(kit, provider):
    assert kit.body(provider, kit.event(properties={"amount": 9.5}, user_id="u"), endpoint="import") == [
        {
            "event": "order paid",
            "properties": {
                "amount": 9.5,
                "time": 1777888800123,
                "$insert_id": kit.ID,
                "distinct_id": "u",
                "$user_id": "u",
                "ip": 0,
                "mp_lib": "agent-tracking",
                "$lib_version": "0.1.0",
            },
        }
    ]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"user_id": "u"}, {"distinct_id": "u", "$user_id": "u"}),
        ({"user_id": "u", "anonymous_id": "a"}, {"distinct_id": "u", "$user_id": "u", "$device_id": "a"}),
        ({"user_id": None, "anonymous_id": "a"}, {"distinct_id": "$device:a", "$device_id": "a"}),
        ({"user_id": None}, {"distinct_id": ""}),
    ],
)
def test_ids(properties, ids, said):
    arrived = properties(**ids)
    assert {key: arrived[key] for key in ("distinct_id", "$user_id", "$device_id") if key in arrived} == said


def test_insert_id_has_the_form_that_is_taken(kit, properties):
    assert properties()["$insert_id"] == kit.ID
    assert len(kit.ID) <= kit.load("limits.json")["mixpanel"]["insert_id_bytes"]


def test_session_is_a_plain_property(kit, properties):
    assert properties({"session_id": "x"}, session_id=kit.ID)["session_id"] == kit.ID
    assert properties({"session_id": "x"})["session_id"] == "x"


@pytest.mark.parametrize(
    "key", ["time", "distinct_id", "$user_id", "$insert_id", "mp_lib", "$lib_version", "ip"]
)
def test_property_never_overwrites_a_reserved_one(properties, key):
    assert properties({key: ["mine"], "kept": 1}) == {**properties(), "kept": 1}


@pytest.mark.parametrize("key", ["bucket", "$bucket", "$ignore", "$source", "$time", "token", "$device_id"])
def test_property_that_would_hide_or_misplace_the_event_is_removed(properties, key):
    assert properties({key: 1, "kept": 1}) == {**properties(), "kept": 1}


def test_address_of_the_end_user_stays(properties):
    assert properties({"ip": "192.0.2.1"})["ip"] == "192.0.2.1"
    for no_address in ("", 0, None, True, ["192.0.2.1"]):
        assert properties({"ip": no_address})["ip"] == 0


def test_identity_is_a_profile(profile):
    assert profile({"$email": "a@example.com", "time": 1}) == {
        "$token": "mp_token",
        "$distinct_id": "user_1",
        "$ip": "0",
        "$set": {"$email": "a@example.com", "time": 1},
    }


def test_place_of_a_profile_stands_beside_its_properties(profile):
    said = profile({"$ip": "192.0.2.1", "$latitude": 52.5, "$longitude": "east", "plan": "pro"})
    assert said["$ip"] == "192.0.2.1"
    assert said["$latitude"] == 52.5
    assert said["$set"] == {"plan": "pro"}
    assert profile({"$ip": None})["$ip"] == "0"


def test_identity_with_an_anonymous_id_merges_too(kit, provider):
    payloads = provider.encode(kit.identity({"plan": "pro"}, anonymous_id="a"))
    assert [payload.endpoint for payload in payloads] == ["engage", "import"]
    merge = kit.read(payloads[1].body)
    assert merge["event"] == "$identify"
    expected = {"$identified_id": "user_1", "$anon_id": "a", "$user_id": "user_1", "$device_id": "a"}
    assert merge["properties"].items() >= expected.items()
    kit.validator("mixpanel-import.request.schema.json").validate([merge])


def test_merge_names_what_the_vendors_description_names(kit, provider):
    identity = kit.load("mixpanel-identity.openapi.yaml")["paths"]["/track#create-identity"]
    form = identity["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
    example = kit.read(form["schema"]["allOf"][0]["properties"]["data"]["default"].encode())
    merge = kit.read(provider.encode(kit.identity(anonymous_id="a"))[1].body)
    assert merge["event"] == example["event"]
    assert set(example["properties"]) - {"token"} <= set(merge["properties"])


def test_identity_whose_anonymous_id_is_the_user_has_nothing_to_merge(kit, provider):
    assert len(kit.payloads(provider.encode(kit.identity(anonymous_id="user_1")))) == 1


@pytest.mark.parametrize("count", [1, 244, 245, 246, 600])
def test_event_has_fewer_than_255_properties(properties, count):
    given = {f"k{i}": i for i in range(count)}
    said = properties(given, anonymous_id="a", session_id="s")
    assert len(said) <= 254
    kept = [key for key in said if key in given]
    assert kept == list(given)[: min(count, 245)]


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        ("x" * 255, "x" * 255),
        ("x" * 256, "x" * 255),
        ('"' * 300, '"' * 255),
        ("é" * 255, "é" * 255),
        (list(range(254)), list(range(254))),
        (list(range(300)), list(range(254))),
        ({str(i): 1 for i in range(300)}, {str(i): 1 for i in range(254)}),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 1}}}),
        ({"a": {"b": {"c": {"d": 1}}}}, {"a": {"b": {"c": '{"d":1}'}}}),
        ([[[[1]]]], [[["[1]"]]]),
        ({"a": "x" * 300}, {"a": "x" * 255}),
    ],
    ids=lambda value: str(value)[:12],
)
def test_value_is_cut_to_what_is_taken(properties, given, arrives):
    assert properties({"v": given, "kept": 1})["v"] == arrives


def test_large_value_keeps_its_first_items(kit, properties):
    limit = kit.load("limits.json")["mixpanel"]["event_property_list_or_object_bytes"]
    for given in ([str(i) * 60 for i in range(200)], {str(i): "x" * 200 for i in range(200)}):
        said = properties({"v": given})["v"]
        assert 0 < len(said) < len(given)
        assert list(said) == list(given)[: len(said)]
        assert limit - 400 < len(kit.event(properties={"v": said}).properties_json) <= limit + len('{"v":}')


def test_profile_is_cut_by_its_own_wider_limits(kit, profile):
    limits = kit.load("limits.json")["mixpanel"]
    traits = {f"k{i}": i for i in range(2500)}
    assert len(profile(traits)["$set"]) == limits["profile_properties"]
    wide = {"list": list(range(1000)), "text": "x" * 2000}
    assert profile(wide)["$set"] == wide
    large = profile({"v": ["x" * 1000] * 400})["$set"]["v"]
    assert 200 < len(large) * 1000 < limits["profile_property_list_or_object_bytes"]


def test_numbers_keep_their_digits_when_a_property_is_removed(kit, provider):
    event = kit.event()
    text = b'{"token":1,"big":1180591620717411303424,"float":1.50}'
    event = type(event)(name="n", message_id=kit.ID, time=kit.TIME, user_id="u", properties_json=text)
    assert b'"big":1180591620717411303424,"float":1.50,' in provider.encode(event).body


def test_limits_are_below_the_servers(kit):
    limits = kit.load("limits.json")["mixpanel"]
    for endpoint in MixpanelProvider.endpoints:
        assert endpoint.records == limits["max_events_per_request"]
        assert endpoint.record_bytes < limits["max_event_bytes"]
        commas_and_brackets = endpoint.records + 1
        assert endpoint.body_bytes + commas_and_brackets < 2_000_000 < limits["max_body_bytes_in_413_example"]
