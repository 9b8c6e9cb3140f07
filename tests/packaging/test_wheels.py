"""The five distributions as they are built: typed, licensed, described, with the right entry points."""

from __future__ import annotations

from collections.abc import Callable
from configparser import ConfigParser
from email import message_from_bytes
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import pytest
from importlib_metadata import version
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROVIDERS = ("amplitude", "mixpanel", "posthog", "webhook")
PACKAGES = ("agent_tracking", *(f"agent_tracking_{name}" for name in PROVIDERS))

pytestmark = pytest.mark.timeout(300)


class Wheel:
    """What is in one wheel."""

    def __init__(self, path: Path) -> None:
        with ZipFile(path) as archive:
            self.names = archive.namelist()
            (info,) = {name.split("/")[0] for name in self.names if ".dist-info/" in name}
            self.metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
            self.entry_points = ConfigParser(delimiters=("=",))
            self.entry_points.read_string(archive.read(f"{info}/entry_points.txt").decode())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory, uv: Callable[..., None]) -> dict[str, Wheel]:
    place = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--directory", str(ROOT), "--all-packages", "--wheel", "--out-dir", str(place))
    return {path.name.split("-")[0]: Wheel(path) for path in place.glob("*.whl")}


def test_there_are_five(wheels):
    assert sorted(wheels) == sorted(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_its_own_package_and_nothing_else(wheels, package):
    tops = {name.split("/")[0] for name in wheels[package].names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {package}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_says_that_it_is_typed_what_it_is_and_under_which_licence(wheels, package):
    wheel = wheels[package]
    assert f"{package}/py.typed" in wheel.names
    assert wheel.metadata["License-Expression"] == "MIT"
    assert wheel.metadata["Summary"]
    assert wheel.metadata["Description-Content-Type"] == "text/markdown"
    assert len(wheel.metadata.get_payload()) > 300


def test_the_core_carries_the_licence_and_the_readme(wheels):
    wheel = wheels["agent_tracking"]
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.names)
    assert (
        wheel.metadata.get_payload(decode=True).decode().strip() == (ROOT / "README.md").read_text().strip()
    )


def test_the_core_has_one_script_and_no_provider(wheels):
    points = wheels["agent_tracking"].entry_points
    assert {name: dict(points[name]) for name in points.sections()} == {
        "console_scripts": {"agent-tracking": "agent_tracking.cli:main"}
    }


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_is_found_by_its_own_name(wheels, name):
    points = wheels[f"agent_tracking_{name}"].entry_points
    assert points.sections() == ["agent_tracking.providers"]
    ((found, target),) = points["agent_tracking.providers"].items()
    module, _, attribute = target.partition(":")
    assert found == name
    assert getattr(import_module(module), attribute).name == name


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_takes_any_core_up_to_the_next_major_version(wheels, name):
    requirements = [
        Requirement(text) for text in wheels[f"agent_tracking_{name}"].metadata.get_all("Requires-Dist")
    ]
    (core,) = [each.specifier for each in requirements if each.name == "agent-tracking"]
    assert core.contains(version("agent-tracking"))
    assert not core.contains("1.0")


def test_the_core_has_an_extra_for_each_provider_for_all_and_for_the_command_line(wheels):
    extras = set(wheels["agent_tracking"].metadata.get_all("Provides-Extra"))
    assert extras == {*PROVIDERS, "all", "cli", "otel", "testing"}


def test_the_core_needs_neither_a_provider_nor_the_command_lines_libraries(wheels):
    requirements = [Requirement(text) for text in wheels["agent_tracking"].metadata.get_all("Requires-Dist")]
    plain = {each.name for each in requirements if each.marker is None}
    assert not plain & {"click", "rich"}
    assert not any(name.startswith("agent-tracking") for name in plain)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_providers_version_is_the_one_of_its_metadata(name):
    module = import_module(f"agent_tracking_{name}.provider")
    assert module.__version__ == version(f"agent-tracking-{name}")


def test_the_cores_version_is_the_one_of_its_metadata():
    assert import_module("agent_tracking").__version__ == version("agent-tracking")
