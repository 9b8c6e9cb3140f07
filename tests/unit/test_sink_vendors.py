"""The built-in backends refuse what the vendors refuse, in their words."""

from __future__ import annotations

import base64
import gzip
import json
from uuid import uuid4

import httpx
import pytest

from agent_tracking.testing import Fault, Sink
from agent_tracking.testing.vendors import Webhook


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


@pytest.fixture
def client():
    with httpx.Client(timeout=10, trust_env=False) as client:
        yield client


# PostHog


@pytest.fixture
def posthog(sink, client):
    def post(*events, path="/batch/", **envelope):
        body = {"api_key": "phc_test", "batch": list(events)} | envelope
        return client.post(f"{sink.url}/posthog{path}", json={k: v for k, v in body.items() if v is not None})

    return post


def capture(**fields):
    return {
        "event": "order paid",
        "distinct_id": "user_1",
        "uuid": str(uuid4()),
        "timestamp": "2026-05-04T10:00:00.123Z",
        "properties": {"amount": 9.5},
    } | fields


def test_posthog_takes_a_batch_and_counts_by_uuid(sink, posthog):
    first, second = capture(), capture()

    answer = posthog(first, second)

    assert (answer.status_code, answer.json()) == (200, {"status": "Ok"})
    assert sink.ledger["posthog"].accepted_keys() == [first["uuid"], second["uuid"]]
    assert sink.events("posthog") == [first, second]


@pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}, {}])
def test_posthog_reads_gzip_announced_or_not(sink, client, headers):
    body = gzip.compress(json.dumps({"api_key": "phc_test", "batch": [capture()]}).encode())

    answer = client.post(f"{sink.url}/posthog/batch/", content=body, headers=headers)

    assert answer.status_code == 200
    assert sink.ledger["posthog"].accepted == 1


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (None, "event submitted without an api_key"),
        ("", "event submitted without an api_key"),
        ("phx_personal", "API key is not valid"),
        ("invalid", "API key is not valid"),
    ],
)
def test_posthog_refuses_a_missing_or_wrong_key(sink, posthog, key, text):
    answer = posthog(capture(), api_key=key)

    assert answer.status_code == 401
    assert answer.text.startswith(text)
    assert sink.ledger["posthog"].accepted == 0


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"distinct_id": None}, "event submitted without a distinct_id"),
        ({"distinct_id": "  "}, "event submitted without a distinct_id"),
        ({"event": ""}, "event submitted with an empty event name"),
        ({"event": 1}, "failed to parse request"),
        ({"uuid": "not-a-uuid"}, "failed to parse request"),
        ({"uuid": 1}, "failed to parse request"),
        ({"timestamp": 1777888800}, "failed to parse request"),
        ({"properties": []}, "failed to parse request"),
        ({"properties": {"$cookieless_mode": "yes"}}, "failed to parse request"),
        ({"$set": "plan"}, "failed to parse request"),
    ],
)
def test_posthog_refuses_the_whole_batch_for_one_bad_event(sink, posthog, bad, text):
    answer = posthog(capture(), capture(**bad), capture())

    assert answer.status_code == 400
    assert answer.text.startswith(text)
    assert sink.ledger["posthog"].arrived == 3
    assert sink.ledger["posthog"].accepted == 0


def test_posthog_finds_the_distinct_id_among_the_properties_too(posthog):
    assert posthog(capture(distinct_id=None, properties={"distinct_id": "u"})).status_code == 200


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"api_key": "k", "batch": [NaN]}', b'{"api_key": "k", "batch": 1}']
)
def test_posthog_refuses_what_is_no_batch(sink, client, content):
    answer = client.post(f"{sink.url}/posthog/batch/", content=content)

    assert answer.status_code == 400
    assert answer.text.startswith("failed to parse request")


def test_posthog_refuses_an_empty_batch(posthog):
    assert posthog().text == "request holds no event"


def test_posthog_gives_an_event_without_uuid_a_new_one_each_time(sink, posthog):
    event = capture(uuid=None)
    posthog(event)
    posthog(event)

    assert sink.ledger["posthog"].counted == 2


def test_posthog_drops_person_events_that_ask_for_no_person(sink, posthog):
    dropped = capture(event="$identify", properties={"$process_person_profile": False})

    assert posthog(dropped, capture()).status_code == 200
    assert sink.ledger["posthog"].refused_keys() == [dropped["uuid"]]


def test_posthog_poison_names_nobody_and_keeps_nothing(sink, posthog):
    sink.fail("posthog", Fault.poison())

    answer = posthog(capture(), capture(properties={"poison": 1}))

    assert (answer.status_code, sink.ledger["posthog"].accepted) == (400, 0)
    assert answer.text.startswith("failed to parse request")


# Mixpanel


@pytest.fixture
def mixpanel(sink, client):
    def post(*events, query="?strict=1", user="token", **options):
        url = f"{sink.url}/mixpanel/import{query}"
        auth = None if user is None else httpx.BasicAuth(user, "")
        return client.post(url, json=list(events), auth=auth, **options)

    return post


def imported(**properties):
    return {
        "event": "order paid",
        "properties": {"time": 1777888800123, "distinct_id": "user_1", "$insert_id": str(uuid4())}
        | properties,
    }


def test_mixpanel_imports_and_counts_by_insert_id(sink, mixpanel):
    event = imported()

    answer = mixpanel(event)

    assert answer.json() == {"code": 200, "num_records_imported": 1, "status": "OK"}
    assert sink.ledger["mixpanel"].accepted_keys() == [event["properties"]["$insert_id"]]


def test_mixpanel_reads_gzip_and_one_object_per_line(sink, client):
    lines = b"".join(json.dumps(imported()).encode() + b"\n" for _ in range(3))
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}

    answer = client.post(
        f"{sink.url}/mixpanel/import?strict=1",
        content=gzip.compress(lines),
        headers=headers,
        auth=("token", ""),
    )

    assert answer.json()["num_records_imported"] == 3


@pytest.mark.parametrize("user", [None, "", "invalid"])
def test_mixpanel_refuses_a_missing_or_wrong_token(sink, mixpanel, user):
    answer = mixpanel(imported(), user=user)

    assert answer.status_code == 401
    assert answer.json() == {"code": 401, "error": "Invalid credentials", "status": "Unauthorized"}
    assert sink.ledger["mixpanel"].accepted == 0


@pytest.mark.parametrize("value", ["Bearer token", "Basic !!", "Basic " + base64.b64encode(b"\xff").decode()])
def test_mixpanel_wants_basic_authentication(sink, client, value):
    answer = client.post(f"{sink.url}/mixpanel/import", json=[imported()], headers={"Authorization": value})

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"time": "2026-05-04"}, "properties.time"),
        ({"time": 1.5}, "properties.time"),
        ({"time": 0}, "properties.time"),
        ({"distinct_id": None}, "properties.distinct_id"),
        ({"distinct_id": " Anonymous"}, "properties.distinct_id"),
        ({"$insert_id": "with:colon"}, "properties.$insert_id"),
        ({"$insert_id": "x" * 37}, "properties.$insert_id"),
        ({"$insert_id": "null"}, "properties.$insert_id"),
        ({"deep": {"1": {"2": {"3": {}}}}}, "properties.deep"),
        ({"long": [1] * 255}, "properties.long"),
        ({f"p{n}": n for n in range(255)}, "properties"),
    ],
)
def test_mixpanel_names_the_bad_record_and_keeps_the_others(sink, mixpanel, bad, field):
    good = [imported(), imported()]

    answer = mixpanel(good[0], imported(**bad), good[1])

    assert answer.status_code == 400
    (failed,) = answer.json()["failed_records"]
    assert (failed["index"], failed["field"]) == (1, field)
    assert answer.json()["num_records_imported"] == 2
    assert sink.ledger["mixpanel"].accepted_keys() == [event["properties"]["$insert_id"] for event in good]


def test_mixpanel_takes_the_empty_distinct_id(mixpanel):
    assert mixpanel(imported(distinct_id="")).status_code == 200


def test_mixpanel_drops_bad_records_silently_unless_strict(sink, mixpanel):
    answer = mixpanel(imported(), imported(time=None), {"event": ""}, query="")

    assert answer.json() == {"code": 200, "num_records_imported": 1, "status": "OK"}
    assert sink.ledger["mixpanel"].accepted == 1


def test_mixpanel_refuses_bodies_of_more_than_two_megabytes(mixpanel):
    answer = mixpanel(*[imported(text="a" * 900_000) for _ in range(3)])

    assert answer.status_code == 413
    assert answer.json()["error"] == "request exceeds max limit of 2097152 bytes"


def test_mixpanel_names_an_event_of_more_than_a_megabyte(mixpanel):
    answer = mixpanel(imported(text="a" * 1_100_000))

    assert answer.json()["failed_records"][0]["field"] == "event"


def test_mixpanel_malformed_body_has_no_failed_records(sink, client):
    answer = client.post(f"{sink.url}/mixpanel/import?strict=1", content=b"{", auth=("token", ""))

    assert answer.status_code == 400
    assert "failed_records" not in answer.json()


def test_mixpanel_poison_names_the_bad_ones_and_keeps_the_others(sink, mixpanel):
    sink.fail("mixpanel", Fault.poison())

    answer = mixpanel(imported(poison=1), imported(), imported(poison=2))

    assert [failed["index"] for failed in answer.json()["failed_records"]] == [0, 2]
    assert sink.ledger["mixpanel"].accepted == 1


@pytest.fixture
def engage(sink, client):
    def post(*updates, query="?verbose=1&strict=1&ip=0", **options):
        return client.post(f"{sink.url}/mixpanel/engage{query}", json=list(updates), **options)

    return post


def update(**fields):
    return {"$token": "t", "$distinct_id": "user_1", "$ip": "0", "$set": {"plan": "pro"}} | fields


def test_mixpanel_profile_updates_are_keyed_by_their_content(sink, engage):
    for _ in range(2):
        assert engage(update()).json() == {"status": 1, "error": None}
    engage(update(**{"$set": {"plan": "free"}}))

    ledger = sink.ledger["mixpanel"]
    assert ledger.counted == 2
    assert len(ledger.accepted_twice()) == 1
    assert len(sink.events("mixpanel", "/engage")) == 2


def test_mixpanel_profile_may_be_sent_alone(sink, client):
    assert client.post(f"{sink.url}/mixpanel/engage", json=update()).text == "1"
    assert sink.events("mixpanel") == [update()]


@pytest.mark.parametrize(
    "bad",
    [
        update(**{"$token": ""}),
        update(**{"$token": "invalid"}),
        update(**{"$distinct_id": None}),
        update(**{"$add": {"n": 1}}),
        {"$token": "t", "$distinct_id": "u"},
        "text",
    ],
)
def test_mixpanel_profiles_are_refused_with_status_200(sink, engage, bad):
    answer = engage(update(), bad)

    assert answer.status_code == 200
    assert answer.json()["status"] == 0
    assert answer.json()["error"]
    assert engage(bad, query="").text == "0"
    assert sink.ledger["mixpanel"].accepted == 0


def test_mixpanel_profiles_may_not_be_compressed(sink, client):
    body = gzip.compress(json.dumps([update()]).encode())

    answer = client.post(f"{sink.url}/mixpanel/engage", content=body, headers={"Content-Encoding": "gzip"})

    assert answer.status_code == 400
    assert sink.ledger["mixpanel"].accepted == 0


def test_mixpanel_groups_want_a_group_and_no_person(sink, client):
    group = {"$token": "t", "$group_key": "company", "$group_id": "acme", "$set": {"tier": 2}}

    assert client.post(f"{sink.url}/mixpanel/groups", json=[group]).text == "1"
    assert client.post(f"{sink.url}/mixpanel/groups", json=[update()]).text == "0"


# Amplitude


@pytest.fixture
def amplitude(sink, client):
    def post(*events, path="/2/httpapi", **envelope):
        body = {"api_key": "key", "events": list(events)} | envelope
        return client.post(
            f"{sink.url}/amplitude{path}", json={k: v for k, v in body.items() if v is not None}
        )

    return post


def upload(**fields):
    event = {
        "event_type": "order paid",
        "user_id": "user_1",
        "time": 1777888800123,
        "insert_id": str(uuid4()),
        "event_properties": {"amount": 9.5},
    } | fields
    return {name: value for name, value in event.items() if value is not None}


@pytest.mark.parametrize("path", ["/2/httpapi", "/batch"])
def test_amplitude_ingests_and_counts_by_insert_id(sink, amplitude, path):
    first, second = upload(), upload(event_type="$identify", user_properties={"$set": {"plan": "pro"}})

    answer = amplitude(first, second, path=path)

    assert answer.json()["code"] == answer.status_code == 200
    assert answer.json()["events_ingested"] == 2
    assert answer.json()["payload_size_bytes"] == sink.requests("amplitude")[0].raw_size
    assert sink.ledger["amplitude"].accepted_keys() == [first["insert_id"], second["insert_id"]]


@pytest.mark.parametrize(
    ("envelope", "expected"),
    [
        ({"api_key": None}, {"missing_field": "api_key"}),
        ({"events": None}, {"missing_field": "events"}),
        ({"events": []}, {"missing_field": "events"}),
        ({"api_key": "invalid"}, {"error": "Invalid API key: (as sent)"}),
        ({"events": 1}, {"error": "Invalid JSON request body"}),
    ],
)
def test_amplitude_refuses_the_request(sink, amplitude, envelope, expected):
    answer = amplitude(upload(), **envelope)

    assert answer.status_code == 400
    assert answer.json().items() >= expected.items()
    assert sink.ledger["amplitude"].accepted == 0


@pytest.mark.parametrize(
    ("bad", "kind", "field"),
    [
        ({"event_type": None}, "missing_fields", "event_type"),
        ({"user_id": None}, "missing_fields", "user_id"),
        ({"event_type": 1}, "invalid_fields", "event_type"),
        ({"user_id": 12345}, "invalid_fields", "user_id"),
        ({"user_id": "Anonymous"}, "invalid_fields", "user_id"),
        ({"device_id": "00000000-0000-0000-0000-000000000000"}, "invalid_fields", "device_id"),
        ({"user_id": "abcd"}, "invalid_id_lengths", "user_id"),
        ({"time": 1777888800}, "invalid_fields", "time"),
        ({"time": "2026-05-04T10:00:00Z"}, "invalid_fields", "time"),
        ({"session_id": "0190b6f2"}, "invalid_fields", "session_id"),
        ({"insert_id": 7}, "invalid_fields", "insert_id"),
        ({"event_properties": []}, "invalid_fields", "event_properties"),
        ({"user_properties": {"$set": {}, "plain": 1}}, "invalid_fields", "user_properties"),
    ],
)
def test_amplitude_names_the_first_bad_event_and_keeps_nothing(sink, amplitude, bad, kind, field):
    answer = amplitude(upload(), upload(**bad), upload(**bad))

    assert answer.status_code == 400
    assert answer.json()[f"events_with_{kind}"] == {field: [1]}
    assert sink.ledger["amplitude"].accepted == 0


def test_amplitude_takes_short_ids_if_told_so(amplitude):
    assert amplitude(upload(user_id="7"), options={"min_id_length": 1}).status_code == 200


def test_amplitude_needs_no_person_for_a_group(amplitude):
    event = upload(event_type="$groupidentify", user_id=None, groups={"company": "acme"})

    assert amplitude(event).status_code == 200


def test_amplitude_limits_differ_by_endpoint(amplitude):
    events = [upload(event_properties={"text": "a" * 600_000}) for _ in range(2)]

    assert amplitude(*events).json() == {"code": 413, "error": "Payload too large"}
    assert amplitude(*events, path="/batch").status_code == 200
    assert amplitude(*[upload(event_properties={}) for _ in range(2001)], path="/batch").status_code == 413


def test_amplitude_poison_takes_a_round_for_each_bad_event(sink, amplitude):
    sink.fail("amplitude", Fault.poison())
    events = [
        upload(),
        upload(event_properties={"poison": 1}),
        upload(),
        upload(event_properties={"poison": 2}),
    ]
    rounds = 0

    while (answer := amplitude(*events)).status_code == 400:
        ((index,),) = answer.json()["events_with_invalid_fields"].values()
        del events[index]
        rounds += 1

    assert rounds == 2
    assert sink.ledger["amplitude"].accepted == 2


# Webhook


def records(count):
    return [{"id": str(number), "event": "e"} for number in range(count)]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (json.dumps(records(1)[0]), "application/json"),
        (json.dumps(records(3)), "application/json"),
        ("".join(json.dumps(record) + "\n" for record in records(3)), "application/x-ndjson"),
        (json.dumps([{"messageId": "0"}, {"messageId": "1"}]), "application/json"),
    ],
)
def test_webhook_takes_objects_arrays_and_lines(sink, client, content, kind):
    answer = client.post(f"{sink.url}/webhook/hook", content=content, headers={"Content-Type": kind})

    assert answer.status_code == 200
    keys = sink.ledger["webhook"].accepted_keys()
    assert keys == [str(number) for number in range(len(keys))]
    assert keys


def test_webhook_id_header_is_the_key_of_records_without_one(sink, client):
    client.post(f"{sink.url}/webhook/hook", json={"event": "e"}, headers={"webhook-id": "msg_1"})
    client.post(f"{sink.url}/webhook/hook", json=[{}, {}], headers={"webhook-id": "msg_2"})

    assert sink.ledger["webhook"].accepted_keys() == ["msg_1", "msg_2#0", "msg_2#1"]


@pytest.mark.parametrize("batch", [True, False])
def test_webhook_takes_cloud_events_and_refuses_incomplete_ones(sink, client, batch):
    event = {"id": "1", "source": "/app", "specversion": "1.0", "type": "order.paid", "data": {}}
    headers = {"Content-Type": f"application/cloudevents{'-batch' if batch else ''}+json"}

    def send(event):
        content = json.dumps([event] if batch else event)
        return client.post(f"{sink.url}/webhook/hook", content=content, headers=headers).status_code

    assert send(event) == 200
    assert send(event | {"specversion": "0.3"}) == 400
    assert send({"id": "2"}) == 400


def test_webhook_may_answer_204_without_a_body(sink, client):
    sink.add_backend("webhook", Webhook(204))

    answer = client.post(f"{sink.url}/webhook/hook", json={"id": "1"})

    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-length" not in answer.headers
    assert sink.ledger["webhook"].counted == 1


def test_webhook_refuses_what_is_no_json(sink, client):
    assert client.post(f"{sink.url}/webhook/hook", content=b"hello").status_code == 400


# All of them


@pytest.mark.parametrize(
    ("provider", "path", "text"),
    [
        ("posthog", "/batch/", "transient error, please retry"),
        ("mixpanel", "/import", ""),
        ("amplitude", "/2/httpapi", ""),
        ("webhook", "/hook", ""),
    ],
)
def test_server_errors_come_with_the_vendors_own_text(sink, client, provider, path, text):
    sink.fail(provider, Fault.status(503))

    answer = client.post(f"{sink.url}/{provider}{path}", json={})

    assert (answer.status_code, answer.text) == (503, text)


@pytest.mark.parametrize(
    ("provider", "status", "text"),
    [
        ("posthog", 401, "API key is not valid"),
        ("mixpanel", 401, "Invalid credentials"),
        ("amplitude", 400, "Invalid API key"),
        ("webhook", 401, ""),
    ],
)
def test_wrong_keys_are_refused_in_the_vendors_own_words(sink, client, provider, status, text):
    sink.fail(provider, Fault.unauthorized())

    answer = client.post(f"{sink.url}/{provider}/x", json={})

    assert answer.status_code == status
    assert text in answer.text


@pytest.mark.parametrize("provider", ["posthog", "mixpanel", "amplitude"])
def test_other_paths_and_methods_are_refused(sink, client, provider):
    path = {"posthog": "/batch/", "mixpanel": "/import", "amplitude": "/batch"}[provider]

    assert client.post(f"{sink.url}/{provider}/nothing", json={}).status_code == 404
    assert client.get(f"{sink.url}/{provider}{path}").status_code == 405
