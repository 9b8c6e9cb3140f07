"""The ready-made processors that look at names and ids, each by itself: what they change, drop and refuse."""

import functools
import hashlib
import hmac
import os
import subprocess
import sys
import textwrap
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_tracking import ConfigurationError, Identity, Tracker, TrackingError, TrackingEvent
from agent_tracking.counters import INTENDED, REASONS
from agent_tracking.processors import (
    allow,
    consent,
    deny,
    enrich,
    hash_ids,
    redact,
    required,
    route,
    sample,
)
from agent_tracking.processors.pipeline import Pipeline

KEY = "0123456789abcdef"
ID = "5b7e9c1e-0000-4000-8000-000000000001"
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
KEYS = st.sampled_from(["a", "b", '"', "\\", "\x00", "é", "a b"]) | TEXT


def event(name="order paid", properties=None, **more):
    made = TrackingEvent(name=name, message_id=more.pop("message_id", ID), time=1.0)
    return made.replace(properties=properties, **more)


def identity(user_id="u-1", traits=None, **more):
    return Identity(user_id=user_id, message_id=ID, time=1.0).replace(traits=traits, **more)


def run(record, *processors):
    """Return what comes out, and the lines that were logged."""
    lines = []
    outcome = Pipeline(processors, lambda kind, text: lines.append((kind, text))).run(record)
    return outcome, lines


# What all have in common.


def test_without_a_processor_a_record_comes_out_as_it_was():
    record = event()
    assert run(record) == (record, [])


def test_every_reason_for_a_drop_is_in_the_table():
    made = [
        (sample(0), "sampled"),
        (deny("order *"), "denied"),
        (allow("x"), "denied"),
        (route("order *", only=["a"], never=["a"]), "denied"),
        (consent(lambda record: False), "no-consent"),
        (lambda record: None, "processor"),
    ]
    for processor, reason in made:
        assert run(event(), processor) == (reason, [])
        assert reason in REASONS
        assert reason in INTENDED
    assert "processor-error" in REASONS
    assert "processor-error" not in INTENDED


def test_a_drop_ends_the_walk():
    seen = []
    run(event(), deny("order *"), seen.append)
    assert seen == []


def test_each_sees_what_the_one_before_it_made():
    seen = []

    def own(record):
        seen.append(record.properties)
        return record.replace(properties={**record.properties, "own": "a@example.com", "plan": None})

    made = [redact(), enrich({"first": 1}), own, enrich({"plan": "pro", "own": 2}), redact(), seen.append]
    run(event(properties={"password": "x"}), *made)
    gone = {"password": "[redacted]", "first": 1}
    assert seen[0] == gone
    assert seen[1].properties == {**gone, "own": "[redacted]", "plan": None}


def failing(_record):
    raise ValueError("a@example.com")


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (failing, "raised ValueError"),
        (lambda record: sys.exit(), "raised SystemExit"),
        (lambda record: "text", "returned str, neither a record nor None"),
        (lambda record: True, "returned bool, neither a record nor None"),
    ],
)
def test_one_that_fails_costs_its_own_change_and_is_named_without_the_content(bad, what):
    def my_own(record):
        return bad(record)

    before = enrich({"first": 1})
    after = enrich({"second": 2})
    outcome, [(kind, line)] = run(event(), before, my_own, after)
    assert outcome.properties == {"first": 1, "second": 2}
    assert kind == "processor my_own"
    assert line == f"the processor my_own {what}: the record went on unchanged"


def test_one_that_fails_drops_the_record_if_it_is_marked_as_required():
    outcome, [(_, line)] = run(event(), required(failing))
    assert outcome == "processor-error"
    assert line == "the processor failing raised ValueError: the record was dropped"


class Own:
    required = True

    def __call__(self, record):
        raise ValueError


class Named(Own):
    name = "no addresses"


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError

    def __call__(self, record):
        raise ValueError


@pytest.mark.parametrize(
    ("make", "name", "dropped"),
    [
        (Own, "Own", True),
        (Named, "no addresses", True),
        (lambda: functools.partial(failing), "failing", False),
        (Hostile, "Hostile", False),
    ],
)
def test_objects_may_be_processors_too(make, name, dropped):
    outcome, [(kind, _)] = run(event(), make())
    assert kind == f"processor {name}"
    assert (outcome == "processor-error") is dropped


def test_an_async_function_is_told_as_what_it_is_and_leaves_no_warning():
    async def own(record):
        return record

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcome, [(_, line)] = run(event(), own)
    assert outcome == event()
    assert "returned coroutine" in line


@pytest.mark.parametrize("made", [redact(), hash_ids(key=KEY), consent(failing), route(failing, never=["a"])])
def test_what_keeps_secrets_drops_the_record_when_it_fails(made):
    broken = TrackingEvent(name="x", message_id=ID, time=1.0, user_id=5, properties_json=b"no json")
    assert run(broken, made)[0] == "processor-error"


@pytest.mark.parametrize("bare", [redact, hash_ids, consent, route, sample, allow, deny, enrich])
def test_one_that_was_not_called_is_refused_and_never_lets_a_record_through(bare):
    with pytest.raises(
        TypeError, match=rf"{bare.__name__} makes a processor: list {bare.__name__}\(\.\.\.\)"
    ):
        Tracker(environ={}, discover=False, processors=[bare])
    assert run(event(), bare)[0] == "processor-error"


def test_required_takes_functions_only():
    with pytest.raises(TypeError, match="record -> record or None"):
        required("redact")


def test_a_ready_made_one_can_be_called_with_a_record():
    assert deny("x")(event("x")) is None
    assert enrich({"a": 1})(event()).properties == {"a": 1}


# allow, deny


@pytest.mark.parametrize(
    ("name", "globs", "found"),
    [
        ("order paid", ["order *"], True),
        ("order", ["order *"], False),
        ("Order paid", ["order *"], False),
        ("order [new]", ["order [new]"], True),
        ("a1", ["[ab]?"], True),
        ("x\ny", ["x*"], True),
        ("x", ["y", "x"], True),
    ],
)
def test_allow_and_deny_go_by_names_and_globs(name, globs, found):
    assert (run(event(name), allow(*globs))[0] != "denied") is found
    assert (run(event(name), deny(*globs))[0] == "denied") is found


def test_identities_pass_unless_it_is_said_that_they_do_not():
    assert run(identity(), allow("x"))[0] == identity()
    assert run(identity(), deny("*"))[0] == identity()
    assert run(identity(), allow("x", identities=False))[0] == "denied"
    assert run(identity(), deny(identities=False))[0] == "denied"


# sample


def test_the_same_user_is_always_in_or_always_out():
    half = sample(0.5)
    kept = {user: run(event(user_id=user), half)[0] != "sampled" for user in map(str, range(1, 400))}
    assert 120 < sum(kept.values()) < 280
    for user, held in kept.items():
        other = event("page viewed", {"a": 1}, user_id=user, anonymous_id="x", message_id=f"m-{user}")
        assert (run(other, sample(0.5))[0] != "sampled") is held
        if held:
            assert run(other, sample(0.7))[0] != "sampled", "who is in stays in at a higher rate"


def test_every_process_keeps_the_same_users():
    code = """
        from agent_tracking import TrackingEvent
        from agent_tracking.processors import sample
        half = sample(0.5)
        print([half(TrackingEvent(name="x", message_id="m", time=1.0, user_id=f"u-{n}")) is None for n in range(60)])
    """
    texts = {
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1
    assert "True" in (text := texts.pop())
    assert "False" in text


@pytest.mark.parametrize(
    ("by", "same", "differ"),
    [
        ("user", {"user_id": "u"}, ["anonymous_id", "session_id", "message_id"]),
        ("user", {"anonymous_id": "a"}, ["session_id", "message_id"]),
        ("session", {"session_id": "s"}, ["user_id", "anonymous_id", "message_id"]),
    ],
)
def test_sampling_goes_by_the_id_that_is_there(by, same, differ):
    half = sample(0.5, by=by)
    for number in range(20):
        kept = {
            run(event(**{k: f"{v}{number}" for k, v in same.items()}, **dict.fromkeys(differ, f"{n}")), half)[
                0
            ]
            != "sampled"
            for n in range(1, 12)
        }
        assert len(kept) == 1


def test_without_an_id_each_event_is_decided_by_itself_and_identities_pass():
    half = sample(0.5)
    outcomes = {run(event(message_id=f"m-{n}"), half)[0] == "sampled" for n in range(50)}
    assert outcomes == {True, False}
    assert run(identity(), sample(0))[0] == identity()
    assert run(event("x"), sample(0, names="y*"))[0] == event("x")
    assert run(event("yes"), sample(0, names=["y*"]))[0] == "sampled"
    assert run(event(), sample(1))[0] == event()


# hash_ids


def test_ids_become_their_hmac_and_the_key_is_shown_nowhere():
    made = hash_ids(key=KEY)
    outcome, _ = run(event(user_id="a@example.com", anonymous_id="v", session_id="s"), made)
    assert outcome.user_id == hmac.new(KEY.encode(), b"a@example.com", hashlib.sha256).hexdigest()
    assert outcome.anonymous_id == hmac.new(KEY.encode(), b"v", hashlib.sha256).hexdigest()
    assert outcome.session_id == "s"
    assert run(identity("a@example.com"), made)[0].user_id == outcome.user_id
    assert run(event(), made)[0] == event()
    assert KEY not in repr(made) + str(vars(made))
    sessions = run(event(session_id="s", user_id="u"), hash_ids(key=KEY.encode(), fields=["session_id"]))[0]
    assert sessions.user_id == "u"
    assert len(sessions.session_id) == 64


# enrich


def test_enrich_adds_what_is_absent_and_leaves_identities():
    made = enrich({"plan": "pro", "tags": {1}})
    assert run(event(properties={"plan": None}), made)[0].properties == {"plan": None, "tags": [1]}
    assert run(event(properties={"deep": {"plan": 1}}), made)[0].properties == {
        "deep": {"plan": 1},
        "plan": "pro",
        "tags": [1],
    }
    assert run(event(), made)[0].properties == {"plan": "pro", "tags": [1]}
    assert run(identity(), made)[0] == identity()


def test_enrich_by_a_function():
    made = enrich(lambda event: {"length": len(event.name)} if event.name != "x" else None)
    assert run(event("abc"), made)[0].properties == {"length": 3}
    assert run(event("x"), made)[0].properties == {}
    outcome, [(_, line)] = run(event(), enrich(lambda event: [1]))
    assert outcome == event()
    assert "neither properties nor None" in line


@settings(deadline=None)
@given(st.dictionaries(KEYS, TEXT, min_size=1, max_size=4), st.dictionaries(KEYS, TEXT, max_size=4))
def test_enrich_never_changes_a_property_that_is_there(added, there):
    assert run(event(properties=there), enrich(added))[0].properties == {**added, **there}


def test_enrich_finds_a_property_however_its_key_is_written():
    for text in (b'{"pl\\u0061n":1}', b'{ "plan" : 1 }'):
        record = TrackingEvent(name="x", message_id=ID, time=1.0, properties_json=text)
        assert run(record, enrich({"plan": 2}))[0].properties == {"plan": 1}
    empty = TrackingEvent(name="x", message_id=ID, time=1.0, properties_json=b" { } ")
    assert run(empty, enrich({"plan": 2}))[0].properties == {"plan": 2}


def test_what_one_record_was_given_is_not_shared_with_the_next():
    made = [enrich({"note": {"mail": "a@example.com"}}), redact()]
    for _ in range(2):
        assert run(event(properties={"x": "b@example.com", "note2": "note"}), *made)[0].properties == {
            "x": "[redacted]",
            "note2": "note",
            "note": {"mail": "[redacted]"},
        }


# route


def test_routes_combine():
    made = [
        route("order *", only=["a", "b"]),
        route(lambda record: record.user_id == "u", only=["b", "c"]),
        route(["order paid"], never=["d"]),
    ]
    outcome, _ = run(event(user_id="u"), *made)
    assert (outcome.only, outcome.never) == ({"b"}, {"d"})
    assert [name for name in "abcd" if outcome.goes_to(name)] == ["b"]
    assert run(event("x"), *made)[0] == event("x")
    assert run(identity("u"), *made)[0].only == {"b", "c"}, "a function sees identities, names do not"


@pytest.mark.parametrize("answer", [1, "yes", None])
def test_a_function_of_route_that_answers_neither_yes_nor_no_drops_the_record(answer):
    assert run(event(), route(lambda record: answer, never=["a"]))[0] == "processor-error"


# consent


def test_consent_is_asked_once_for_a_user_and_again_when_the_answer_is_too_old(monkeypatch):
    asked, now = [], [0.0]
    monkeypatch.setattr("agent_tracking.processors.permission.monotonic", lambda: now[0])
    made = consent(lambda record: asked.append(record.user_id) or record.user_id == "yes", cache_seconds=10)
    for _ in range(3):
        assert run(event(user_id="yes"), made)[0] == event(user_id="yes")
        assert run(identity("no"), made)[0] == "no-consent"
    assert asked == ["yes", "no"]
    now[0] = 10.0
    run(event(user_id="yes"), made)
    assert asked == ["yes", "no", "yes"]
    made.forget("yes")
    run(event(user_id="yes"), made)
    assert asked == ["yes", "no", "yes", "yes"]
    made.forget()
    assert run(event(user_id="no"), made)[0] == "no-consent"
    assert len(asked) == 5


def test_an_answer_that_was_on_its_way_when_it_was_forgotten_is_not_kept():
    answers = []

    def ask(record):
        answers.append(not answers)  # yes; from the withdrawal on no
        if len(answers) == 1:
            made.forget("u-1")  # as a view does meanwhile
        return answers[-1]

    made = consent(ask)
    assert run(event(user_id="u-1"), made)[0] == event(user_id="u-1")
    assert run(event(user_id="u-1"), made)[0] == "no-consent"


@pytest.mark.parametrize("user", [42, "42", " 42 "])
def test_a_user_is_forgotten_by_any_id_that_track_takes_and_nobody_else(user):
    asked = []
    made = consent(lambda record: asked.append(record.user_id) is None)
    made.forget("anonymous")
    for each in ("42", "7"):
        run(event(user_id=each), made)
    made.forget("anonymous")  # stands for nobody
    made.forget(user)
    for each in ("42", "7"):
        run(event(user_id=each), made)
    assert asked == ["42", "7", "42"]


def test_records_of_nobody_are_asked_for_each_time_and_the_answers_kept_are_few():
    asked = []
    made = consent(lambda record: asked.append(1) is None, cache_size=3)
    for _ in range(2):
        run(event(), made)
    assert len(asked) == 2
    for user in "abcd":
        run(event(user_id=user), made)
    run(event(user_id="d"), made)
    assert len(asked) == 6
    assert len(made._answers) == 3
    run(event(user_id="a"), made)
    assert len(asked) == 7, "the oldest answer made room"


@pytest.mark.parametrize("answer", [1, "yes", [], object()])
def test_only_true_is_consent(answer):
    outcome, [(_, line)] = run(event(user_id="u"), consent(lambda record: answer))
    assert outcome == "processor-error"
    assert "neither True nor False" in line
    assert run(event(), consent(lambda record: None))[0] == "no-consent"


def test_a_function_that_raises_is_no_consent_and_is_asked_again():
    answers = [ValueError(), True]

    def ask(record):
        if isinstance(answer := answers.pop(0), Exception):
            raise answer
        return answer

    made = consent(ask)
    assert run(event(user_id="u"), made)[0] == "processor-error"
    assert run(event(user_id="u"), made)[0] == event(user_id="u")


async def later(record):
    return True


def test_an_async_answer_is_no_consent():
    with pytest.raises(ConfigurationError, match="async functions cannot be asked"):
        consent(later)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            run(event(), consent(functools.partial(lambda _, record: later(record), 1)))[0]
            == "processor-error"
        )


# Bad arguments


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (allow, "allow() without a name"),
        (lambda: allow(5), "allow() takes names of events"),
        (lambda: allow(" "), "allow() takes names of events"),
        (deny, "deny() without a name"),
        (lambda: deny(None), "deny() takes names of events"),
        (lambda: sample(2), "rate must be a number from 0 to 1"),
        (lambda: sample(float("nan")), "rate must be a number from 0 to 1"),
        (lambda: sample("0.5"), "rate must be a number from 0 to 1"),
        (lambda: sample(True), "rate must be a number from 0 to 1"),
        (lambda: sample(0.5, by="name"), "by must be one of user, session, event"),
        (lambda: sample(0.5, by=["user"]), "by must be one of user, session, event"),
        (lambda: sample(0.5, names=[5]), "sample(names=...) takes names"),
        (lambda: hash_ids(key=None), "key must be a secret of at least 16 bytes"),
        (lambda: hash_ids(key="hunter2"), "key must be a secret of at least 16 bytes"),
        (lambda: hash_ids(key=KEY, fields=["name"]), "fields must be some of"),
        (lambda: hash_ids(key=KEY, fields=[]), "fields must be some of"),
        (lambda: hash_ids(key=KEY, fields=[[]]), "fields must be some of"),
        (lambda: hash_ids(key=KEY, fields=5), "fields must be some of"),
        (lambda: enrich(None), "enrich() takes properties or a function"),
        (lambda: enrich({}), "enrich() takes properties or a function"),
        (lambda: route("x"), "route() needs names of providers"),
        (lambda: route("x", only="mixpanel"), "only must be a list of names of providers"),
        (lambda: route("x", only=[]), "only must be a list of names of providers"),
        (lambda: route("x", never=[5]), "never must be a list of names of providers"),
        (lambda: route(5, never=["x"]), "route() takes names of events"),
        (lambda: consent(None), "consent() takes a function"),
        (lambda: consent(failing, cache_seconds=-1), "cache_seconds must be a number, 0 or more"),
        (lambda: consent(failing, cache_size="9"), "cache_size must be a number, 0 or more"),
        (lambda: redact(keys="password"), "keys must be a list"),
        (lambda: redact(keys=["*"]), "keys takes globs"),
        (lambda: redact(keys=[5]), "keys takes globs"),
        (lambda: redact(detect="email"), "detect must be a list"),
        (lambda: redact(detect=["e-mail"]), "detect takes email, card, token"),
        (lambda: redact(replacement=None), "replacement must be text"),
        (lambda: redact(keep_traits="email"), "keep_traits must be a list"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_at_once_in_one_line(make, text):
    with pytest.raises(ConfigurationError) as told:
        make()
    assert text in str(told.value)
    assert "\n" not in str(told.value)
    assert "hunter2" not in str(told.value)


# record.replace()


def test_replace_cleans_as_track_does():
    changed = event().replace(
        name="  n" * 200, properties={"a": {1}}, user_id=5, anonymous_id="anonymous", timestamp="2026-05-04"
    )
    assert changed.name == ("  n" * 200).strip()[:200]
    assert changed.properties == {"a": [1]}
    assert (changed.user_id, changed.anonymous_id, changed.iso) == ("5", None, "2026-05-04T00:00:00.000000Z")
    assert event().replace(only=["a"], never=["b"]).only == {"a"}
    assert event().replace(message_id="mine").message_id != "mine"
    assert identity(traits={"a": 1}).replace(user_id="u-2").traits == {"a": 1}


@pytest.mark.parametrize(
    ("record", "changes", "error"),
    [
        (event(), {"nmae": "x"}, TypeError),
        (event(), {"traits": {}}, TypeError),
        (identity(), {"properties": {}}, TypeError),
        (event(), {"properties": [1]}, TypeError),
        (event(), {"only": "a"}, TypeError),
        (event(), {"name": ""}, ValueError),
        (event(), {"message_id": ""}, ValueError),
        (event(), {"timestamp": "yesterday"}, ValueError),
        (event(), {"properties": {str(n): "\n" * 8000 for n in range(100)}}, ValueError),
        (identity(), {"user_id": "anonymous"}, ValueError),
    ],
)
def test_replace_refuses_what_cannot_be(record, changes, error):
    with pytest.raises(error):
        record.replace(**changes)


def test_in_strict_mode_a_failing_processor_raises_at_the_flush():
    tracker = Tracker(environ={"AGENT_TRACKING_STRICT": "1"}, discover=False, processors=[failing])
    tracker.track("x")
    with pytest.raises(TrackingError, match="the processor failing raised ValueError"):
        tracker.flush(10)
    tracker.shutdown(1)
