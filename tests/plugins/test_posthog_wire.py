"""PostHog: what is sent."""

from __future__ import annotations

import pytest

from agent_tracking.exceptions import ConfigurationError, Reject
from agent_tracking.provider import IMPORTING
from agent_tracking_posthog import PostHogProvider

UUID4 = "7c0e5f0a-1111-4222-8333-444455556666"


@pytest.fixture
def send(kit):
    provider = kit.make(PostHogProvider)
    return lambda record: kit.one(provider, record)


@pytest.fixture
def properties(kit, send):
    """Send an event of ``user_1`` with these properties; return those that arrive."""

    def properties(given=None, name="order paid", **fields):
        return send(kit.event(name, given, **{"user_id": "user_1", **fields}))["properties"]

    return properties


def test_body_is_key_and_batch_alone(kit):
    body = kit.body(kit.make(PostHogProvider), kit.event(user_id="u"), kit.event(user_id="v"))
    assert list(body) == ["api_key", "batch"]
    assert body["api_key"] == "phc_key"
    assert [event["distinct_id"] for event in body["batch"]] == ["u", "v"]
    kit.validator("posthog-batch-v0.request.schema.json").validate(body)


def test_id_and_time_stand_beside_the_properties(kit, send):
    event = send(kit.event(properties={"uuid": 1, "timestamp": 2, "event": 3}, user_id="u"))
    assert event["uuid"] == kit.ID
    assert event["timestamp"] == "2026-05-04T10:00:00.123000Z"
    assert event["event"] == "order paid"
    assert event["properties"].items() >= {"uuid": 1, "timestamp": 2, "event": 3}.items()


def test_every_event_says_library_server_and_no_place(kit, send):
    for record in (kit.event(user_id="u"), kit.event(), kit.event(anonymous_id="a"), kit.identity()):
        said = send(record)["properties"]
        assert said["$lib"] == "agent-tracking"
        assert said["$lib_version"] == "0.1.0"
        assert said["$is_server"] is True
        assert said["$geoip_disable"] is True


@pytest.mark.parametrize(
    ("ids", "distinct_id", "person"),
    [
        ({"user_id": "u"}, "u", True),
        ({"user_id": "u", "anonymous_id": "a"}, "u", True),
        ({"anonymous_id": "a"}, "a", False),
        ({}, "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11", False),
    ],
)
def test_ids(kit, send, ids, distinct_id, person):
    event = send(kit.event(**ids))
    assert event["distinct_id"] == distinct_id
    assert event["properties"].get("$process_person_profile", True) is person


def test_nobody_is_somebody_else_each_time(kit, send):
    assert send(kit.event(message_id=UUID4))["distinct_id"] != send(kit.event())["distinct_id"]


def test_long_id_is_cut_where_the_server_cuts(kit, send):
    assert send(kit.event(user_id="ü" * 300))["distinct_id"] == "ü" * 200
    assert send(kit.identity(anonymous_id="a" * 300))["properties"]["$anon_distinct_id"] == "a" * 200


def test_identity_sets_the_traits_and_keeps_the_person(kit, send):
    event = send(kit.identity({"email": "a@example.com"}))
    assert event["event"] == "$identify"
    assert event["distinct_id"] == "user_1"
    assert event["properties"]["$set"] == {"email": "a@example.com"}
    assert not {"$anon_distinct_id", "$process_person_profile"} & set(event["properties"])


def test_identity_merges_the_anonymous_id(kit, send):
    assert send(kit.identity(anonymous_id="a"))["properties"]["$anon_distinct_id"] == "a"
    assert "$anon_distinct_id" not in send(kit.identity(anonymous_id="user_1"))["properties"]


def test_traits_named_like_properties_of_ours_stay_traits(kit, send):
    traits = {"$lib": "x", "$set_once": {"a": 1}, "$geoip_disable": False}
    assert send(kit.identity(traits))["properties"]["$set"] == traits


def test_session_is_a_session_only_if_it_is_a_uuid7(kit, properties):
    assert properties(session_id=kit.ID)["$session_id"] == kit.ID
    assert properties(session_id=kit.ID.upper())["$session_id"] == kit.ID.upper()
    for other in (UUID4, "s-1", kit.ID[:-1] + "\n"):
        said = properties(session_id=other)
        assert said["session_id"] == other
        assert "$session_id" not in said


def test_own_session_wins_over_a_property(kit, properties):
    assert properties({"$session_id": "x"}, session_id=kit.ID)["$session_id"] == kit.ID
    assert properties({"session_id": "x"}, session_id="s-1")["session_id"] == "s-1"
    assert (
        properties({"session_id": "x", "$session_id": "y"}).items()
        >= {"session_id": "x", "$session_id": "y"}.items()
    )
    assert properties({"session_id": "x"}, session_id=kit.ID)["session_id"] == "x"


@pytest.mark.parametrize("key", ["$lib", "$lib_version", "$is_server", "$geoip_disable"])
def test_property_never_overwrites_a_reserved_one(properties, key):
    assert properties({key: "mine", "kept": 1}) == {**properties(), "kept": 1}


@pytest.mark.parametrize(
    ("key", "right", "wrong"),
    [
        ("$set", {"plan": "pro"}, "pro"),
        ("$set_once", {"plan": "pro"}, ["plan"]),
        ("$groups", {"company": "acme"}, "acme"),
        ("$group_set", {"plan": "pro"}, 1),
        ("$cookieless_mode", True, "true"),
        ("$process_person_profile", False, 0),
        ("$ip", "192.0.2.1", 3221225985),
        ("$session_id", "s", 5),
        ("$group_key", "acme", "a" * 401),
        ("$anon_distinct_id", "a", None),
        ("distinct_id", "d", ""),
        ("$exception_list", [{"type": "E", "value": "v"}], []),
    ],
)
def test_property_of_a_wrong_type_costs_itself_only(properties, key, right, wrong):
    assert properties({"kept": 1, key: right})[key] == right
    said = properties({"kept": 1, key: wrong})
    assert key not in said
    assert said["kept"] == 1


def test_reserved_names_inside_values_are_left_alone(properties):
    given = {"inner": {"$lib": "x", "$set": 5}, "text": '"$lib":1', 'odd"$lib': 1, "$price": "$9"}
    assert properties(given).items() >= given.items()


def test_numbers_keep_their_digits_when_a_property_is_removed(kit):
    event = kit.event(user_id="u")
    text = b'{"$lib":1,"big":1180591620717411303424,"float":1.50}'
    event = type(event)(name="n", message_id=kit.ID, time=kit.TIME, user_id="u", properties_json=text)
    assert b'"big":1180591620717411303424,"float":1.50,' in kit.make(PostHogProvider).encode(event).body


def test_address_of_the_end_user_turns_the_place_on(properties):
    assert "$geoip_disable" not in properties({"$ip": "192.0.2.1"})
    assert properties({"$ip": "192.0.2.1", "$geoip_disable": True})["$geoip_disable"] is True
    assert properties({"$geoip_disable": False})["$geoip_disable"] is True


def test_caller_decides_on_the_person_of_a_known_id_only(properties):
    profile = {"$process_person_profile": True}
    assert properties({"$process_person_profile": False})["$process_person_profile"] is False
    assert properties(profile, user_id=None, anonymous_id="a")["$process_person_profile"] is True
    assert properties(profile, user_id=None)["$process_person_profile"] is False


@pytest.mark.parametrize("name", ["$identify", "$create_alias", "$merge_dangerously", "$groupidentify"])
@pytest.mark.parametrize("user", ["u", None])
def test_merging_events_never_go_without_person(properties, name, user):
    given = {"alias": "a", "$group_type": "company", "$group_key": "acme", "$process_person_profile": False}
    assert "$process_person_profile" not in properties(given, name, user_id=user)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("$groupidentify", {"$group_type": "company"}),
        ("$create_alias", {}),
        ("$exception", {"$exception_list": "boom"}),
    ],
)
def test_event_of_posthogs_own_that_it_would_throw_away_is_refused(properties, name, given):
    with pytest.raises(Reject):
        properties(given, name)


def test_exception_sets_no_person_properties(properties):
    listed = [{"type": "ValueError", "value": "boom"}]
    said = properties({"$exception_list": listed, "$set": {"a": 1}, "$set_once": {}}, "$exception")
    assert said["$exception_list"] == listed
    assert not {"$set", "$set_once"} & set(said)


@pytest.mark.parametrize("data", [{}, {"a": 1}])
def test_event_without_properties_is_valid_too(kit, send, data):
    assert send(kit.event(properties=data))["properties"].items() >= data.items()


def test_limits_are_below_the_servers(kit):
    limits = kit.load("limits.json")["posthog"]
    (endpoint,) = PostHogProvider.endpoints
    assert endpoint.record_bytes == limits["sdk_max_event_bytes"] < limits["max_event_bytes_server"]
    assert endpoint.body_bytes == limits["sdk_batch_bytes"] < limits["max_body_bytes"]
    assert endpoint.gzip


class Historical(PostHogProvider):
    clock = staticmethod(lambda: 1777888800.123)

    def __init__(self, **variables):
        super().__init__({"POSTHOG_API_KEY": "phc_key", **variables})


DAY = 86_400.0


def _sent(kit, provider, *records):
    """Return the bodies by endpoint."""
    names = {payload.endpoint for record in records for payload in kit.payloads(provider.encode(record))}
    return {name: kit.body(provider, *records, endpoint=name) for name in names}


def test_only_what_is_two_days_old_is_a_migration_and_only_when_it_is_switched_on(kit):
    old, new = kit.event("old", time=kit.TIME - 2 * DAY - 1), kit.event("new", time=kit.TIME - 2 * DAY)
    person = kit.identity(time=kit.TIME - 30 * DAY)
    sent = _sent(kit, Historical(POSTHOG_HISTORICAL="on"), old, new, person)
    assert [event["event"] for event in sent["batch"]["batch"]] == ["new"]
    assert [event["event"] for event in sent["historical"]["batch"]] == ["old", "$identify"]
    assert sent["historical"]["historical_migration"] is True
    assert "historical_migration" not in sent["batch"]
    kit.validator("posthog-batch-v0.request.schema.json").validate(sent["historical"])
    usual = _sent(kit, Historical(), old, new, person)
    assert list(usual) == ["batch"]
    assert list(usual["batch"]) == ["api_key", "batch"]


def test_a_migration_has_the_limits_and_the_bytes_of_every_other_event(kit):
    provider = Historical(POSTHOG_HISTORICAL="ON")
    batch, historical = provider.endpoints
    assert (batch.name, historical.name) == ("batch", "historical")
    assert (batch.records, batch.record_bytes, batch.body_bytes, batch.gzip) == (
        historical.records,
        historical.record_bytes,
        historical.body_bytes,
        historical.gzip,
    )
    old = kit.event(time=0.0)
    assert provider.encode(old).body == Historical().encode(old).body


def test_an_import_switches_the_migration_on_unless_its_variable_says_otherwise(kit):
    old = kit.event(time=0.0)
    assert Historical(**{IMPORTING: "1"}).encode(old).endpoint == "historical"
    off = Historical(**{IMPORTING: "1", "POSTHOG_HISTORICAL": "off"})
    assert off.encode(old).endpoint == "batch"


def test_a_migration_is_on_or_off():
    with pytest.raises(ConfigurationError, match="POSTHOG_HISTORICAL is neither on nor off"):
        PostHogProvider({"POSTHOG_API_KEY": "phc_key", "POSTHOG_HISTORICAL": "maybe"})
