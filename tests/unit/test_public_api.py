"""The public surface: its names, what importing it costs, and that there is one tracker in a process."""

import ast
import importlib
import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import agent_tracking
from agent_tracking import api

SOURCE = Path(agent_tracking.__file__).parent


def run(code, **environ):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environ},
    )
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout.strip()


def test_every_public_name_exists_and_dir_shows_it():
    assert len(set(agent_tracking.__all__)) == len(agent_tracking.__all__)
    for name in agent_tracking.__all__:
        assert getattr(agent_tracking, name) is not None
        assert name in dir(agent_tracking)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'tarck'"):
        agent_tracking.tarck  # noqa: B018


def test_the_public_functions_say_what_they_do():
    for name in (
        "track",
        "identify",
        "flush",
        "aflush",
        "shutdown",
        "register_provider",
        "providers",
        "stats",
    ):
        assert getattr(agent_tracking, name).__doc__


def test_importing_loads_no_http_no_plugin_system_no_metadata_no_tls_and_starts_no_thread():
    output = run(
        """
        import sys, threading
        import agent_tracking
        heavy = ("httpx", "httpcore", "pluggy", "ssl", "importlib_metadata", "importlib.metadata", "asyncio",
                 "msgspec", "agent_tracking_posthog", "agent_tracking.dispatcher")
        print([name for name in heavy if name in sys.modules], threading.active_count())
        """
    )
    assert output == "[] 1"


def test_the_first_calls_on_the_callers_thread_import_nothing():
    output = run(
        """
        import builtins, sys, threading
        import agent_tracking
        main, seen, original = threading.get_ident(), [], builtins.__import__
        def spy(name, *rest):
            if threading.get_ident() == main:
                seen.append(name)
            return original(name, *rest)
        builtins.__import__ = spy
        agent_tracking.track("x", {"a": object()}, user_id=1)
        agent_tracking.identify("u", {"a": 1})
        builtins.__import__ = original
        print(seen)
        """,
        AGENT_TRACKING_PROVIDERS="none",
    )
    assert output == "[]"


def test_a_reload_a_second_copy_and_a_reimport_share_one_tracker():
    before = api.default_tracker()
    assert importlib.reload(api).default_tracker() is before
    assert importlib.reload(agent_tracking).track == before.track

    spec = importlib.util.spec_from_file_location(
        "another_name", SOURCE / "__init__.py", submodule_search_locations=[str(SOURCE)]
    )
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    assert copy.track.__self__ is before

    saved = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "agent_tracking"}
    for name in saved:
        del sys.modules[name]
    try:
        again = importlib.import_module("agent_tracking")
        assert again is not agent_tracking
        assert again.track.__self__ is before
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "agent_tracking"]:
            del sys.modules[name]
        sys.modules.update(saved)


def test_code_with_another_layout_keeps_a_tracker_of_its_own(monkeypatch):
    before = api.default_tracker()
    monkeypatch.setattr(api, "_KEY", "_agent_tracking_process_v2")
    try:
        newer = api.default_tracker()
    finally:
        sys.modules.pop("_agent_tracking_process_v2", None)
    assert newer is not before
    assert vars(sys.modules["_agent_tracking_process_v1"])["tracker"] is before


def test_providers_and_registering_start_no_thread_that_stays():
    output = run(
        """
        import threading
        import agent_tracking
        class P:
            name = "p"
            def track(self, event): pass
        agent_tracking.register_provider(P())
        agent_tracking.providers()
        agent_tracking.stats()
        print(threading.active_count())
        """
    )
    assert output == "1"


def test_the_version_is_the_distributions():
    from importlib_metadata import version

    assert agent_tracking.__version__ == version("agent-tracking")


def test_no_module_of_the_core_imports_a_provider_package():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("agent_tracking_")], path


def test_imports_inside_the_core_run_one_way():
    """What is nearer to the wire imports nothing that is nearer to the caller."""
    order = ["exceptions", "events", "provider", "http_provider", "hooks", "delivery", "discovery", "registry",
             "dispatcher", "tracker", "api"]  # fmt: skip
    place = {name: number for number, name in enumerate(order)}
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room not in place:
            continue
        body = path.read_text().split("if TYPE_CHECKING:")
        text = body[0] + "".join(part.split("\n\n", 1)[-1] for part in body[1:])
        for line in text.splitlines():
            if not line.startswith("from agent_tracking."):
                continue
            imported = line.split()[1].split(".")[1]
            assert place.get(imported, -1) <= place[room], f"{path.name}: {line}"
