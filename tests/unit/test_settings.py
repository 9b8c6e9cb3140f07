"""AGENT_TRACKING_*: each value by its rule, every problem told, defaults where one is bad."""

import pytest

from agent_tracking.settings import VARIABLES, Settings, boolean, read_settings


@pytest.mark.parametrize("text", ["1", "true", "YES", " on "])
def test_true_words(text):
    assert boolean(text) is True


@pytest.mark.parametrize("text", ["0", "False", "no", "OFF"])
def test_false_words(text):
    assert boolean(text) is False


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("AGENT_TRACKING_DISABLED", "maybe"),
        ("AGENT_TRACKING_FLUSH_AT", "0"),
        ("AGENT_TRACKING_FLUSH_AT", "ten"),
        ("AGENT_TRACKING_FLUSH_INTERVAL", "-1"),
        ("AGENT_TRACKING_FLUSH_INTERVAL", "nan"),
        ("AGENT_TRACKING_SHUTDOWN_TIMEOUT", "1e9"),
        ("AGENT_TRACKING_QUEUE_BYTES", "1.5"),
    ],
)
def test_a_bad_value_is_named_without_being_shown_and_the_default_applies(variable, text):
    settings, problems = read_settings({variable: text})
    assert settings == Settings()
    assert len(problems) == 1
    assert variable in str(problems[0])
    assert text not in str(problems[0]).replace(variable, "").split()


def test_all_problems_are_told_together():
    assert (
        len(read_settings(dict.fromkeys(VARIABLES, "?"))[1]) == len(VARIABLES) - 4
    )  # the lists and the paths take any text


def test_good_values_are_taken():
    settings, problems = read_settings(
        {
            "AGENT_TRACKING_PROVIDERS": "posthog, webhook",
            "AGENT_TRACKING_DISABLED_PROVIDERS": "*",
            "AGENT_TRACKING_FLUSH_AT": "7",
            "AGENT_TRACKING_FLUSH_INTERVAL": "0.5",
            "AGENT_TRACKING_STRICT": "on",
        }
    )
    assert problems == []
    assert (settings.providers, settings.disabled_providers) == (("posthog", "webhook"), ("*",))
    assert (settings.flush_at, settings.flush_interval, settings.strict) == (7, 0.5, True)


def test_blank_is_unset_and_none_is_nobody():
    assert read_settings({"AGENT_TRACKING_PROVIDERS": "  "})[0].providers is None
    assert read_settings({"AGENT_TRACKING_PROVIDERS": "none"})[0].providers == ()


def test_every_setting_has_its_variable():
    assert {f"AGENT_TRACKING_{name.upper()}" for name in Settings.__struct_fields__} == set(VARIABLES)
