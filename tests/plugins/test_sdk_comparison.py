"""The same said by the vendors' own Python SDKs (recorded) and by these providers."""

from __future__ import annotations

from datetime import datetime

import pytest

from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider


@pytest.fixture
def recorded(kit):
    recordings = kit.load("sdk-recordings.json")["recordings"]
    return lambda sdk, path: next(r["body"] for r in recordings[sdk] if r["path"] == path)


def shape(value):
    """Return the types of a JSON value, with its keys."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    return "number" if type(value) in (int, float) else type(value).__name__


def seconds(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def test_posthog_event(kit, recorded):
    theirs = recorded("posthog_python_v0", "/batch/")["batch"][0]
    given = {"amount": 9.5, "$groups": {"company": "acme"}}
    session = theirs["properties"]["$session_id"]
    record = kit.event(
        theirs["event"],
        given,
        user_id="user_1",
        session_id=session,
        message_id=theirs["uuid"],
        time=seconds(theirs["timestamp"]),
    )
    ours = kit.one(kit.make(PostHogProvider), record)
    assert shape(ours) == shape(theirs)
    for key in ("event", "distinct_id", "uuid"):
        assert ours[key] == theirs[key]
    assert seconds(ours["timestamp"]) == seconds(theirs["timestamp"])
    own = {"$lib", "$lib_version"}
    assert {k: v for k, v in ours["properties"].items() if k not in own} == {
        k: v for k, v in theirs["properties"].items() if k not in own
    }


def test_posthog_event_of_nobody(kit, recorded):
    theirs = recorded("posthog_python_v0", "/batch/")["batch"][1]
    ours = kit.one(kit.make(PostHogProvider), kit.event(theirs["event"]))
    assert shape(ours) == shape(theirs)
    assert (
        ours["properties"]["$process_person_profile"]
        is theirs["properties"]["$process_person_profile"]
        is False
    )


def test_posthog_request_lacks_only_what_differs_between_tries(kit, recorded):
    theirs = recorded("posthog_python_v0", "/batch/")
    ours = kit.body(kit.make(PostHogProvider), kit.event())
    assert set(theirs) - set(ours) == {"sent_at", "historical_migration"}
    kit.validator("posthog-batch-v0.request.schema.json").validate(theirs)


def test_mixpanel_event(kit, recorded):
    theirs = recorded("mixpanel_python", "/track")["data"][0]
    record = kit.event(theirs["event"], {"amount": 9.5}, user_id="user_1", time=theirs["properties"]["time"])
    ours = kit.one(kit.make(MixpanelProvider), record)
    assert ours["event"] == theirs["event"]
    # the token is in the header of /import; the address, a parameter of /track, is a property
    assert set(theirs["properties"]) - set(ours["properties"]) == {"token"}
    assert set(ours["properties"]) - set(theirs["properties"]) == {"ip", "$user_id"}
    assert ours["properties"]["time"] == int(theirs["properties"]["time"] * 1000)
    for key in ("distinct_id", "amount"):
        assert ours["properties"][key] == theirs["properties"][key]


def test_mixpanel_profile(kit, recorded):
    theirs = recorded("mixpanel_python", "/engage")["data"][0]
    ours = kit.one(kit.make(MixpanelProvider), kit.identity(theirs["$set"]))
    assert set(theirs) - set(ours) == {"$time"}
    assert ours["$set"] == theirs["$set"]
    assert ours["$distinct_id"] == theirs["$distinct_id"]
    assert str(ours["$ip"]) == str(theirs["$ip"]) == "0"


def test_amplitude_event(kit, recorded):
    theirs = recorded("amplitude_python", "/2/httpapi")["events"][0]
    record = kit.event(
        theirs["event_type"],
        theirs["event_properties"],
        user_id=theirs["user_id"],
        session_id=str(theirs["session_id"]),
        message_id=theirs["insert_id"],
        time=theirs["time"] / 1000,
    )
    ours = kit.one(kit.make(AmplitudeProvider), record)
    assert {**ours, "library": ""} == {**theirs, "library": ""}


def test_amplitude_identity(kit, recorded):
    theirs = recorded("amplitude_python", "/2/httpapi")["events"][1]
    ours = kit.one(kit.make(AmplitudeProvider), kit.identity(theirs["user_properties"]["$set"]))
    assert shape(ours) == {**shape(theirs), "user_properties": {"$set": {"email": "str"}}}


def test_amplitude_request(kit, recorded):
    theirs = recorded("amplitude_python", "/2/httpapi")
    ours = kit.body(kit.make(AmplitudeProvider), kit.event())
    assert set(ours) == set(theirs)
    assert ours["options"] == theirs["options"]
