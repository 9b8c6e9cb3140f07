"""No key, token, address or payload in a log line, an error, a traceback, a repr or a pickle."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import string
import subprocess
import sys
import traceback
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.proxy import Proxy

import agent_tracking
from agent_tracking import (
    FlushResult,
    ProviderRecord,
    Response,
    Stats,
    Tracker,
    TrackingEvent,
)
from agent_tracking.delivery.backoff import RetryPolicy
from agent_tracking.provider import Provider, Values
from agent_tracking.testing import Fault, Sink, refused_url, tls_sink, unresolvable_url
from agent_tracking_amplitude import AmplitudeProvider
from agent_tracking_mixpanel import MixpanelProvider
from agent_tracking_posthog import PostHogProvider
from agent_tracking_webhook import WebhookProvider

CLASSES: tuple[type[Provider], ...] = (PostHogProvider, MixpanelProvider, AmplitudeProvider, WebhookProvider)
HERE = Path(__file__).name
secrets = st.text(string.ascii_letters + string.digits + "-_", min_size=16, max_size=32).map("zQ7".__add__)


def environ_of(url: str, secret: str) -> dict[str, str]:
    """Return variables that all hold the secret and point at ``url``."""
    return {
        "POSTHOG_API_KEY": f"phc_{secret}",
        "POSTHOG_HOST": f"{url}/posthog",
        "MIXPANEL_TOKEN": secret,
        "MIXPANEL_HOST": f"{url}/mixpanel",
        "AMPLITUDE_API_KEY": secret,
        "AMPLITUDE_HOST": f"{url}/amplitude",
        "TRACKING_WEBHOOK_URL": f"{url}/webhook/{secret}/hook?token={secret}",
        "TRACKING_WEBHOOK_AUTH": f"Bearer {secret}",
        "TRACKING_WEBHOOK_SECRET": "whsec_" + b64encode((secret * 3)[:32].encode()).decode(),
    }


def hidden(environ: dict[str, str], secret: str) -> list[str]:
    """Return every form of the secret that must not be seen."""
    basic = b64encode(f"{secret}:".encode()).decode()
    return [secret, basic, environ["TRACKING_WEBHOOK_SECRET"], environ["TRACKING_WEBHOOK_SECRET"][6:]]


def assert_clean(text: str, forms: list[str], where: object = "") -> None:
    for form in forms:
        assert form not in text, f"a secret in {where}: {text[:300]}"


class Everything(logging.Handler):
    """Keeps each line of every logger with all that a log formatter could show of it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        shown = {name: repr(value) for name, value in vars(record).items()}
        trace = ""
        if record.exc_info and record.exc_info[1]:
            trace = "".join(
                traceback.TracebackException.from_exception(record.exc_info[1], capture_locals=True).format()
            )
        self.lines.append(f"{record.name} {record.getMessage()} {shown} {trace}")


@contextmanager
def whole_log() -> Iterator[Everything]:
    root, handler = logging.getLogger(), Everything()
    level = root.level
    loud = [
        logging.getLogger(name) for name in ("httpx", "httpcore", "httpcore.http11", "httpcore.connection")
    ]
    levels = [logger.level for logger in loud]
    root.addHandler(handler)
    for logger in (root, *loud):
        logger.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        for logger, before in zip(loud, levels, strict=True):
            logger.setLevel(before)


def deliver(environ: dict[str, str], forms: list[str], *, proxied: bool = False) -> Tracker:
    """Track through all four providers at DEBUG and check all that can be seen of it."""
    exchanges: list[object] = []
    environ = {**environ, "AGENT_TRACKING_DEBUG": "1"}
    tracker = Tracker(
        environ=environ,
        discover=False,
        observers=(exchanges.append,),
        retry=RetryPolicy(first=0.01, longest=0.02, tries=2, window=0.01),
    )
    with whole_log() as log:
        for kind in CLASSES:
            tracker.register_provider(kind)
        for number in range(3):
            tracker.track("event", {"n": number}, user_id="u-1")
            tracker.identify("u-1", {"plan": "pro"})
        results = [tracker.flush(5)]
        seen = [tracker, *tracker.providers(), tracker.stats(), *exchanges]
        results.append(tracker.shutdown(1))
        for thing in (*seen, *results, tracker.stats()):
            for text in (repr(thing), str(thing), f"{thing}", ascii(thing)):
                assert_clean(text, forms, type(thing).__name__)
        assert exchanges
    assert any("agent_tracking.webhook" in line and "status" in line for line in log.lines), (
        "debug lines were written"
    )
    assert proxied == any(line.startswith("httpcore.") for line in log.lines), (
        "and those of the library that speaks to proxies"
    )
    for line in log.lines:
        assert_clean(line, forms, "the log")
        assert "/hook?" not in line
    return tracker


FAULTS = {
    "none": None,
    "500": lambda body: Fault.status(500, times=None, body=body),
    "429": lambda body: Fault.status(429, times=None, headers={"Retry-After": "0"}, body=body),
    "400": lambda body: Fault.status(400, times=None, body=body),
    "401": lambda body: Fault.status(401, times=None, body=body),
    "403": lambda body: Fault.status(403, times=None, body=body),
    "404": lambda body: Fault.status(404, times=None, body=body),
    "410": lambda body: Fault.status(410, times=None, body=body),
    "413": lambda body: Fault.status(413, times=None, body=body),
    "html": lambda body: Fault.html(times=None),
    "unauthorized": lambda body: Fault.unauthorized(times=None),
    "reset": lambda body: Fault.reset(times=None),
    "reset in the middle": lambda body: Fault.reset("middle", times=None),
    "disconnect": lambda body: Fault.disconnect(times=None),
}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(secret=secrets, fault=st.sampled_from(sorted(FAULTS)))
def test_no_secret_is_seen_whatever_the_backend_answers_even_the_secret(secret: str, fault: str) -> None:
    with Sink() as sink:
        environ = environ_of(sink.url, secret)
        make = FAULTS[fault]
        if make is not None:
            for name in ("posthog", "mixpanel", "amplitude", "webhook"):
                sink.fail(name, make(f"the key {secret} of {environ['TRACKING_WEBHOOK_URL']} is wrong"))
        deliver(environ, hidden(environ, secret))
        assert sink.totals("webhook").requests


@pytest.mark.parametrize("proxied", [False, True], ids=["straight", "through a proxy"])
@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_and_its_location_is_not_shown(
    code: int, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "zQ7-the-secret-of-a-redirect"
    proxy = Proxy()
    if proxied:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
    with closing(proxy), Sink() as sink, Sink() as other:
        environ = environ_of(sink.url, secret)
        for name in ("posthog", "mixpanel", "amplitude", "webhook"):
            sink.fail(
                name, Fault.redirect(f"{other.url}/elsewhere/{secret}?token={secret}", code=code, times=None)
            )
        tracker = deliver(environ, hidden(environ, secret), proxied=proxied)
        assert other.seen == 0
        assert bool(proxy.asked) == proxied
        assert all(provider.delivered == 0 for provider in tracker.stats().providers.values())
        assert tracker.stats().providers["webhook"].dropped["redirect"] == 6


def nobody() -> Iterator[str]:
    yield refused_url()
    yield unresolvable_url()
    with tls_sink() as sink:
        yield sink.url


@pytest.mark.parametrize("place", range(3), ids=["refused", "unresolvable", "untrusted"])
def test_no_secret_is_seen_when_nobody_answers(place: int) -> None:
    secret = "zQ7-the-secret-of-nobody"
    for number, url in enumerate(nobody()):
        if number == place:
            environ = environ_of(url, secret)
            deliver(environ, hidden(environ, secret))


def test_the_password_of_a_proxy_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "zQ7-the-password-of-a-proxy"
    address = refused_url().replace("http://", f"http://user:{secret}@")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, address)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    environ = environ_of("http://backend.example", "zQ7-another")
    deliver(environ, [secret, b64encode(f"user:{secret}".encode()).decode()], proxied=True)


BAD: dict[str, list[str]] = {
    "POSTHOG_API_KEY": ["phx_{}"],
    "POSTHOG_HOST": [
        "ftp://{}",
        "http://a b{}",
        "http://user:{}@host",
        "http://host/?key={}",
        "http://host:99999/{}",
    ],
    "MIXPANEL_TOKEN": ["{}:x", "a {}", "{}\r\nX: y", "é{}"],
    "MIXPANEL_HOST": ["http://[{}", "{}"],
    "AMPLITUDE_HOST": ["http://{}@", "https://host#{}"],
    "AMPLITUDE_ENDPOINT": ["{}"],
    "TRACKING_WEBHOOK_URL": ["{}", "http://user:{}@host/", "http://h/{}#x", "http://h/\n{}", "http://[{}]/"],
    "TRACKING_WEBHOOK_AUTH": ["Bearer {}\n\rX: y", "Be\u2028arer {}", "{}\x00"],
    "TRACKING_WEBHOOK_SECRET": ["{}", "whsec_{}!", "whsec_QQ== {}"],
    "TRACKING_WEBHOOK_FORMAT": ["{}"],
}
OWNERS = {"POSTHOG": PostHogProvider, "MIXPANEL": MixpanelProvider, "AMPLITUDE": AmplitudeProvider,
          "TRACKING": WebhookProvider}  # fmt: skip


def shown_of(error: BaseException) -> str:
    """Return what an error tracker shows: texts, causes, and the local variables of all frames but this test's."""
    parts = [repr(error), str(error), repr(error.args), repr(vars(error))]
    told: traceback.TracebackException | None = traceback.TracebackException.from_exception(
        error, capture_locals=True
    )
    while told is not None:
        parts += [str(frame.locals) for frame in told.stack if not frame.filename.endswith(HERE)]
        parts += list(told.format_exception_only())
        told = told.__cause__ or told.__context__
    return "\n".join(parts)


@settings(max_examples=150, deadline=None)
@given(secret=secrets, data=st.data())
def test_an_error_about_a_variable_names_it_and_shows_no_value_not_even_in_its_frames(
    secret: str, data: Any
) -> None:
    variable = data.draw(st.sampled_from(sorted(BAD)))
    value = data.draw(st.sampled_from(BAD[variable])).format(secret)
    environ = {**environ_of("http://127.0.0.1:9", f"{secret}x"), variable: value}
    kind = OWNERS[variable.split("_")[0]]
    tracker = Tracker(environ=environ, discover=False)
    for make in (lambda: kind(environ), lambda: tracker.register_provider(kind)):
        try:
            make()
        except agent_tracking.ConfigurationError as error:
            shown = shown_of(error)
            assert_clean(shown, [secret], variable)
            assert variable in shown
        else:
            pytest.fail(f"{variable}={value!r} was taken")


def test_an_error_of_an_authors_own_code_shows_no_value_either() -> None:
    secret = "zQ7-the-secret-of-an-author"

    class Careless(PostHogProvider):
        name = "careless"

        def configure(self) -> None:
            key = self.values["POSTHOG_API_KEY"]
            raise KeyError(f"what is {key}?")

    tracker = Tracker(environ=environ_of("http://127.0.0.1:9", secret), discover=False)
    with pytest.raises(agent_tracking.ProviderLoadError, match="making Careless raised KeyError") as caught:
        tracker.register_provider(Careless)
    assert_clean(shown_of(caught.value), [secret])


def test_the_frames_around_a_provider_hold_no_value_while_it_works() -> None:
    secret = "zQ7-the-secret-of-a-frame"
    stacks: list[str] = []

    def look() -> None:
        for frame, line in traceback.walk_stack(None):
            if not frame.f_code.co_filename.endswith(HERE):
                stacks.append(f"{frame.f_code.co_qualname if sys.version_info >= (3, 11) else ''}:{line} "
                              + " ".join(f"{name}={value!r}" for name, value in frame.f_locals.items()))  # fmt: skip

    class Looking(PostHogProvider):
        def judge(self, response: Response, batch: Any) -> Any:
            look()
            return super().judge(response, batch)

        def encode(self, record: Any) -> Any:
            look()
            return super().encode(record)

    with Sink() as sink:
        environ = environ_of(sink.url, secret)
        tracker = Tracker(environ=environ, discover=False)
        tracker.register_provider(Looking(environ))
        tracker.track("event", {"card": "4711-payload"})
        assert tracker.flush(10)
        tracker.shutdown(5)
    assert len(stacks) > 5
    assert_clean("\n".join(stacks), [*hidden(environ, secret), "4711-payload"])


@settings(max_examples=30, deadline=None)
@given(secret=secrets)
def test_no_public_object_shows_or_pickles_a_secret_or_a_payload(secret: str) -> None:
    environ = environ_of("http://127.0.0.1:9", secret)
    forms = hidden(environ, secret)
    event = TrackingEvent(name="x", message_id="5f0c7c7e-0000-4000-8000-000000000000", time=0.0,
                          properties_json=json.dumps({"card": secret}).encode())  # fmt: skip
    shown: list[Any] = [event, Stats(), FlushResult(), Tracker(environ=environ, discover=False)]
    for kind in CLASSES:
        provider: Any = kind(environ)
        payload = provider.encode(event)
        request = provider.request(provider.endpoints[-1].name, [payload])
        shown += [provider, provider.values, provider.env, provider.endpoints, payload, [payload], request]
        shown += [Response(200, {"x": secret}, secret.encode()), ProviderRecord(name="x", state="active")]  # type: ignore[arg-type]
        shown.append(agent_tracking.RetryLater(records=[event]))
        for refused in (provider, provider.values, request):
            with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
                pickle.dumps(refused)
        with pytest.raises(TypeError):
            copy.deepcopy(provider)
    for thing in shown:
        for text in (repr(thing), str(thing), f"{thing}", repr({"in": [thing]})):
            assert_clean(text, forms, type(thing).__name__)


def test_values_are_seen_by_name_only() -> None:
    values = Values(PostHogProvider.env, environ_of("http://x", "zQ7-canary"))
    assert repr(values) == "<Values of POSTHOG_API_KEY, POSTHOG_HOST, POSTHOG_HISTORICAL>"


def test_strict_mode_raises_without_a_secret_in_its_frames() -> None:
    secret = "zQ7-the-secret-of-strict-mode"
    with Sink() as sink:
        sink.fail("posthog", Fault.status(400, times=None, body=secret))
        environ = {**environ_of(sink.url, secret), "AGENT_TRACKING_STRICT": "1"}
        tracker = Tracker(environ=environ, discover=False)
        tracker.register_provider(PostHogProvider)
        tracker.track("event")
        with pytest.raises(agent_tracking.TrackingError) as caught:
            tracker.flush(5)
        assert_clean(shown_of(caught.value), hidden(environ, secret))
        for _ in range(2):
            try:
                tracker.shutdown(1)
            except agent_tracking.TrackingError:
                continue


@pytest.mark.parametrize(
    "arguments", [["providers", "--json"], ["providers"], ["demo", "--json"]], ids=" ".join
)
def test_the_command_line_shows_no_secret(apps: Any, arguments: list[str]) -> None:
    secret = "zQ7-the-secret-of-the-command-line"
    environ = environ_of("http://127.0.0.1:9", secret)
    for changes in (
        {},
        {"TRACKING_WEBHOOK_URL": f"http://user:{secret}@host/", "POSTHOG_API_KEY": f"phx_{secret}"},
    ):
        finished = subprocess.run(
            [sys.executable, "-m", "agent_tracking", *arguments],
            env={
                **apps.environ(),
                **environ,
                **changes,
                "AGENT_TRACKING_PROVIDERS": "*",
                "AGENT_TRACKING_DEBUG": "1",
            },
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert finished.stdout
        assert_clean(finished.stdout + finished.stderr, hidden(environ, secret), arguments)
        if arguments[0] == "demo":
            break
