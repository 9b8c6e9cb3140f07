"""Secrets: in no repr, no text, no error, no log line, no record of the provider."""

from __future__ import annotations

import logging
import pickle
import traceback
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from agent_tracking.exceptions import ConfigurationError
from agent_tracking.http_provider import HTTPProvider, Response
from agent_tracking.testing.conformance.base import Kit, needs
from agent_tracking.testing.conformance.bench import IMPATIENT, Bench
from agent_tracking.testing.faults import Fault

__all__ = ["SecrecyTests", "traces_of"]

#: Fewer characters stand in many texts by chance.
_SHORTEST = 8
#: What operators paste by mistake.
_ODD = [
    "{0}\r\nx-evil: 1", "{0}\u200b", "{0} {0}", "\x00{0}", "http://[{0}", "ftp://{0}/", "https://user:{0}@host",
]  # fmt: skip


def traces_of(value: str) -> list[str]:
    """Return the texts by which a secret would be known: itself, its parts if it is a URL, encodings."""
    found = [value]
    if "://" in value:
        parts = urlsplit(value)
        found = [parts.username or "", parts.password or "", *parts.path.split("/")]
        found += [item for _, item in parse_qsl(parts.query)]
    elif " " in value:  # "Bearer ...", or two keys
        found = value.split()
    found = [text for text in found if len(text) >= _SHORTEST]
    for text in list(found):
        found += [b64encode(each.encode()).decode() for each in (text, f"{text}:")]
        found.append(quote(text, safe=""))
    return found


class SecrecyTests(Kit):
    """What is declared secret is never shown."""

    def _secrets(self, bench: Bench) -> list[str]:
        found = []
        for var in self.provider.env:
            value = bench.environ.get(var.name)
            if var.secret and value:
                traces = traces_of(value)
                self.hold(
                    traces,
                    f"make_environ gives the secret {var.name} no part of {_SHORTEST} characters to look for",
                )
                found += traces
        return found

    def test_no_secret_is_shown_by_repr_or_str(self, bench: Bench) -> None:
        """Neither the provider nor its values nor its requests show a secret when they are printed.

        If it fails: declare the variable ``secret=True``; do not override ``__repr__``; hand out
        ``Request`` objects, not texts.
        """
        provider = bench.provider()
        shown = [repr(provider), str(provider), repr(provider.values)]
        if isinstance(provider, HTTPProvider):
            for name, batch in bench.batches(provider):
                request = provider.request(name, batch)
                shown += [repr(request), str(request), repr(batch)]
        self._search(bench, "\n".join(shown), "repr or str")

    def test_its_values_cannot_be_pickled(self, bench: Bench) -> None:
        """Pickles end up in queues and files: one that holds secrets is refused.

        If it fails: keep ``self.values`` as the base class makes it.
        """
        if any(var.secret for var in self.provider.env):
            with pytest.raises(TypeError):
                pickle.dumps(bench.provider().values)

    def test_a_value_that_cannot_work_is_refused_without_being_told(self, bench: Bench) -> None:
        """A wrong value raises ``ConfigurationError`` that names its variable and not the value.

        Or it is taken, and what is made of it can be sent: no header and no address has a line break.

        If it fails: check the value in ``configure`` and raise ``ConfigurationError`` with a text of your
        own; ``agent_tracking.urls.http_url`` checks addresses. Do not quote the value.
        """
        for var in self.provider.env:
            for odd in _ODD:
                value = odd.format("t0ps3cret-of-nobody")
                try:
                    provider = bench.provider({**bench.environ, var.name: value})
                    self._check_requests(bench, provider, var.name)
                except ConfigurationError as error:
                    told = "".join(traceback.format_exception(error))
                    self.hold("t0ps3cret" not in told, f"the error for a wrong {var.name} tells its value")
                    self.hold(var.name in error.reason, f"the error for a wrong {var.name} does not name it")

    def _check_requests(self, bench: Bench, provider: object, variable: str) -> None:
        if not isinstance(provider, HTTPProvider):
            return
        for name, batch in bench.batches(provider):
            request = provider.request(name, batch)
            text = request.url + "".join(f"{key}{value}" for key, value in request.headers.items())
            clean = not any(char < " " or char == "\x7f" for char in text)
            self.hold(clean, f"a wrong {variable} puts control characters into the address or a header")

    @needs("http")
    def test_no_secret_is_told_by_a_verdict(self, bench: Bench) -> None:
        """What a backend answers may repeat the key; what is made of it does not.

        If it fails: write the ``reason`` and the ``fix`` of a verdict yourself; quote no answer.
        """
        provider = bench.provider()
        for secret in self._secrets(bench):
            for status in (200, 400, 401, 403, 404, 410, 429, 500):
                for body in _echoes(secret):
                    for _, batch in bench.batches(provider):
                        verdict = provider.judge(Response(status, {}, body), batch)
                        self._search(bench, repr(verdict), f"the verdict on {status}")

    def test_no_secret_reaches_the_log_the_output_or_the_listing(
        self, bench: Bench, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """In fair weather and in foul, at DEBUG and with ``AGENT_TRACKING_DEBUG``: no secret is told.

        If it fails: log no value, no request, no answer, no text of an exception; print nothing.
        """
        with caplog.at_level(logging.DEBUG):
            tracker = bench.start(IMPATIENT, total=2.0, AGENT_TRACKING_DEBUG="1")
            if bench.http:
                for secret in self._secrets(bench)[:2]:
                    bench.fail(*(Fault.status(code, body=f"no: {secret}") for code in (500, 400, 403)))
                bench.fail(Fault.disconnect(), Fault.reset("middle"), Fault.redirect(), Fault.unauthorized())
            for start in range(0, 30, 10):
                bench.track(10, start)
                bench.identify()
                tracker.flush(10)
        listed = [*map(str, tracker.providers()), str(tracker.stats())]
        told = [*_lines(caplog.records), *listed, *capfd.readouterr()]
        self._search(bench, "\n".join(told), "the log, the output, the listing or the counters")

    @needs("http")
    def test_no_secret_stands_in_an_address(self, bench: Bench) -> None:
        """A key belongs into a header or the body: addresses end up in the logs of every proxy.

        If it fails: send it as a header. If the backend takes it nowhere else, declare
        ``Capabilities(key_in_url=True)``. An address that is itself the secret is another matter.
        """
        if self.capabilities.key_in_url:
            return
        provider = bench.provider()
        urls = [provider.request(name, batch).url for name, batch in bench.batches(provider)]
        for var in self.provider.env:
            value = bench.environ.get(var.name, "")
            if var.secret and value and "://" not in value:
                told = any(trace in url for trace in traces_of(value) for url in urls)
                self.hold(not told, f"the value of {var.name} stands in the address")

    @needs("http")
    def test_what_authorizes_is_declared_secret(self, bench: Bench) -> None:
        """What is sent as ``Authorization`` or a header of a key's kind comes from a secret variable.

        If it fails: declare that variable ``secret=True``.
        """
        provider = bench.provider()
        for name, batch in bench.batches(provider):
            for header, text in provider.request(name, batch).headers.items():
                if not any(word in header.lower() for word in ("auth", "key", "token", "secret")):
                    continue
                for var in self.provider.env:
                    value = bench.environ.get(var.name, "")
                    shown = not var.secret and any(trace in text for trace in traces_of(value))
                    self.hold(
                        not shown, f"{var.name} is sent in the header {header!r} and not declared secret"
                    )

    def _search(self, bench: Bench, text: str, where: str) -> None:
        for secret in self._secrets(bench):
            before, told, _ = text.partition(secret)
            self.hold(not told, f"a secret is told by {where}, behind {before[-60:]!r}")


def _echoes(secret: str) -> Iterator[bytes]:
    yield f"invalid key {secret}".encode()
    yield f'{{"error":"Invalid API key: {secret}","code":400,"status":0,"message":"{secret}"}}'.encode()


def _lines(found: list[logging.LogRecord]) -> Iterator[str]:
    for record in found:
        yield f"{record.name} {record.levelname} {record.getMessage()}"
        if record.exc_info:
            yield logging.Formatter().formatException(record.exc_info)
