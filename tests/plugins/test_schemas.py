"""The schemas that the wire tests go by can say no: a body that is wrong in one place is refused."""

import copy
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

DATA = Path(__file__).parents[1] / "data"
UUID = "0190b6f2-7a3e-7c10-9a55-0d7b1f6c2e11"
GONE = object()

GOOD = {
    "posthog-batch-v0": {
        "api_key": "phc_test",
        "batch": [
            {
                "event": "order paid",
                "distinct_id": "u-1",
                "uuid": UUID,
                "timestamp": "2026-05-04T10:00:00.123456Z",
                "properties": {"total": 9.5, "$geoip_disable": True},
            }
        ],
    },
    "mixpanel-import": [
        {
            "event": "order paid",
            "properties": {"time": 1777888800123, "distinct_id": "u-1", "$insert_id": UUID},
        }
    ],
    "mixpanel-engage": [{"$token": "t", "$distinct_id": "u-1", "$ip": "0", "$set": {"plan": "pro"}}],
    "amplitude-events": {
        "api_key": "k",
        "options": {"min_id_length": 1},
        "events": [
            {
                "event_type": "$identify",
                "user_id": "u-1",
                "time": 1777888800123,
                "user_properties": {"$set": {"a": 1}},
            }
        ],
    },
}
WRONG = [
    ("posthog-batch-v0", ("api_key",), GONE),
    ("posthog-batch-v0", ("api_key",), "phx_personal"),
    ("posthog-batch-v0", ("batch",), []),
    ("posthog-batch-v0", ("batch", 0, "event"), ""),
    ("posthog-batch-v0", ("batch", 0, "distinct_id"), GONE),
    ("posthog-batch-v0", ("batch", 0, "distinct_id"), 5),
    ("posthog-batch-v0", ("batch", 0, "uuid"), "order-7"),
    ("posthog-batch-v0", ("batch", 0, "timestamp"), 1777888800123),
    ("posthog-batch-v0", ("batch", 0, "timestamp"), "2026-05-04T10:00:00"),
    ("posthog-batch-v0", ("batch", 0, "properties"), []),
    ("posthog-batch-v0", ("batch", 0, "properties", "$geoip_disable"), "yes"),
    ("posthog-batch-v0", ("batch", 0, "$set"), "plan"),
    ("mixpanel-import", (0, "properties", "time"), 1777888800.5),
    ("mixpanel-import", (0, "properties", "time"), GONE),
    ("mixpanel-import", (0, "properties", "distinct_id"), "anonymous"),
    ("mixpanel-import", (0, "properties", "distinct_id"), GONE),
    ("mixpanel-import", (0, "properties", "$insert_id"), "a:b"),
    ("mixpanel-import", (0, "properties", "$insert_id"), "x" * 37),
    ("mixpanel-import", (0, "properties", "bucket"), "x"),
    ("mixpanel-import", (0, "extra"), 1),
    ("mixpanel-engage", (0, "$token"), ""),
    ("mixpanel-engage", (0, "$distinct_id"), GONE),
    ("mixpanel-engage", (0, "$set", "$ip"), "0"),
    ("mixpanel-engage", (0, "$set"), GONE),
    ("mixpanel-engage", (0, "$add"), {"n": 1}),
    ("amplitude-events", ("api_key",), ""),
    ("amplitude-events", ("events",), []),
    ("amplitude-events", ("events", 0, "user_id"), GONE),
    ("amplitude-events", ("events", 0, "user_id"), 5),
    ("amplitude-events", ("events", 0, "user_id"), "anonymous"),
    ("amplitude-events", ("events", 0, "time"), 1777888800),
    ("amplitude-events", ("events", 0, "session_id"), UUID),
    ("amplitude-events", ("events", 0, "user_properties"), {"$set": {}, "plain": 1}),
    ("amplitude-events", ("options", "min_id_length"), 0),
]


def schema(name):
    return Draft202012Validator(json.loads((DATA / f"{name}.request.schema.json").read_text()))


@pytest.mark.parametrize("name", GOOD)
def test_a_right_body_is_taken(name):
    schema(name).validate(GOOD[name])


@pytest.mark.parametrize(("name", "place", "value"), WRONG, ids=lambda part: str(part)[:40])
def test_a_body_that_is_wrong_in_one_place_is_refused(name, place, value):
    body = copy.deepcopy(GOOD[name])
    inner = body
    for key in place[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    assert not schema(name).is_valid(body)
