"""``agent-tracking doctor --send``: the request, the answer, the verdict in words, and nothing secret."""

from __future__ import annotations

import base64
import json
import re
import textwrap
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_tracking import EnvVar
from agent_tracking.cli.doctor.masking import MASK, Masker
from agent_tracking.testing import Backend, Fault, Sink

NAMES = ["amplitude", "mixpanel", "posthog", "webhook"]
QUIET = {"VIRTUAL_ENV": "", "PATH": "/usr/bin:/bin", "NO_PROXY": "*"}
SIGNING = base64.b64encode(b"c4nary-of-the-signing-key").decode()
#: Each has "c4nary" in it, so that one look finds them all.
CANARIES = {
    "POSTHOG_API_KEY": 'phc_c4nary-"posthog"',
    "MIXPANEL_TOKEN": "c4nary+mixpanel/token",
    "AMPLITUDE_API_KEY": "c4nary\\amplitude-ü",
    "TRACKING_WEBHOOK_AUTH": "Bearer c4nary-auth",
    "TRACKING_WEBHOOK_SECRET": f"whsec_{SIGNING}",
}


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


def environ_of(sink, *names):
    return {**QUIET, **sink.environ(*names), "AGENT_TRACKING_PROVIDERS": ",".join(names) or "*"}


def sent_by(cli, environ):
    done = cli.run("doctor", "--send", "--json", **environ)
    assert done.returncode in {0, 1}, done.stderr
    report = json.loads(done.stdout)
    return {each["provider"]: each for each in report["sent"]}, report, done.returncode


def test_one_real_event_reaches_each_provider_and_each_verdict_is_told(cli, sink):
    sent, report, status = sent_by(cli, environ_of(sink))
    assert status == 0, report["findings"]
    assert list(sent) == NAMES
    for name in NAMES:
        assert sink.totals(name).counted == 1
        assert sent[name]["verdict"] == "delivered"
        assert (sent[name]["method"], sent[name]["status"]) == ("POST", 200)
        assert "delivered" in sent[name]["words"]
    (event,) = sink.events("posthog")
    assert event["event"] == "agent-tracking doctor"
    assert event["properties"]["agent_tracking_test"] is True


def test_without_send_nothing_is_sent(cli, sink):
    done = cli.run("doctor", "--json", **environ_of(sink))
    assert done.returncode == 0, done.stdout
    assert [sink.totals(name).arrived for name in NAMES] == [0, 0, 0, 0]


def test_the_request_is_shown_as_it_went_over_the_wire_but_for_the_secrets(cli, sink):
    sent, _, _ = sent_by(cli, environ_of(sink))
    for name in NAMES:
        (received,) = sink.requests(name)
        shown = sent[name]["body"]
        real = json.loads(received.body)
        if isinstance(real, dict):
            assert real.pop("api_key") == sink.environ(name)[f"{name.upper()}_API_KEY"]
            assert shown.pop("api_key") == MASK
        assert shown == real
        for header in ("content-type", "user-agent"):
            assert sent[name]["headers"][header] == received.headers[header]
    assert sent["mixpanel"]["headers"]["authorization"] == f"Basic {MASK}"
    assert sent["posthog"]["url"] == f"{sink.url}/posthog/batch/"
    assert sent["webhook"]["url"] == f"{sink.url}/{MASK}"


@pytest.mark.parametrize("json_flag", [(), ("--json",)], ids=["screen", "json"])
@pytest.mark.parametrize("form", ["array", "object", "ndjson", "cloudevents"])
def test_no_secret_of_the_four_is_shown_as_it_is_or_encoded(cli, sink, json_flag, form):
    path = "/webhook/c4nary-path/T0/c4nary?key=c4nary%2Fquery"
    canaries = {**CANARIES, "TRACKING_WEBHOOK_URL": sink.url + path, "TRACKING_WEBHOOK_FORMAT": form}
    for name in NAMES:  # the answers repeat the secrets, as some backends do
        sink.fail(name, Fault.status(400, body={"you": "sent", **canaries}, times=None))
    done = cli.run("doctor", "--send", *json_flag, **{**environ_of(sink), **canaries})
    assert all(sink.totals(name).arrived for name in NAMES)
    shown = done.stdout + done.stderr
    assert "c4nary" not in shown
    assert SIGNING not in shown
    for value in CANARIES.values():
        for text in (value, f"{value}:"):
            assert base64.b64encode(text.encode()).decode().rstrip("=")[:-2] not in shown
        assert quote(value, safe="") not in shown


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_is_refused_is_told_in_the_providers_words(cli, sink, name):
    sink.fail(name, Fault.unauthorized(times=None))
    sent, report, status = sent_by(cli, environ_of(sink, name))
    assert status == 1
    assert sent[name]["verdict"] in {"stop", "drop"}
    assert sent[name]["status"] in {400, 401}
    assert re.search("would send nothing more|would be dropped", sent[name]["words"])
    assert sent[name]["fix"]
    (finding,) = [each for each in report["findings"] if each["check"] == "send"]
    assert (finding["level"], finding["where"]) == ("problem", name)


@pytest.mark.parametrize(
    ("fault", "verdict", "words"),
    [
        (Fault.status(503, times=None), "retry", "would try again"),
        (Fault.throttled(30, times=None), "retry", "would try again"),
        (Fault.html(times=None), "retry", "not the backend's own answer"),
        (Fault.redirect(times=None), "drop", "redirects"),
        (Fault.status(404, times=None), "drop", "would be dropped"),
        (Fault.disconnect(times=None), "retry", "no answer"),
        (Fault.reset(times=None), "retry", "no answer"),
    ],
    ids=["503", "429", "html", "redirect", "404", "disconnect", "reset"],
)
def test_each_answer_has_its_verdict_in_words(cli, sink, fault, verdict, words):
    sink.fail("posthog", fault)
    sent, _, status = sent_by(cli, environ_of(sink, "posthog"))
    assert status == 1
    assert sent["posthog"]["verdict"] == verdict
    assert words in sent["posthog"]["words"]
    assert sent["posthog"]["fix"]
    assert len(sink.requests("posthog")) == 1


def test_one_that_fails_does_not_hide_the_others(cli, sink):
    sink.fail("mixpanel", Fault.status(503, times=None))
    sent, _, status = sent_by(cli, environ_of(sink))
    assert status == 1
    assert [name for name in NAMES if sent[name]["verdict"] == "delivered"] == [
        "amplitude",
        "posthog",
        "webhook",
    ]


def test_the_apps_spool_status_folder_and_strict_mode_have_no_part_in_it(cli, sink, tmp_path):
    environ = {
        **environ_of(sink, "posthog"),
        "AGENT_TRACKING_SPOOL": str(tmp_path / "spool"),
        "AGENT_TRACKING_DELIVERY": "relay",
        "AGENT_TRACKING_STATUS": str(tmp_path / "status"),
        "AGENT_TRACKING_STRICT": "1",
    }
    sent, _, _ = sent_by(cli, environ)
    assert sent["posthog"]["verdict"] == "delivered"
    assert not (tmp_path / "spool").exists()
    assert not (tmp_path / "status").exists()


def test_without_an_active_provider_that_is_the_problem(cli):
    sent, report, status = sent_by(cli, QUIET)
    assert (sent, status) == ({}, 1)
    assert any(each["check"] == "send" for each in report["findings"])


THIRD = """
from agent_tracking import Endpoint, EnvVar, HTTPProvider, Payload, Request

class Acme(HTTPProvider):
    name = "acme"
    env = (EnvVar("ACME_WRITE_KEY", required=True, secret=True), EnvVar("ACME_URL", required=True))
    endpoints = (Endpoint(),)
    def encode(self, record):
        return Payload(record.data_json, key=record.message_id)
    def request(self, endpoint, batch):
        key = self.values["ACME_WRITE_KEY"]
        return Request(f"{self.values['ACME_URL']}/{key}?k={key}", {"x-one": key, "x-token": "t-0"}, batch[0].body)
"""

PLAIN = """
from agent_tracking import Provider

class Acme(Provider):
    name = "acme"
    def track(self, event):
        print("a provider that prints")
        if event.name != "agent-tracking doctor": raise ValueError("c4nary")
        BODY
"""


def install(folder, code):
    folder.mkdir()
    (folder / "doctored.py").write_text(textwrap.dedent(code))
    info = folder / "doctored-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: doctored\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[agent_tracking.providers]\nacme = doctored:Acme\n")
    return {**QUIET, "PYTHONPATH": str(folder), "AGENT_TRACKING_PROVIDERS": "acme"}


def test_a_third_partys_provider_is_looked_at_the_same_way(cli, sink, tmp_path):
    sink.add_backend("acme", Backend())
    environ = install(tmp_path / "packages", THIRD)
    sent, report, status = sent_by(
        cli, {**environ, "ACME_WRITE_KEY": "c4nary-key", "ACME_URL": f"{sink.url}/acme"}
    )
    assert status == 0, report["findings"]
    assert sent["acme"]["url"] == f"{sink.url}/acme/{MASK}?k={MASK}"
    assert sent["acme"]["headers"] == {"x-one": MASK, "x-token": MASK}
    assert sink.totals("acme").arrived == 1
    assert "c4nary" not in json.dumps(report)
    assert any(each["where"] == sink.url.removeprefix("http://") for each in report["findings"])


@pytest.mark.parametrize(
    ("body", "verdict", "status"), [("pass", "delivered", 0), ("raise KeyError('c4nary')", "dropped", 1)]
)
def test_a_provider_that_is_no_http_provider_gets_the_event_too(cli, tmp_path, body, verdict, status):
    environ = install(tmp_path / "packages", PLAIN.replace("BODY", body))
    sent, report, found = sent_by(cli, environ)
    assert (sent["acme"]["verdict"], found) == (verdict, status)
    assert sent["acme"]["method"] == ""
    assert "c4nary" not in json.dumps(report)


def test_on_the_screen_the_body_is_pretty_and_the_verdict_stands_below(cli, sink):
    done = cli.run("doctor", "--send", **environ_of(sink, "posthog"))
    lines = done.stdout.splitlines()
    start = lines.index(f"posthog: POST {sink.url}/posthog/batch/")
    assert "  content-type: application/json" in lines[start:]
    assert f'    "api_key": "{MASK}",' in lines[start:]
    assert any(line.startswith("  → 200: ") for line in lines[start:])
    assert "  → delivered: the backend took it" in lines[start:]
    assert "\x1b" not in done.stdout


secrets = st.text(min_size=1, max_size=40).map(str.strip).filter(lambda text: text.strip("/"))


@given(secrets, st.binary(max_size=9), st.binary(max_size=9))
def test_whatever_a_secret_is_no_encoding_of_it_is_left(secret, before, after):
    masker = Masker([EnvVar("KEY", secret=True)], {"KEY": secret})
    for text in (secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)):
        if len(text) >= 4 and "*" not in text:
            assert text not in masker.text(f"<{text}>")
    data = secret.encode()
    if len(data) >= 6:
        text = base64.b64encode(before + data + after).decode()
        assert MASK in masker.text(text)
        assert MASK in masker.text(base64.urlsafe_b64encode(before + data + after).decode())


def test_a_short_secret_is_masked_as_a_word_and_leaves_other_words_alone():
    masker = Masker([EnvVar("KEY", secret=True)], {"KEY": "k"})
    assert masker.text("key k, k=k, like") == "key ***, ***=***, like"


def test_numbers_and_keys_of_json_are_masked_too():
    masker = Masker([EnvVar("KEY", secret=True)], {"KEY": "12345678"})
    assert masker.json({"a": 12345678, "12345678": [12345678.5, True, None]}) == {
        "a": MASK,
        MASK: [f"{MASK}.5", True, None],
    }


def test_a_basic_authorization_is_known_by_its_user_and_its_password():
    value = "Basic " + base64.b64encode(b"somebody:s3cret-word").decode()
    masker = Masker([EnvVar("AUTH", secret=True)], {"AUTH": value})
    assert masker.text("somebody s3cret-word") == f"{MASK} {MASK}"
    assert masker.header("authorization", value) == f"Basic {MASK}"
