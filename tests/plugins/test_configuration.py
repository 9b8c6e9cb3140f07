"""Variables: what is taken, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import importlib
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from agent_tracking.exceptions import ConfigurationError
from agent_tracking.urls import http_url
from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider
from agent_tracking_webhook import WebhookProvider

CLASSES = [PostHogProvider, MixpanelProvider, AmplitudeProvider, WebhookProvider]
HOSTED = [PostHogProvider, MixpanelProvider, AmplitudeProvider]
PLUGINS = Path(__file__).parents[2] / "plugins"
PATHS = {"posthog": "/batch/", "mixpanel": "/import?strict=1", "amplitude": "/2/httpapi"}

BAD_ADDRESSES = [
    "api.example",
    "//api.example",
    "ftp://api.example",
    "https://",
    "https:///path",
    "https://:443",
    "https://api.example:port",
    "https://api.example:0",
    "https://api.example:99999",
    "https://[::1",
    "https://api.exa mple",
    "https://api.example/\r\nx-evil: 1",
    "https://api.example/\x00",
    "https://api.example\u200b",
    "https://user:t0ps3cret@api.example",
    "https://t0ps3cret@api.example",
    "https://api.example/#t0ps3cret",
    '"https://api.example"',
]


@pytest.fixture
def url(kit):
    def url(cls, **variables):
        provider = kit.make(cls, **variables)
        endpoint = provider.endpoints[-1].name
        return provider.request(endpoint, kit.payloads(provider.encode(kit.event()))).url

    return url


@pytest.mark.parametrize(
    ("cls", "host", "sent_to"),
    [
        (PostHogProvider, "", "https://us.i.posthog.com/batch/"),
        (PostHogProvider, "https://app.posthog.com", "https://us.i.posthog.com/batch/"),
        (PostHogProvider, "https://us.posthog.com/", "https://us.i.posthog.com/batch/"),
        (PostHogProvider, "https://eu.posthog.com", "https://eu.i.posthog.com/batch/"),
        (PostHogProvider, "https://EU.posthog.com/project/12", "https://eu.i.posthog.com/batch/"),
        (PostHogProvider, "https://eu.i.posthog.com///", "https://eu.i.posthog.com/batch/"),
        (PostHogProvider, "http://127.0.0.1:8000/posthog", "http://127.0.0.1:8000/posthog/batch/"),
        (MixpanelProvider, "", "https://api.mixpanel.com/import?strict=1"),
        (MixpanelProvider, "https://api-eu.mixpanel.com/", "https://api-eu.mixpanel.com/import?strict=1"),
        (MixpanelProvider, "http://[::1]:8000/mp", "http://[::1]:8000/mp/import?strict=1"),
        (AmplitudeProvider, "", "https://api2.amplitude.com/2/httpapi"),
        (AmplitudeProvider, "https://api.eu.amplitude.com", "https://api.eu.amplitude.com/2/httpapi"),
        (AmplitudeProvider, "http://localhost:8000/amp/", "http://localhost:8000/amp/2/httpapi"),
    ],
)
def test_host(url, cls, host, sent_to):
    assert url(cls, **{f"{cls.name.upper()}_HOST": host}) == sent_to


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_bad_address_is_refused_without_being_told(kit, address):
    variables = [(cls, f"{cls.name.upper()}_HOST") for cls in HOSTED] + [
        (WebhookProvider, "TRACKING_WEBHOOK_URL")
    ]
    for cls, variable in variables:
        with pytest.raises(ConfigurationError) as caught:
            kit.make(cls, **{variable: address})
        assert variable in caught.value.reason
        assert caught.value.fix
        told = "".join(traceback.format_exception(caught.value))
        assert "t0ps3cret" not in told
        assert "api.exa" not in told


@pytest.mark.parametrize("cls", HOSTED)
def test_base_address_has_no_query(kit, cls):
    with pytest.raises(ConfigurationError, match=r"_HOST has a query"):
        kit.make(cls, **{f"{cls.name.upper()}_HOST": "https://api.example/?a=b"})


def test_webhook_says_where_credentials_belong(kit):
    with pytest.raises(ConfigurationError, match="TRACKING_WEBHOOK_AUTH"):
        kit.make(WebhookProvider, TRACKING_WEBHOOK_URL="https://user:password@hooks.example")


def test_exact_address_is_kept():
    assert http_url("X", "https://a.example/b/?c=d", exact=True) == "https://a.example/b/?c=d"
    assert http_url("X", "https://a.example/b/") == "https://a.example/b"


@pytest.mark.parametrize(
    ("cls", "variable", "value"),
    [
        (PostHogProvider, "POSTHOG_API_KEY", "phx_t0ps3cret"),
        (MixpanelProvider, "MIXPANEL_TOKEN", "t0ps3cret:"),
        (MixpanelProvider, "MIXPANEL_TOKEN", "t0ps3cret t0ps3cret"),
        (MixpanelProvider, "MIXPANEL_TOKEN", "t0ps3cret\u200b"),
        (AmplitudeProvider, "AMPLITUDE_ENDPOINT", "t0ps3cret"),
        (WebhookProvider, "TRACKING_WEBHOOK_FORMAT", "t0ps3cret"),
        (WebhookProvider, "TRACKING_WEBHOOK_AUTH", "Bearer t0ps3cret\r\nx-evil: 1"),
        (WebhookProvider, "TRACKING_WEBHOOK_AUTH", "Bearer t0ps3cret\nx"),
        (WebhookProvider, "TRACKING_WEBHOOK_AUTH", "Bearer\tt0ps3cret"),
        (WebhookProvider, "TRACKING_WEBHOOK_AUTH", "Bearer t0ps3cret\x85x"),
        (WebhookProvider, "TRACKING_WEBHOOK_AUTH", "Bearer t0ps3cret€"),
        (WebhookProvider, "TRACKING_WEBHOOK_SECRET", "t0ps3cret"),
        (WebhookProvider, "TRACKING_WEBHOOK_SECRET", "whsec_t0ps3cret"),
        (WebhookProvider, "TRACKING_WEBHOOK_SECRET", "whsec_" + "t0ps" * 100),
        (WebhookProvider, "TRACKING_WEBHOOK_SECRET", "whsec_t0ps3cret!AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"),
        (WebhookProvider, "TRACKING_WEBHOOK_SECRET", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX t0ps3cret"),
    ],
)
def test_bad_value_is_refused_without_being_told(kit, cls, variable, value):
    with pytest.raises(ConfigurationError) as caught:
        kit.make(cls, **{variable: value})
    assert variable in caught.value.reason
    assert caught.value.fix
    assert "t0ps" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("cls", CLASSES)
def test_missing_variable_is_named(kit, cls):
    (required,) = kit.REQUIRED[cls]
    with pytest.raises(ConfigurationError, match=required):
        cls({required: "  "})


@pytest.mark.parametrize("cls", CLASSES)
def test_no_secret_is_shown(kit, cls):
    secrets = {var.name: "t0ps3cret" for var in cls.env if var.secret}
    secrets |= {
        "TRACKING_WEBHOOK_URL": "https://hooks.example/t0ps3cret",
        "TRACKING_WEBHOOK_SECRET": "whsec_" + "t0ps3cret000" * 3,
    }
    provider = kit.make(cls, **secrets)
    payloads = kit.payloads(provider.encode(kit.event()))
    request = provider.request(provider.endpoints[-1].name, payloads)
    assert "t0ps" not in repr(provider) + repr(provider.values) + repr(request)


def test_every_credential_is_declared_secret():
    secrets = {var.name for cls in CLASSES for var in cls.env if var.secret}
    assert secrets == {
        "POSTHOG_API_KEY",
        "MIXPANEL_TOKEN",
        "AMPLITUDE_API_KEY",
        "TRACKING_WEBHOOK_URL",
        "TRACKING_WEBHOOK_AUTH",
        "TRACKING_WEBHOOK_SECRET",
    }


@pytest.mark.parametrize("cls", CLASSES)
def test_key_with_any_characters_leaves_the_body_valid(kit, cls):
    key = {PostHogProvider: "POSTHOG_API_KEY", AmplitudeProvider: "AMPLITUDE_API_KEY"}.get(cls)
    variables = {key: 'k"\\ü\nx'} if key else {}
    provider = kit.make(cls, **variables)
    body = kit.body(provider, kit.event(), endpoint=provider.endpoints[-1].name)
    assert not key or body["api_key"] == 'k"\\ü\nx'


@pytest.mark.parametrize("cls", CLASSES)
def test_version_is_that_of_the_package(kit, cls):
    project = (PLUGINS / cls.name / "pyproject.toml").read_text()
    module = importlib.import_module(f"agent_tracking_{cls.name}.provider")
    version = module.__version__
    assert f'\nversion = "{version}"\n' in project
    provider = kit.make(cls)
    payloads = kit.payloads(provider.encode(kit.event()))
    request = provider.request(provider.endpoints[-1].name, payloads)
    assert request.headers["user-agent"] == f"agent-tracking-{cls.name}/{version}"


@pytest.mark.parametrize("cls", CLASSES)
def test_entry_point_names_the_class(cls):
    project = (PLUGINS / cls.name / "pyproject.toml").read_text()
    point = f'{cls.name} = "agent_tracking_{cls.name}:{cls.__name__}"'
    assert f'[project.entry-points."agent_tracking.providers"]\n{point}\n' in project


@pytest.mark.parametrize("cls", CLASSES)
def test_readme_names_every_variable_and_default(cls):
    readme = (PLUGINS / cls.name / "README.md").read_text()
    for var in cls.env:
        (row,) = [line for line in readme.splitlines() if line.startswith(f"| `{var.name}`")]
        assert ("required" in row) is var.required
        assert var.default is None or f"`{var.default}`" in row


@pytest.mark.parametrize("cls", CLASSES)
def test_import_brings_no_client_and_starts_nothing(cls):
    code = (
        f"import sys, threading, agent_tracking_{cls.name}\n"
        "print(sorted({'httpx', 'ssl', 'socket', 'urllib.request', 'asyncio'} & set(sys.modules)))\n"
        "print(threading.active_count() if 'threading' in sys.modules else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "1"]
