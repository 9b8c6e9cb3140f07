"""What each answer of a backend means for the batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_tracking.http_provider import Delivered, Drop, Payload, Response, Retry, Split, Stop
from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider
from agent_tracking_webhook import WebhookProvider

CLASSES = {
    "posthog": PostHogProvider,
    "mixpanel": MixpanelProvider,
    "amplitude": AmplitudeProvider,
    "webhook": WebhookProvider,
}
CANNED = [
    canned
    for canned in json.loads((Path(__file__).parent.parent / "data" / "responses.json").read_text())[
        "responses"
    ]
    if canned["endpoint"] != "/i/v1/analytics/events"  # an interface that is not used
]


def answer(status, body="", headers=None):
    text = body if isinstance(body, str) else json.dumps(body)
    return Response(status, {key.lower(): value for key, value in (headers or {}).items()}, text.encode())


@pytest.fixture
def judge(kit):
    """Return what a provider makes of an answer to a batch of so many events (or profiles)."""

    def judge(cls, response, count=10, *, profiles=False, **variables):
        provider = kit.make(cls, **variables)
        record = kit.identity() if profiles else kit.event(user_id="u")
        return provider.judge(response, kit.payloads(provider.encode(record)) * count)

    return judge


def label(canned):
    return f"{canned['provider']}{canned['endpoint']}-{canned['status']}-{canned['expect']['action']}"


@pytest.mark.parametrize("canned", CANNED, ids=label)
def test_canned_answer(kit, judge, canned):
    expect, variables = canned["expect"], {}
    cls = CLASSES[canned["provider"]]
    if canned["endpoint"] == "/batch" and cls is AmplitudeProvider:
        variables["AMPLITUDE_ENDPOINT"] = "batch"
    profiles = canned["endpoint"] == "/engage"
    # A single record: what is searched for by halving has then been found.
    single = cls is WebhookProvider or (profiles and expect["action"] == "drop")
    response = answer(canned["status"], canned["body"], canned["headers"])
    verdict = judge(cls, response, 1 if single else 10, profiles=profiles, **variables)

    action = expect["action"]
    if action == "delivered":
        assert verdict == Delivered()
    elif action == "drop":
        # the core drops a single one that is to be split
        assert (isinstance(verdict, Drop) and verdict.indexes is None) or (single and verdict == Split())
    elif action == "fail":
        assert verdict == Drop(reason="redirect")
    elif action == "retry":
        assert verdict == Retry(at_least=float(expect.get("min_delay_s", 0)))
    elif action == "split":
        assert verdict == Split("too-large")
    elif action == "isolate":
        assert verdict == Split()
    elif action == "disable":
        assert isinstance(verdict, Stop)
    else:
        assert action == "partial"
        outcome = kit.outcome(verdict, set(range(10)))
        for index in expect["dropped"]:
            assert outcome.pop(index) == "dropped"
        for index in expect.get("retry_delayed", ()):
            assert outcome.pop(index) == ("retry", expect["delay_s"])
        for index in (3, 4) if "silenced_events" in canned["body"] else ():
            assert outcome.pop(index) == ("retry", 30)
        rest = ("retry", 0) if expect["retry"] == "rest" else "delivered"
        assert set(outcome.values()) == {rest}


@pytest.mark.parametrize("cls", [PostHogProvider, MixpanelProvider, AmplitudeProvider])
@pytest.mark.parametrize("body", ["", "<html></html>", "OK", "[]", "{}", "null", "true", '{"ok":true}'])
@pytest.mark.parametrize("profiles", [False, True])
def test_success_that_is_not_the_backends_own_is_retried(judge, cls, body, profiles):
    assert judge(cls, answer(200, body), profiles=profiles) == Retry()


@pytest.mark.parametrize("cls", CLASSES.values())
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_never_followed(judge, cls, status):
    assert judge(cls, answer(status, "", {"Location": "https://elsewhere.example"})) == Drop(
        reason="redirect"
    )


@pytest.mark.parametrize("cls", CLASSES.values())
@pytest.mark.parametrize("status", [402, 404, 405, 415])
def test_answer_that_no_retry_changes_drops(judge, cls, status):
    assert judge(cls, answer(status)) == Drop()


@pytest.mark.parametrize("cls", CLASSES.values())
@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_failure_is_retried(judge, cls, status):
    verdict = judge(cls, answer(status, "<html>"))
    assert isinstance(verdict, Retry)
    assert verdict.indexes is None
    assert verdict.after is None


@pytest.mark.parametrize("cls", CLASSES.values())
@pytest.mark.parametrize("status", [400, 403, 422])
@pytest.mark.parametrize(
    "body", ["", "null", "[1]", '"text"', '{"failed_records":5}', '{"failed_records":[{}, 3]}']
)
def test_refusal_without_names_is_searched_by_halving(judge, cls, status, body):
    assert judge(cls, answer(status, body)) == Split()


@pytest.mark.parametrize("cls", [PostHogProvider, MixpanelProvider, AmplitudeProvider])
def test_wrong_key_stops_and_is_not_told(judge, cls):
    verdict = judge(cls, answer(401, "API key is not valid: phc_key"))
    assert isinstance(verdict, Stop)
    assert not {"phc_key", "mp_token", "amp_key"} & set(verdict.reason.split())


def test_amplitude_names_the_wrong_key_and_we_do_not(judge):
    verdict = judge(AmplitudeProvider, answer(400, {"code": 400, "error": "Invalid API key: amp_key"}))
    assert isinstance(verdict, Stop)
    assert "amp_key" not in verdict.reason


def test_indexes_that_no_batch_has_are_not_believed(judge):
    named = {"failed_records": [{"index": i} for i in (-1, 3, 99, "1", None)]}
    assert judge(MixpanelProvider, answer(400, named)) == Drop([3])
    fields = {"events_with_invalid_fields": {"time": [-1, 3, 99, "1", True]}, "silenced_events": "all"}
    assert judge(AmplitudeProvider, answer(400, {"code": 400, **fields})) == Drop([3], rest=Retry(after=0))


def test_mixpanel_keeps_good_events_but_good_profiles_are_sent_again(judge):
    response = answer(400, {"code": 400, "failed_records": [{"index": 2, "$insert_id": "x"}]})
    assert judge(MixpanelProvider, response) == Drop([2])
    assert judge(MixpanelProvider, response, profiles=True) == Drop([2], rest=Retry(after=0))


@pytest.mark.parametrize("body", ["0", {"status": 0, "error": "no"}])
def test_mixpanel_profile_that_fails_behind_a_200_is_searched_by_halving(judge, body):
    assert judge(MixpanelProvider, answer(200, body), profiles=True) == Split()


def test_amplitude_drops_those_over_the_daily_quota_and_delays_the_others(kit):
    provider = kit.make(AmplitudeProvider, AMPLITUDE_ENDPOINT="batch")
    records = [kit.event(user_id=u) for u in ("over", "fast", "good", "over")] + [
        kit.event(anonymous_id="dev")
    ]
    batch = [provider.encode(record) for record in records]
    response = answer(
        429,
        {
            "code": 429,
            "throttled_users": {"fast": 2000},
            "throttled_events": [0, 1],
            "exceeded_daily_quota_users": {"over": 500_001},
            "exceeded_daily_quota_devices": {"dev": 500_001},
        },
    )
    assert kit.outcome(provider.judge(response, batch), set(range(5))) == {
        0: "dropped",
        1: ("retry", 15),
        2: ("retry", 0),
        3: "dropped",
        4: "dropped",
    }


def test_amplitude_throttled_without_names_waits_as_a_whole(judge):
    assert judge(AmplitudeProvider, answer(429, {"code": 429, "error": "Too many"})) == Retry(after=30)


def test_every_amplitude_answer_here_fits_the_schema(kit):
    validator = kit.validator("amplitude.response.schema.json")
    for canned in CANNED:
        if canned["provider"] == "amplitude" and canned["body"]:
            validator.validate(canned["body"])


@pytest.mark.parametrize("form", ["array", "object", "ndjson", "cloudevents"])
def test_webhook_takes_any_2xx_whatever_its_body(judge, form):
    for status in (200, 201, 202, 204, 299):
        assert judge(WebhookProvider, answer(status, "<html>"), TRACKING_WEBHOOK_FORMAT=form) == Delivered()


def test_webhook_splits_a_batch_but_not_a_record(judge):
    assert judge(WebhookProvider, answer(413), 2) == Split("too-large")
    assert judge(WebhookProvider, answer(413), 1) == Drop(reason="too-large")
    assert judge(WebhookProvider, answer(400), 1) == Drop()


def test_webhook_that_is_gone_stops(judge):
    assert isinstance(judge(WebhookProvider, answer(410)), Stop)


def test_judging_needs_no_more_than_payloads(kit):
    for cls in CLASSES.values():
        assert isinstance(kit.make(cls).judge(answer(503), [Payload(b"{}", key=kit.ID)]), Retry)
