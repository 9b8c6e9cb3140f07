"""``agent-tracking doctor`` on the way to a provider's host: name, connection, TLS, proxy, clock."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent_tracking.cli.doctor import network
from agent_tracking.cli.doctor.requests import Origin
from agent_tracking.testing import Sink, refused_url, tls_sink, unresolvable_url

CERTIFICATES = Path(__file__).parent / "certificates"
QUIET = {"VIRTUAL_ENV": "", "PATH": "/usr/bin:/bin", "AGENT_TRACKING_PROVIDERS": "posthog"}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    """Blank is not unset: a blank http_proxy hides HTTP_PROXY."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def look(cli, host, **environ):
    """Return doctor's findings about the host, and the exit status."""
    variables = {**QUIET, "POSTHOG_API_KEY": "phc_s3cret", "POSTHOG_HOST": host, **environ}
    done = cli.run("doctor", "--json", **variables)
    assert done.returncode in {0, 1}, done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    checks = {"network", "tls", "proxy", "clock"}
    return [each for each in json.loads(done.stdout)["findings"] if each["check"] in checks], done.returncode


def problems(findings):
    return [(each["check"], each["what"]) for each in findings if each["level"] == "problem"]


class Server:
    """A server that answers what it is told to, perhaps with TLS."""

    def __init__(self, *, certificate="", status=200, headers=None):
        seen = self.seen = []

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                seen.append((self.command, self.path, dict(self.headers)))
                self.send_response_only(status)
                for name, value in (headers() if headers else {}).items():
                    self.send_header(name, value)
                self.end_headers()

            do_CONNECT = do_HEAD

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATES / certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.place = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"{'https' if certificate else 'http'}://{self.place}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def test_a_host_that_answers_is_ok_and_is_asked_for_its_root_without_a_key(cli):
    with Server(headers=lambda: {"Date": formatdate(usegmt=True)}) as server:
        findings, status = look(cli, server.url)
    assert status == 0, findings
    assert problems(findings) == []
    assert {each["where"] for each in findings} == {"posthog", server.place}
    ((method, path, headers),) = server.seen
    assert (method, path) == ("HEAD", "/")
    assert set(headers) <= {"Host", "accept-encoding", "content-length", "Content-Length"}


def test_an_unresolvable_host_is_a_problem_of_dns(cli):
    findings, status = look(cli, unresolvable_url())
    assert status == 1
    ((check, what),) = problems(findings)
    assert check == "network"
    assert "name" in what
    assert any("nowhere.invalid" in each["where"] for each in findings)


def test_a_port_that_refuses_is_told_as_that(cli):
    findings, status = look(cli, refused_url())
    assert status == 1
    assert problems(findings) == [("network", "it refuses connections at this port")]


def test_a_server_that_hangs_up_is_told_as_that(cli):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        findings, status = look(cli, f"http://127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)
    assert status == 1
    ((check, _),) = problems(findings)
    assert check == "network"


def test_a_certificate_that_nobody_trusts_is_told_in_words(cli):
    with tls_sink() as sink:
        findings, status = look(cli, sink.url)
    assert status == 1
    ((check, what),) = problems(findings)
    assert check == "tls"
    assert "self-signed" in what
    assert any("SSL_CERT_FILE" in each["fix"] for each in findings)


def test_a_certificate_that_is_trusted_is_ok_and_its_end_is_told(cli, tmp_path):
    trusted = tmp_path / "ca.pem"
    trusted.write_text(Sink.certificate)
    with tls_sink() as sink:
        findings, status = look(cli, sink.url, SSL_CERT_FILE=str(trusted))
    assert status == 0, findings
    (finding,) = [each for each in findings if each["check"] == "tls"]
    assert finding["level"] == "ok"
    assert "more days" in finding["what"]


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        ("expired.pem", "has expired"),
        ("future.pem", "not valid yet"),
        ("other.pem", "for another"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_told_in_words(cli, certificate, words):
    with Server(certificate=certificate) as server:
        findings, status = look(cli, server.url, SSL_CERT_FILE=str(CERTIFICATES / certificate))
    assert status == 1
    ((check, what),) = problems(findings)
    assert check == "tls"
    assert words in what


@pytest.mark.parametrize(("days", "level"), [(3, "note"), (100, "ok")])
def test_a_certificate_that_ends_soon_is_worth_a_note(days, level):
    ends = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(time.time() + (days + 0.5) * 86_400))
    finding = network._certificate(Origin("https", "here", 443), ends, "TLSv1.3")
    assert finding.level == level
    assert f"{days} more days" in finding.what


def test_a_host_that_speaks_no_tls_is_told_as_that(cli):
    with Server() as server:
        findings, _ = look(cli, server.url.replace("http:", "https:"))
    ((check, what),) = problems(findings)
    assert check == "tls"
    assert "does not speak TLS" in what
    assert any("http://" in each["fix"] for each in findings)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE"])
def test_a_certificate_file_that_cannot_be_read_names_its_variable(cli, variable):
    with tls_sink() as sink:
        findings, _ = look(cli, sink.url, **{variable: "/nowhere/ca.pem"})
    ((check, what),) = problems(findings)
    assert check == "tls"
    assert variable in what


@pytest.mark.parametrize(
    ("off", "words"),
    [
        (-3 * 3600 - 125, "3 h 2 min ahead of"),
        (2 * 86_400 + 3 * 3600 + 1800, "2 d 3 h behind"),
    ],
)
def test_a_clock_that_is_off_tells_how_much_and_in_which_direction(cli, off, words):
    with Server(headers=lambda: {"Date": formatdate(time.time() + off, usegmt=True)}) as server:
        findings, status = look(cli, server.url)
    assert status == 1
    ((check, what),) = problems(findings)
    assert check == "clock"
    assert words in what


def test_a_minute_is_no_skew_and_the_age_of_a_stored_answer_counts(cli):
    for headers in (
        lambda: {"Date": formatdate(time.time() - 20, usegmt=True)},
        lambda: {"Date": formatdate(time.time() - 7200, usegmt=True), "Age": "7200"},
    ):
        with Server(headers=headers) as server:
            findings, _ = look(cli, server.url)
        assert problems(findings) == []
        assert [each["level"] for each in findings if each["check"] == "clock"] == ["ok"]


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_without_a_date_the_clock_is_not_compared_and_that_is_said(cli, date):
    with Server(headers=lambda: {"Date": date} if date else {}) as server:
        findings, status = look(cli, server.url)
    assert status == 0
    assert [each["level"] for each in findings if each["check"] == "clock"] == ["note"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_dead_proxy_is_a_problem_that_names_its_variable_and_not_its_password(cli, variable):
    down = refused_url().replace("http://", "http://user:s3cret@")
    with Server() as server:
        findings, status = look(cli, server.url, **{variable: down})
        assert server.seen == []
    assert status == 1
    ((check, what),) = problems(findings)
    assert check == "proxy"
    assert variable in what
    assert server.place in what
    assert "refuses connections" in what


def test_a_proxy_that_works_is_named_and_used(cli):
    with Server(headers=lambda: {"Date": formatdate(usegmt=True)}) as proxy:
        findings, status = look(cli, unresolvable_url(), HTTP_PROXY=proxy.url)
    assert status == 0, findings
    (finding,) = [each for each in findings if each["check"] == "proxy"]
    assert finding["level"] == "ok"
    assert "HTTP_PROXY" in finding["what"]
    assert proxy.place in finding["what"]
    assert [path for _, path, _ in proxy.seen] == ["http://nowhere.invalid/"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_told_as_that(cli, scheme):
    with Server(status=407) as proxy:
        findings, status = look(cli, f"{scheme}://nowhere.invalid", ALL_PROXY=proxy.url)
    assert status == 1
    ((check, what),) = problems(findings)
    assert check == "proxy"
    assert "407" in what


def test_a_proxy_that_forbids_the_host_is_told_as_that(cli):
    with Server(status=403) as proxy:
        findings, _ = look(cli, "https://nowhere.invalid", HTTPS_PROXY=proxy.url)
    ((check, what),) = problems(findings)
    assert check == "proxy"
    assert "403" in what


def test_no_proxy_is_told_where_it_applies(cli):
    with Server() as server:
        findings, status = look(cli, server.url, HTTP_PROXY=refused_url(), NO_PROXY="127.0.0.1")
    assert status == 0, findings
    (finding,) = [each for each in findings if each["check"] == "proxy"]
    assert finding["level"] == "note"
    assert "NO_PROXY names this host" in finding["what"]


def test_a_proxy_variable_that_is_no_address_names_itself(cli):
    findings, _ = look(cli, "https://nowhere.invalid", HTTPS_PROXY="http://[half")
    ((check, what),) = problems(findings)
    assert check == "proxy"
    assert "HTTPS_PROXY" in what


def test_hosts_are_looked_at_at_the_same_time(cli):
    both = threading.Barrier(2, timeout=14)

    def when_both_were_asked():
        both.wait()
        return {"Date": formatdate(usegmt=True)}

    with Server(headers=when_both_were_asked) as one, Server(headers=when_both_were_asked) as other:
        findings, status = look(
            cli,
            one.url,
            AGENT_TRACKING_PROVIDERS="posthog,mixpanel",
            MIXPANEL_TOKEN="k-5678",
            MIXPANEL_HOST=other.url,
        )
    assert status == 0, findings
    assert {each["where"] for each in findings if each["check"] == "clock"} == {one.place, other.place}


def test_a_host_that_is_silent_hides_no_other(cli):
    with socket.create_server(("127.0.0.1", 0)) as silent, Server() as server:
        findings, status = look(
            cli,
            f"http://127.0.0.1:{silent.getsockname()[1]}",
            AGENT_TRACKING_PROVIDERS="posthog,mixpanel",
            MIXPANEL_TOKEN="k-5678",
            MIXPANEL_HOST=server.url,
        )
        where = f"127.0.0.1:{silent.getsockname()[1]}"
    assert status == 1
    ((check, what),) = problems(findings)
    assert check == "network"
    assert "takes the connection, but does not answer" in what
    assert any(each["where"] == where and each["level"] == "problem" for each in findings)
    assert any(each["where"] == server.place and "it answers" in each["what"] for each in findings)
