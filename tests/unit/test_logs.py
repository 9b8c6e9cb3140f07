"""What is logged: by which loggers, how often, and nothing of what was tracked."""

import ast
import logging
from pathlib import Path

import agent_tracking
from agent_tracking import Tracker
from agent_tracking.logs import Reporter

CORE = Path(agent_tracking.__file__).parent
SOURCES = [*CORE.rglob("*.py"), *(CORE.parents[2] / "plugins").glob("*/src/**/*.py")]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_sources_add_no_handler_set_no_level_and_name_no_logger_but_their_own():
    assert len(SOURCES) > 100
    forbidden = {
        "addHandler",
        "basicConfig",
        "NullHandler",
        "StreamHandler",
        "setLevel",
        "dictConfig",
        "captureWarnings",
    }
    for path in SOURCES:
        if {"cli", "testing"} & {*path.parts}:  # programs and processes of their own
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in forbidden, f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "getLogger":
                (name,) = map(ast.unparse, node.args)
                # httpx's transport logs headers at DEBUG: http.py asks whether anybody would hear it.
                assert "agent_tracking" in name or "httpcore" in name, f"{path}:{node.lineno}"


def test_each_provider_has_a_logger_below_the_one_that_an_application_sets(caplog):
    reporter = Reporter(lambda _on: None)
    reporter.warn("", "kind", "of the tracker")
    reporter.warn("posthog", "kind", "of a provider")
    reporter.warn("bad\nname", "kind", "of a stranger")
    assert [record.name for record in caplog.records] == [
        "agent_tracking",
        "agent_tracking.posthog",
        "agent_tracking.bad\\nname",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    with caplog.at_level(logging.ERROR, "agent_tracking"):
        reporter.warn("mixpanel", "kind", "unheard")
    assert "unheard" not in caplog.text


def test_one_line_a_minute_for_each_provider_and_kind_with_what_was_held_back_counted(caplog):
    clock = Clock()
    reporter = Reporter(lambda _on: None, clock)
    for second in range(150):
        clock.now = float(second)
        reporter.warn("posthog", "queue-full", "full", 2)
        if second % 50 == 0:
            reporter.warn("posthog", "gave-up", "gave up", 1)
            reporter.warn("mixpanel", "queue-full", "full", 1)
    lines = [(record.name.rpartition(".")[2], record.getMessage()) for record in caplog.records]
    assert sorted(lines) == sorted([
        ("posthog", "posthog: full (records: 2)"), ("posthog", "posthog: full (records: 120)"), ("posthog", "posthog: full (records: 120)"),
        ("posthog", "posthog: gave up (records: 1)"), ("posthog", "posthog: gave up (records: 2)"),
        ("mixpanel", "mixpanel: full (records: 1)"), ("mixpanel", "mixpanel: full (records: 2)"),
    ])  # fmt: skip


def test_advice_is_given_once(caplog):
    reporter = Reporter(lambda _on: None)
    for _ in range(3):
        reporter.advise("do this")
    assert [record.getMessage() for record in caplog.records] == ["do this"]


def test_nothing_of_a_record_is_in_any_line_at_any_level(caplog):
    """Whatever goes wrong on the way: names of events may be told, properties, traits and ids never."""

    class Raising:
        name = "raising"

        def track(self, event):
            raise ValueError(event.properties)

        def identify(self, identity):
            raise KeyError(identity.traits)

    def processor(record):
        raise RuntimeError(record)

    secret = "t0ps3cret"
    with caplog.at_level(logging.DEBUG):
        for processors in ((), (processor,)):
            environ = {"AGENT_TRACKING_DEBUG": "1"}
            tracker = Tracker(environ=environ, discover=False, processors=processors)
            tracker.register_provider(Raising())
            tracker.track("x", {secret: secret, "odd": object()}, user_id=secret)
            tracker.track(None, {secret: secret}, anonymous_id=secret)
            tracker.identify(secret, {secret: secret})
            tracker.identify(None, {secret: secret}, anonymous_id=secret)
            tracker.flush(20)
            tracker.shutdown(5)
    assert len(caplog.records) > 4
    assert secret not in caplog.text
    assert secret not in str([vars(record) for record in caplog.records])
