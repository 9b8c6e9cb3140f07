"""Hooks are checked when a provider registers, and called with what they accept."""

import types

import pytest

from agent_tracking import ProviderSpecError, ProviderState, Tracker, hookimpl
from agent_tracking.hooks import adapt, find_hooks
from agent_tracking.hookspecs import HookSpecs, hookspec


@pytest.fixture
def tracker():
    tracker = Tracker(environ={}, discover=False)
    yield tracker
    tracker.shutdown(5)


class Plain:
    name = "plain"

    def __init__(self):
        self.seen = []

    def track(self, event):
        self.seen.append(event.name)


def test_plain_methods_marked_methods_modules_and_async_hooks_all_work(tracker):
    seen = []

    class Marked:
        name = "marked"

        @hookimpl
        def track(self, event):
            seen.append(("marked", event.name))

    class Async:
        name = "async"

        async def track(self, event):
            seen.append(("async", event.name))

        async def flush(self):
            seen.append(("async", "flush"))

    module = types.ModuleType("module")
    module.track = lambda event: seen.append(("module", event.name))
    for provider, name in ((Plain(), None), (Marked(), None), (Async(), None), (module, "module")):
        assert tracker.register_provider(provider, name=name).state is ProviderState.ACTIVE
    tracker.track("x")
    assert tracker.flush(10)
    assert set(seen) == {("marked", "x"), ("async", "x"), ("async", "flush"), ("module", "x")}


def test_an_unknown_hook_is_an_error_that_names_the_provider_the_hook_and_the_known_ones(tracker):
    class Wrong(Plain):
        @hookimpl
        def tarck(self, event):
            pass

    with pytest.raises(ProviderSpecError, match=r"'plain'.*no hook 'tarck'.*track\(self, event\)"):
        tracker.register_provider(Wrong())
    assert tracker.providers() == ()


def test_an_unknown_argument_is_an_error_that_names_both_signatures(tracker):
    class Wrong:
        name = "wrong"

        def track(self, event, colour):
            pass

    with pytest.raises(
        ProviderSpecError, match=r"'wrong'.*track\(event, colour\).*colour.*track\(self, event\)"
    ):
        tracker.register_provider(Wrong())


def test_a_missing_track_is_an_error(tracker):
    class Wrong:
        name = "wrong"

        def flush(self):
            pass

    with pytest.raises(ProviderSpecError, match=r"'wrong' has no hook 'track'"):
        tracker.register_provider(Wrong())


@pytest.mark.parametrize("name", [None, "", "  ", 5])
def test_a_missing_name_is_an_error(tracker, name):
    provider = types.SimpleNamespace(track=lambda event: None, name=name)
    with pytest.raises(ProviderSpecError, match="has no name"):
        tracker.register_provider(provider)


def test_wrappers_and_generators_are_refused(tracker):
    class Wrapper:
        name = "wrapper"

        @hookimpl(wrapper=True)
        def track(self, event):
            yield

    class Generator:
        name = "generator"

        def track(self, event):
            yield

    for provider in (Wrapper(), Generator()):
        with pytest.raises(ProviderSpecError, match="wrapper or a generator"):
            tracker.register_provider(provider)


def test_a_class_that_is_no_provider_is_refused_with_advice(tracker):
    with pytest.raises(ProviderSpecError, match="register an instance"):
        tracker.register_provider(Plain)


def test_a_name_that_is_taken_is_refused_and_the_same_object_twice_is_one(tracker):
    provider = Plain()
    assert tracker.register_provider(provider) == tracker.register_provider(provider)
    with pytest.raises(ProviderSpecError, match="unregister_provider"):
        tracker.register_provider(Plain())
    tracker.track("once")
    assert tracker.flush(10)
    assert provider.seen == ["once"]


def test_an_implementation_with_fewer_arguments_is_called_without_them(tracker):
    calls = []

    class Few:
        name = "few"

        def track(self):
            calls.append("track")

    tracker.register_provider(Few())
    tracker.track("x")
    assert tracker.flush(10)
    assert calls == ["track"]


def test_a_hook_may_gain_an_argument_without_breaking_older_providers():
    class Newer(HookSpecs):
        @hookspec
        def track(self, event, region):
            """A later version of the specification."""

        @hookspec
        def flush(self, deadline):
            """The same."""

    newer = Newer
    newer.identify = HookSpecs.identify
    calls = []

    class Old:
        def track(self, event):
            calls.append(("old", event))

        def flush(self):
            calls.append(("old", "flush"))

    class New:
        def track(self, region, event):
            calls.append(("new", event, region))

    for provider in (Old(), New()):
        hooks = find_hooks(provider, "any", newer)
        hooks.track("event", "eu")
        if hooks.flush:
            hooks.flush(5)
    assert calls == [("old", "event"), ("old", "flush"), ("new", "event", "eu")]


def test_adapting_costs_nothing_where_the_signatures_agree():
    def track(event):
        return event

    assert adapt(track, ("event",), ("event",)) is track
    assert adapt(lambda: "none", (), ("event",))("x") == "none"
