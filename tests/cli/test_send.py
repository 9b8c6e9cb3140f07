"""``agent-tracking send``: one event to every active provider, what each made of it, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_tracking.cli.output import Refused
from agent_tracking.cli.send import _read
from agent_tracking.testing import Fault, Sink, refused_url

NAMES = ["amplitude", "mixpanel", "posthog", "webhook"]


@pytest.fixture
def sink():
    with Sink() as sink:
        yield sink


def sent(cli, sink, *arguments, **environ):
    done = cli.run("send", "--json", *arguments, **{**sink.environ(), **environ})
    assert done.returncode in {0, 1}, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    assert report["ok"] == (done.returncode == 0)
    return {each["provider"]: each for each in report["providers"]}, done.returncode


def test_an_event_reaches_every_active_provider_with_its_values_by_their_types(cli, sink):
    values = {
        "total=9.5": ("total", 9.5),
        "paid=true": ("paid", True),
        "none=null": ("none", None),
        'tags=["a",1]': ("tags", ["a", 1]),
        'deep={"a":{"b":1}}': ("deep", {"a": {"b": 1}}),
        "text=CHF": ("text", "CHF"),
        'quoted="9.5"': ("quoted", "9.5"),
        "zip=007": ("zip", "007"),
        "nan=NaN": ("nan", "NaN"),
        "empty=": ("empty", ""),
        "sum=a=b": ("sum", "a=b"),
        "with blank= x ": ("with blank", " x "),
    }
    arguments = ["order paid", *values, "--user", "u-1", "--anonymous", "v-7", "--session", "s-3"]
    found, status = sent(cli, sink, *arguments)
    assert status == 0
    assert list(found) == NAMES
    assert {each["outcome"] for each in found.values()} == {"delivered"}
    assert {(each["status"], each["requests"]) for each in found.values()} == {(200, 1)}
    (event,) = sink.events("webhook")
    assert event["event"] == "order paid"
    assert event["properties"] == dict(values.values())
    assert (event["userId"], event["anonymousId"], event["sessionId"]) == ("u-1", "v-7", "s-3")
    assert [sink.totals(name).counted for name in NAMES] == [1, 1, 1, 1]


def test_an_identity_has_no_name_and_its_values_are_traits(cli, sink):
    found, status = sent(cli, sink, "--identify", "--user", "u-1", "--anonymous", "v-7", "plan=pro")
    assert status == 0
    assert {each["outcome"] for each in found.values()} == {"delivered"}
    (event,) = sink.events("webhook")
    assert (event["event"], event["traits"]) == ("$identify", {"plan": "pro"})


def test_one_that_refuses_is_told_with_reason_and_fix_and_costs_the_others_nothing(cli, sink):
    sink.fail("posthog", Fault.unauthorized(times=None))
    found, status = sent(cli, sink, "x")
    assert status == 1
    assert found["posthog"]["outcome"] == "dropped"
    assert found["posthog"]["status"] == 401
    assert "refused the key" in found["posthog"]["reason"]
    assert found["posthog"]["fix"]
    assert [name for name in NAMES if found[name]["outcome"] == "delivered"] == [
        "amplitude",
        "mixpanel",
        "webhook",
    ]


def test_what_fails_at_first_is_tried_again_within_the_time(cli, sink):
    sink.fail("webhook", Fault.status(503, times=1))
    found, status = sent(cli, sink, "x")
    assert status == 0
    assert found["webhook"]["requests"] == 2


def test_what_is_not_settled_in_time_is_waiting_and_says_why(cli, sink):
    environ = {"POSTHOG_HOST": refused_url(), "AGENT_TRACKING_PROVIDERS": "posthog"}
    found, status = sent(cli, sink, "x", "--timeout", "1.5", **environ)
    assert status == 1
    assert found["posthog"]["outcome"] == "waiting"
    assert "1.5 s" in found["posthog"]["reason"]
    assert "ConnectError" in found["posthog"]["reason"]


def test_it_is_sent_from_here_whatever_the_application_does(cli, sink, tmp_path):
    environ = {
        "AGENT_TRACKING_SPOOL": str(tmp_path / "spool"),
        "AGENT_TRACKING_DELIVERY": "relay",
        "AGENT_TRACKING_STATUS": str(tmp_path / "status"),
        "AGENT_TRACKING_FLUSH_INTERVAL": "3600",
    }
    _, status = sent(cli, sink, "x", **environ)
    assert status == 0
    assert sink.totals("posthog").counted == 1
    assert list(tmp_path.iterdir()) == []


def test_in_a_pipe_each_provider_is_one_plain_line(cli, sink):
    done = cli.run("send", "x", **sink.environ())
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["provider", "outcome", "status", "reason", "and", "fix"],
        *([name, "delivered", "200"] for name in NAMES),
        [],
    ]


def test_on_a_terminal_it_is_coloured(cli, sink):
    status, written = cli.on_terminal("send", "x", **sink.environ())
    assert status == 0
    assert "\x1b[32mdelivered" in written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "has no name"),
        (("",), "has no name"),
        (("  ", "a=1"), "has no name"),
        (("total=9.5",), "write the name first"),
        (("x", "total"), "'total' is not KEY=VALUE"),
        (("x", "=9.5"), "'=9.5' is not KEY=VALUE"),
        (("x", "a=1", "a=2"), "'a' is given twice"),
        (("x", "--user", "anonymous"), "--user 'anonymous' stands for nobody"),
        (("x", "--session", ""), "--session '' stands for nobody"),
        (("--identify", "plan=pro"), "add --user ID"),
        (("--identify", "--user", "u", "plan"), "'plan' is not KEY=VALUE"),
        (("--identify", "--user", "u", "--session", "s"), "leave out --session"),
        (("x", b"a=\xff"), "is not UTF-8 text"),
        (("x", "--timeout", "soon"), "--timeout"),
        (("x", "--timeout", "0"), "--timeout"),
        (("x", "--timeout", "nan"), "--timeout"),
        (("x", "--usr", "u"), "--usr"),
    ],
)
def test_bad_input_is_one_line_exit_status_2_and_nothing_is_sent(cli, sink, arguments, words):
    done = cli.run("send", *arguments, **sink.environ())
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("Error: ")] == [
        done.stderr.splitlines()[-1]
    ]
    assert sink.seen == 0


def test_without_an_active_provider_it_is_bad_input_that_names_each_state(cli):
    done = cli.run("send", "x")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for name in NAMES:
        assert f"{name}: inactive" in done.stderr
    assert "agent-tracking doctor" in done.stderr


def test_no_secret_is_shown(cli, sink):
    secrets = {
        "TRACKING_WEBHOOK_URL": f"{sink.url}/webhook/s3cret-path",
        "TRACKING_WEBHOOK_AUTH": "Bearer s3cret-auth",
        "POSTHOG_API_KEY": "phc_s3cret",
    }
    for fault in (None, Fault.status(400, times=None), Fault.disconnect(times=None)):
        for name in NAMES if fault else ():
            sink.fail(name, fault)
        done = cli.run("send", "x", "--timeout", "1", **{**sink.environ(), **secrets})
        assert "s3cret" not in done.stdout + done.stderr
        sink.clear()


def test_help_has_an_example_and_names_the_exit_statuses(cli):
    text = " ".join(cli.run("send", "--help").stdout.split())
    assert "Example: agent-tracking send 'order paid' total=9.5" in text
    assert "exit status is 0" in text


@given(st.lists(st.text(), max_size=4), st.booleans())
def test_whatever_is_typed_is_read_or_refused_in_one_printable_line(words, as_identity):
    problem = ""
    try:
        name, data = _read(words, as_identity=as_identity)
    except Refused as error:
        problem = error.message
    assert problem.isprintable()
    if not problem:
        assert as_identity or name.strip()
        assert len(data) == len(words) - (not as_identity)
