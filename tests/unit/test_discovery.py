"""Discovery: each stage by its rule, on real metadata in a folder."""

import sys
import textwrap
import time

import pytest
from importlib_metadata import MetadataPathFinder

from agent_tracking import ProviderState, Tracker
from agent_tracking import discovery as stages
from agent_tracking.settings import Settings, read_settings

PROVIDER = """
from agent_tracking import EnvVar, Provider

class {name}(Provider):
    name = "{entry}"
    env = (EnvVar("{variable}", required=True, secret=True), EnvVar("{variable}_HOST", default="here"))

    def track(self, event):
        pass
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Return a function that installs a distribution into a folder on sys.path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(entry, body, *, dist=None, requires=(), attribute="P", version="1.0"):
        dist = dist or f"acme-{entry}"
        module = f"module_{dist.replace('-', '_')}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(body))
        info = tmp_path / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "entry_points.txt").write_text(
            f"[agent_tracking.providers]\n{entry} = {module}:{attribute}\n"
        )
        return module

    install.path = tmp_path
    yield install
    for name in set(sys.modules) - before:
        if name.startswith("module_"):
            del sys.modules[name]


def provider(entry, variable="ACME_KEY"):
    return PROVIDER.format(name="P", entry=entry, variable=variable)


def rows(environ=None):
    tracker = Tracker(environ=environ or {})
    return {record.name: record for record in tracker.providers() if record.distribution.startswith("acme")}


def found_in(path):
    return stages.find(lambda: MetadataPathFinder.find_distributions(_context(path)))


def _context(path):
    from importlib_metadata import DistributionFinder

    return DistributionFinder.Context(path=[str(path)])


def test_a_provider_is_active_when_its_required_variable_is_set(site):
    site("one", provider("one"))
    record = rows({"ACME_KEY": "k"})["one"]
    assert (record.state, record.distribution, record.version) == (ProviderState.ACTIVE, "acme-one", "1.0")
    assert record.variables == ("ACME_KEY", "ACME_KEY_HOST")


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_required_variable_that_is_unset_or_blank_makes_it_inactive_and_is_named(site, value):
    site("one", provider("one"))
    record = rows({} if value is None else {"ACME_KEY": value})["one"]
    assert record.state is ProviderState.INACTIVE
    assert "ACME_KEY" in record.reason
    assert "ACME_KEY" in record.fix


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("x = 1", "AttributeError"),
    ],
)
def test_an_entry_point_that_cannot_be_imported_is_a_failed_row_and_hurts_no_other(
    site, caplog, body, reason
):
    site("bad", body)
    site("good", provider("good"))
    records = rows({"ACME_KEY": "k"})
    assert records["good"].state is ProviderState.ACTIVE
    assert records["bad"].state is ProviderState.FAILED
    assert reason in records["bad"].reason
    assert "acme-bad" in records["bad"].fix
    assert len([line for line in caplog.records if line.name == "agent_tracking.bad"]) == 1


def test_a_constructor_that_raises_is_a_failed_row_without_the_text_of_the_error(site):
    body = (
        provider("bad") + "\n    def configure(self):\n        raise RuntimeError(self.values['ACME_KEY'])\n"
    )
    site("bad", body)
    record = rows({"ACME_KEY": "canary"})["bad"]
    assert record.state is ProviderState.FAILED
    assert "RuntimeError" in record.reason
    assert "canary" not in repr(record)


def test_a_wrong_signature_is_a_failed_row(site):
    site("bad", provider("bad") + "\n    def identify(self, nobody):\n        pass\n")
    record = rows({"ACME_KEY": "k"})["bad"]
    assert record.state is ProviderState.FAILED
    assert "nobody" in record.reason


def test_a_hanging_import_fails_after_its_time_and_the_others_go_on(site, monkeypatch):
    monkeypatch.setattr("agent_tracking.registry.IMPORT_SECONDS", 0.2)
    body = "import threading, sys\nsys.hang = threading.Event()\nsys.hang.wait(30)\n" + provider("slow")
    site("slow", body)
    site("good", provider("good"))
    tracker = Tracker(environ={"ACME_KEY": "k"})
    records = {record.name: record for record in tracker.providers()}
    assert records["good"].state is ProviderState.ACTIVE
    assert records["slow"].state is ProviderState.FAILED
    assert "import takes over" in records["slow"].reason
    sys.hang.set()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if {record.name: record for record in tracker.providers()}["slow"].state is ProviderState.ACTIVE:
            break
        time.sleep(0.01)
    else:
        pytest.fail("it never became active")
    tracker.shutdown(1)


def test_two_distributions_with_one_name_are_a_conflict_that_names_both_and_neither_loads(site):
    site("twice", "raise AssertionError('imported')", dist="acme-a")
    site("twice", "raise AssertionError('imported')", dist="acme-b")
    records = [r for r in Tracker(environ={}).providers() if r.distribution.startswith("acme")]
    assert [r.state for r in records] == [ProviderState.CONFLICT] * 2
    assert all("acme-a" in r.reason and "acme-b" in r.reason for r in records)


def test_a_conflict_ends_when_one_of_the_two_is_switched_off(site):
    site("twice", provider("twice"), dist="acme-a")
    site("twice", "raise AssertionError('imported')", dist="acme-b")
    environ = {"ACME_KEY": "k", "AGENT_TRACKING_DISABLED_PROVIDERS": "acme_B"}
    records = {
        r.distribution: r.state for r in Tracker(environ=environ).providers() if "acme" in r.distribution
    }
    assert records == {"acme-a": ProviderState.ACTIVE, "acme-b": ProviderState.DISABLED}


def test_the_same_package_twice_on_the_path_counts_once(site, tmp_path_factory, monkeypatch):
    site("one", provider("one"))
    other = tmp_path_factory.mktemp("again")
    (other / "acme_one-0.9.egg-info").mkdir()
    (other / "acme_one-0.9.egg-info" / "PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: acme_one\nVersion: 0.9\n"
    )
    (other / "acme_one-0.9.egg-info" / "entry_points.txt").write_text(
        "[agent_tracking.providers]\none = module_acme_one:P\n"
    )
    monkeypatch.syspath_prepend(str(other))
    assert rows({"ACME_KEY": "k"})["one"].state is ProviderState.ACTIVE


def test_corrupt_and_empty_metadata_hide_no_other_package(site):
    site("one", provider("one"))
    (site.path / ".dist-info").mkdir()
    (site.path / "acme_one-0.1.dist-info").mkdir()  # a stale, empty folder of an older version
    (site.path / "broken-1.0.dist-info").mkdir()
    (site.path / "broken-1.0.dist-info" / "entry_points.txt").write_bytes(
        b"[agent_tracking.providers]\nbroken = module:\xff\n"
    )
    assert rows({"ACME_KEY": "k"})["one"].state is ProviderState.ACTIVE
    found = found_in(site.path)
    assert [candidate.name for candidate in found.candidates if candidate.name == "one"] == ["one"]
    assert found.problems


def test_a_provider_made_for_another_version_is_incompatible_before_it_is_imported(site):
    site("old", "raise AssertionError('imported')", requires=["agent-tracking>=99"])
    record = rows()["old"]
    assert record.state is ProviderState.INCOMPATIBLE
    assert ">=99" in record.reason
    assert record.fix.startswith("pip install --upgrade acme-old")


@pytest.mark.parametrize(
    ("requirement", "state"),
    [
        ("Agent_Tracking[cli] >=99; python_version >= '3'", ProviderState.INCOMPATIBLE),
        ("agent-tracking <0.0.1", ProviderState.INCOMPATIBLE),
        ("agent-tracking >=99; python_version < '3'", ProviderState.ACTIVE),
        ("agent-tracking >=99; extra == 'later'", ProviderState.ACTIVE),
        ("agent-tracking-other >=99", ProviderState.ACTIVE),
        ("agent-tracking ~~ nonsense", ProviderState.ACTIVE),
    ],
)
def test_only_a_requirement_that_applies_here_makes_a_provider_incompatible(site, requirement, state):
    site("some", provider("some"), requires=["agent-tracking>=0.1,<1", requirement])
    assert rows({"ACME_KEY": "k"})["some"].state is state


def test_switches_are_read_before_anything_is_imported(site):
    site("off", "raise AssertionError('imported')")
    for environ, reason in (
        ({"AGENT_TRACKING_DISABLED": "1"}, "AGENT_TRACKING_DISABLED is on"),
        ({"AGENT_TRACKING_DISABLED_PROVIDERS": "off"}, "named in AGENT_TRACKING_DISABLED_PROVIDERS"),
        ({"AGENT_TRACKING_DISABLED_PROVIDERS": "Acme_Off"}, "named in AGENT_TRACKING_DISABLED_PROVIDERS"),
        ({"AGENT_TRACKING_DISABLED_PROVIDERS": "*"}, "named in AGENT_TRACKING_DISABLED_PROVIDERS"),
        ({"AGENT_TRACKING_PROVIDERS": "none"}, "not named in AGENT_TRACKING_PROVIDERS"),
        ({"AGENT_TRACKING_PROVIDERS": "posthog"}, "not named in AGENT_TRACKING_PROVIDERS"),
    ):
        record = rows(environ)["off"]
        assert (record.state, record.reason) == (ProviderState.DISABLED, reason)


def test_an_unknown_name_in_a_switch_is_reported_with_a_suggestion(site):
    site("acmelytics", provider("acmelytics"))
    settings, _ = read_settings({"AGENT_TRACKING_PROVIDERS": "acmelytic, *, zzz"})
    first, second = stages.unknown_names(found_in(site.path).candidates, settings)
    assert "did you mean acmelytics?" in first
    assert "installed: acme-acmelytics, acmelytics" in second


def test_a_variable_set_without_its_package_is_reported_with_the_command(site):
    records = stages.forgotten((), {"POSTHOG_API_KEY": "k", "MIXPANEL_TOKEN": " "})
    assert [(r.name, r.state) for r in records] == [("posthog", ProviderState.NOT_INSTALLED)]
    assert records[0].reason == "POSTHOG_API_KEY is set but agent-tracking-posthog is not installed"
    assert records[0].fix == "pip install agent-tracking-posthog"
    assert "k" not in records[0].fix.split()


def test_a_provider_registered_at_run_time_wins_over_an_installed_one_of_its_name(site):
    site("one", "raise AssertionError('imported')")

    class Own:
        name = "one"

        def track(self, event):
            pass

    tracker = Tracker(environ={"ACME_KEY": "k"})
    tracker.register_provider(Own())
    states = [record.state for record in tracker.providers() if record.name.startswith("one")]
    assert sorted(states) == ["active", "disabled"]


def test_nothing_is_selected_from_nothing():
    assert stages.select((), Settings()) == ([], [])
