"""``agent-tracking new``: a complete folder under a good name; else one line, and nothing is written."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml
from importlib_metadata import version
from packaging.requirements import Requirement

from agent_tracking.cli.new import files
from agent_tracking.cli.new.files import render, requirement, write
from agent_tracking.cli.new.names import BadName, names_of

KINDS = pytest.mark.parametrize("options", [(), ("--plain",)], ids=["http", "plain"])
PATHS = [
    ".github/workflows/tests.yml",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "src/agent_tracking_acme/__init__.py",
    "src/agent_tracking_acme/provider.py",
    "src/agent_tracking_acme/py.typed",
    "tests/test_acme.py",
]
#: Each bad name with a word that must be in the one line that is said about it.
BAD = {
    "Acme": "did you mean 'acme'",
    "acme labs": "did you mean 'acme-labs'",
    "acme_labs": "did you mean 'acme-labs'",
    "acme--labs": "did you mean 'acme-labs'",
    "-acme": "did you mean 'acme'",
    "acme-": "did you mean 'acme'",
    "acme.io": "did you mean 'acme-io'",
    "../acme": "did you mean 'acme'",
    "3com": "a letter first",
    "": "a letter first",
    "äcme": "lower-case letters",
    "acme\n": "did you mean 'acme'",
    "class": "a word of the Python language",
    "none": "no provider",
    "all": "every provider",
    "cli": "the command line",
    "posthog": "agent-tracking-posthog",
    "mixpanel": "agent-tracking-mixpanel",
    "amplitude": "agent-tracking-amplitude",
    "webhook": "agent-tracking-webhook",
    "posthog-api": "POSTHOG_API_KEY",
    "agent-tracking": "leave out",
    "agent-tracking-acme": "did you mean 'acme'",
    "a" * 51: "at most 50",
}


def _there(room: Path) -> list[str]:
    return sorted(str(path.relative_to(room)) for path in room.rglob("*") if path.is_file())


@KINDS
def test_it_writes_a_complete_distribution_and_says_what_comes_next(cli, tmp_path, options):
    done = cli.run("new", "acme", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert _there(tmp_path / "agent-tracking-acme") == PATHS
    *_, blank, title, install, test = done.stdout.splitlines()
    assert (blank, title) == ("", "Next:")
    assert install == "  pip install -e './agent-tracking-acme[dev]'"
    assert test == "  pytest agent-tracking-acme"


@KINDS
def test_everything_is_called_after_the_provider_and_no_place_is_left_open(cli, tmp_path, options):
    assert cli.run("new", "acme-labs-2", *options).returncode == 0
    folder = tmp_path / "agent-tracking-acme-labs-2"
    assert (folder / "src/agent_tracking_acme_labs_2/provider.py").is_file()
    texts = {path: (folder / path).read_text() for path in _there(folder)}
    assert not [path for path, text in texts.items() if "@{" in text]
    metadata = texts["pyproject.toml"]
    assert 'name = "agent-tracking-acme-labs-2"' in metadata
    assert 'acme-labs-2 = "agent_tracking_acme_labs_2:AcmeLabs2Provider"' in metadata
    assert "ACME_LABS_2_" in texts["README.md"]


@KINDS
def test_the_readmes_table_has_every_variable_of_the_provider_and_no_other(cli, tmp_path, options):
    cli.run("new", "acme", *options)
    folder = tmp_path / "agent-tracking-acme"
    source = (folder / "src/agent_tracking_acme/provider.py").read_text()
    declared = re.findall(r'EnvVar\("(\w+)"', source)
    table = re.findall(r"^\| `(\w+)` \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert declared == table
    assert declared == (["ACME_FILE"] if options else ["ACME_KEY", "ACME_HOST"])


@KINDS
def test_it_is_short_enough_to_read_at_once(cli, tmp_path, options):
    cli.run("new", "acme", *options)
    provider = tmp_path / "agent-tracking-acme/src/agent_tracking_acme/provider.py"
    assert len(provider.read_text().splitlines()) < 75


def test_its_workflow_is_yaml_and_runs_the_tests_on_every_python_of_the_core(cli, tmp_path):
    cli.run("new", "acme")
    workflow = yaml.safe_load((tmp_path / "agent-tracking-acme/.github/workflows/tests.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["pip install -e '.[dev]'", "pytest"]


def test_json_is_the_paths_and_the_next_commands_and_nothing_else(cli, tmp_path):
    done = cli.run("new", "acme", "--json")
    data = json.loads(done.stdout)
    assert sorted(data) == ["directory", "next", "paths"]
    assert sorted(data["paths"]) == [f"agent-tracking-acme/{path}" for path in PATHS]
    assert all((tmp_path / path).is_file() for path in data["paths"])
    assert data["next"] == ["pip install -e './agent-tracking-acme[dev]'", "pytest agent-tracking-acme"]


def test_the_folder_goes_where_directory_says(cli, tmp_path):
    (tmp_path / "else where").mkdir()
    done = cli.run("new", "acme", "--directory", "else where")
    assert _there(tmp_path / "else where/agent-tracking-acme") == PATHS
    assert "  pip install -e './else where/agent-tracking-acme[dev]'" in done.stdout.splitlines()
    assert done.stdout.endswith("  pytest 'else where/agent-tracking-acme'\n")


def test_a_directory_that_does_not_exist_is_an_error_that_names_it(cli, tmp_path):
    done = cli.run("new", "acme", "--directory", "nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert _there(tmp_path) == []


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_one_line_with_what_is_wrong(name):
    with pytest.raises(BadName) as caught:
        names_of(name)
    assert BAD[name] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "acme", "acme-labs", "x2", "acme-2", "match", "a" * 50])
def test_a_good_name_gives_identifiers_and_a_normalised_distribution(name):
    names = names_of(name)
    assert names.package.isidentifier()
    assert f"{names.cls}Provider".isidentifier()
    assert f"{names.variable}_KEY".isidentifier()
    assert Requirement(names.distribution).name == f"agent-tracking-{name}"


@pytest.mark.parametrize("name", ["Acme", "posthog", "acme labs"])
def test_a_bad_name_exits_with_2_and_writes_nothing(cli, tmp_path, name):
    done = cli.run("new", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {name!r} ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "broken link"])
def test_what_exists_is_named_and_left_as_it_is(cli, tmp_path, kind):
    there = tmp_path / "agent-tracking-acme"
    {
        "folder": there.mkdir,
        "file": lambda: there.write_text("mine"),
        "broken link": lambda: there.symlink_to(tmp_path / "gone"),
    }[kind]()
    done = cli.run("new", "acme")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: agent-tracking-acme exists already: nothing was written\n"
    assert list(tmp_path.iterdir()) == [there]
    assert _there(tmp_path) == (["agent-tracking-acme"] if kind == "file" else [])
    if kind == "file":
        assert there.read_text() == "mine"


def test_a_second_time_nothing_is_overwritten(cli, tmp_path):
    cli.run("new", "acme")
    readme = tmp_path / "agent-tracking-acme/README.md"
    readme.write_text("mine")
    assert cli.run("new", "acme").returncode == 2
    assert readme.read_text() == "mine"


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_when_writing_fails_half_way_nothing_is_left(tmp_path, problem):
    class Failing(dict):
        def items(self):
            yield "src/one.py", ""
            assert (tmp_path / "new/src/one.py").is_file()
            raise problem

    with pytest.raises(type(problem)):
        write(tmp_path / "new", Failing())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line_and_exits_with_2(cli, tmp_path):
    done = cli.run("new", "acme", "--directory", "/proc/self")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: /proc/self/agent-tracking-acme cannot be written: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("running", ["0.1.0", "0.1.9", "1.4.2", "2.0.0rc1", "3.0.0.dev4", "1.2"])
def test_it_requires_the_running_core_or_newer_up_to_the_next_major_version(running):
    (specifier,) = [Requirement(requirement(running)).specifier]
    assert specifier.contains(running, prereleases=True)
    assert not specifier.contains(f"{int(running.split('.')[0]) + 1}.0")


def test_its_requirement_takes_the_core_that_wrote_it(cli, tmp_path):
    cli.run("new", "acme")
    metadata = (tmp_path / "agent-tracking-acme/pyproject.toml").read_text()
    assert f'dependencies = ["{requirement(version("agent-tracking"))}"]' in metadata


@pytest.mark.parametrize("plain", [False, True])
def test_every_python_file_of_it_can_be_parsed(plain):
    for path, text in render(names_of("acme"), plain=plain, version="0.1.0").items():
        if path.endswith(".py"):
            ast.parse(text, path)
            assert ast.get_docstring(ast.parse(text)), path


def test_no_template_is_left_unused():
    templates = Path(files.__file__).parent / "templates"
    used = {
        source.replace("*", kind) + ".tmpl"
        for source in files._SOURCES.values()
        for kind in ("http", "plain")
    }
    assert {str(path.relative_to(templates)) for path in templates.rglob("*.tmpl")} == used
