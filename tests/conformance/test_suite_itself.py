"""The suite as an author meets it: five lines, exceptions with reasons, a report, nothing silent."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from agent_tracking import HTTPProvider, Provider
from agent_tracking.testing import Capabilities, ProviderConformance
from agent_tracking.testing.conformance.base import left_out, needs, overridden, rules_of
from agent_tracking.testing.conformance.secrecy import traces_of

SAMPLES = Path(__file__).parents[1] / "samples"
AUTHOR = """
from agent_tracking.testing import Capabilities, ProviderConformance
from agent_tracking_sample_plain import LineProvider
import json, pathlib, pytest

class TestLines(ProviderConformance):
    provider = LineProvider
    capabilities = Capabilities(identities=False, retry=False)
    def make_environ(self, place):
        return {"SAMPLE_PLAIN_FILE": f"{place}/lines"}
    def delivered(self, place):
        return [json.loads(line)["id"] for line in pathlib.Path(place, "lines").read_text().splitlines()]
"""


@pytest.fixture
def author(tmp_path):
    """Run pytest on an author's test module, in an empty folder, and return what it says."""

    def run(more="", *options, base=AUTHOR, samples=("plain",)):
        (tmp_path / "test_it.py").write_text(base + textwrap.indent(textwrap.dedent(more), "    "))
        (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        path = os.pathsep.join(str(SAMPLES / sample / "src") for sample in samples)
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


def test_a_module_of_a_few_lines_proves_a_provider(author):
    done = author()
    assert done.returncode == 0, done.stdout
    assert re.search(r"sample-plain \(test_it.py::TestLines\): [0-9]+ rules hold\n", done.stdout)
    assert "skipped" not in done.stdout


def test_an_override_without_a_reason_fails(author):
    done = author(
        """
        def test_everything_is_delivered_once(self):
            pass
        test_two_of_it_share_nothing = None
        """,
        *("-k", "reasons or delivered_once"),
    )
    assert done.returncode == 1
    assert "overridden without a reason in exceptions" in done.stdout
    assert "test_everything_is_delivered_once" in done.stdout
    assert "test_two_of_it_share_nothing" in done.stdout


@pytest.mark.parametrize(
    ("exceptions", "said"),
    [
        ({"test_everything_is_delivered_once": " "}, "no reason for"),
        ({"test_nothing": "why"}, "do not exist"),
    ],
)
def test_an_exception_needs_a_reason_and_a_test(author, exceptions, said):
    done = author(f"exceptions = {exceptions!r}", "-k", "reasons")
    assert done.returncode == 1
    assert said in done.stdout


def test_exceptions_show_in_the_terminal_and_in_the_json_report(author, tmp_path):
    done = author(
        """
        exceptions = {
            "test_everything_is_delivered_once": "the office has no door",
            "test_two_of_it_share_nothing": "there is only one of it",
            "test_a_second_flush_sends_nothing_again": "it was so once",
        }
        def test_two_of_it_share_nothing(self):
            pass
        def delivered(self, place):
            found = [json.loads(line)["id"] for line in pathlib.Path(place, "lines").read_text().splitlines()]
            return found[:20]
        """,
        *("-p", "agent_tracking.testing.fixtures", "--conformance-report=report.json"),
        *("-k", "delivered_once or share_nothing or second_flush or reasons or readably"),
    )
    assert done.returncode == 0, done.stdout
    assert "test_everything_is_delivered_once is expected to fail: the office has no door" in done.stdout
    assert "test_two_of_it_share_nothing is the author's own and holds" in done.stdout
    assert "test_a_second_flush_sends_nothing_again holds now: take it out of exceptions" in done.stdout
    (row,) = json.loads((tmp_path / "report.json").read_text())["providers"]
    assert (row["provider"], row["ok"], row["passed"], row["failed"]) == ("sample-plain", True, 1, [])
    assert row["class"] == "test_it.py::TestLines"
    assert row["claims"]["identities"] is False
    assert "test_payloads_are_valid_json" in row["not_claimed"]
    assert {each["test"]: each["reason"] for each in row["exceptions"]} == {
        "test_everything_is_delivered_once": "the office has no door",
        "test_two_of_it_share_nothing": "there is only one of it",
        "test_a_second_flush_sends_nothing_again": "it was so once",
    }


def test_a_failure_names_the_provider_the_rule_and_what_to_do(author):
    done = author(
        """
        def delivered(self, place):
            return []
        """,
        *("-k", "delivered_once"),
    )
    assert done.returncode == 1
    assert "sample-plain: records were lost, by number: 0, 1, 2, 3, 4, ..." in done.stdout
    assert "If it fails: the message says what is missing." in done.stdout


def test_the_guard_of_the_others_cannot_be_replaced():
    with pytest.raises(TypeError, match="cannot be replaced"):

        class Replaced(ProviderConformance):
            provider = Provider

            def test_exceptions_state_their_reasons(self):
                pass


def test_a_hostile_sample_fails_and_says_why(author):
    base = """
from agent_tracking.testing import Capabilities, ProviderConformance
from agent_tracking_sample_wrong_signature import *
import agent_tracking_sample_wrong_signature as module
from agent_tracking import Provider
KIND = next(v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Provider) and v is not Provider)

class TestWrong(ProviderConformance):
    provider = KIND
    capabilities = Capabilities(identities=False, retry=False)
    def make_environ(self, place):
        return {}
    def delivered(self, place):
        return []
"""
    done = author("", "-k", "hooks_match", base=base, samples=("wrong_signature",))
    assert done.returncode == 1
    assert "asks for request" in done.stdout


class Plain(Provider):
    name = "plain"


class OverHTTP(HTTPProvider):
    name = "over-http"


def test_tests_of_what_is_not_claimed_are_not_there():
    class Kit(ProviderConformance):
        provider = Plain
        capabilities = Capabilities(retry=False)

    for name, claims in left_out(Kit).items():
        assert {"http", "retry"} & set(claims), name
        assert not callable(getattr(Kit, name))
    assert overridden(Kit) == []
    assert "test_what_an_outage_held_up_is_delivered_when_it_is_over" in left_out(Kit)


def test_a_subclass_may_claim_more_than_its_parent():
    class Parent(ProviderConformance):
        provider = OverHTTP
        capabilities = Capabilities(split=False)

    class Child(Parent):
        capabilities = Capabilities(own_answers=True)

    assert not callable(Parent.test_a_request_that_is_too_large_is_split)
    assert callable(Child.test_a_request_that_is_too_large_is_split)
    assert callable(Child.test_a_captive_portal_is_no_delivery)
    assert overridden(Child) == []


def test_every_test_says_what_must_hold_and_what_to_do():
    for name, test in rules_of(ProviderConformance).items():
        assert test.__doc__, name
        assert "If it fails: " in test.__doc__, name


def test_every_claim_is_needed_by_a_test_or_changes_one():
    claims = {
        claim
        for test in rules_of(ProviderConformance).values()
        for claim in getattr(test, "__conformance_needs__", ())
    }
    settings = {"gzip", "key_in_url", "volatile_headers"}
    assert claims == {"http", "plain"} | set(Capabilities.__struct_fields__) - settings


def test_needs_leaves_the_test_as_it_is():
    def test():
        return 1

    assert needs("http")(test) is test


def test_pytest_is_imported_only_for_the_suite():
    code = """
        import sys
        import agent_tracking.testing
        agent_tracking.testing.Sink
        agent_tracking.testing.Capabilities
        assert "pytest" not in sys.modules
        agent_tracking.testing.ProviderConformance
        assert "pytest" in sys.modules
    """
    subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(code)], check=True, timeout=60)


def test_a_secret_is_known_by_its_parts():
    assert "t0ps3cret-path" in traces_of("https://hooks.example/in/t0ps3cret-path?key=t0ps3cret-key")
    assert "t0ps3cret-key" in traces_of("https://hooks.example/in/t0ps3cret-path?key=t0ps3cret-key")
    assert "t0ps3cret" in traces_of("Bearer t0ps3cret")
    assert "dDBwczNjcmV0" in traces_of("t0ps3cret")
    assert traces_of("short") == []
