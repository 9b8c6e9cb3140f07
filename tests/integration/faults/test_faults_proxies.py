"""Proxies and certificates named by the environment: what cannot work stops its lane and says why."""

from __future__ import annotations

import json
import socket

import pytest
from tests.integration.proxy import Proxy

from agent_tracking.testing import tls_sink

SCRIPT = """
    import json, sys
    from agent_tracking import Tracker
    from agent_tracking.delivery.backoff import RetryPolicy
    tracker = Tracker(retry=RetryPolicy(first=0.01, longest=0.05, tries=3, window=5.0))
    for number in range(60):
        tracker.track("order paid", {"n": number}, user_id="u")
    tracker.flush(10)
    stats = tracker.stats().providers
    print(json.dumps({
        record.name: [str(record.state), record.reason, record.fix, stats[record.name].delivered,
                      stats[record.name].dropped, stats[record.name].retried]
        for record in tracker.providers() if record.name in stats
    }))
    tracker.shutdown(1)
"""
BROKEN = {
    "a proxy that is no address": ({"HTTPS_PROXY": "http://[half"}, "HTTPS_PROXY"),
    "a proxy without a host": ({"HTTPS_PROXY": "http://:3128"}, "HTTPS_PROXY"),
    "a proxy of an unknown kind": ({"HTTPS_PROXY": "gopher://127.0.0.1:1"}, "HTTPS_PROXY"),
    "a proxy port that is no number": ({"https_proxy": "http://127.0.0.1:eighty"}, "HTTPS_PROXY"),
    "SOCKS without its package": ({"HTTPS_PROXY": "socks5://127.0.0.1:1"}, "httpx[socks]"),
    "a certificate file that is missing": ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "SSL_CERT_FILE"),
    "a certificate file that holds none": ({"SSL_CERT_FILE": "/etc/hostname"}, "SSL_CERT_FILE"),
    "brackets in NO_PROXY and a broken proxy": (
        {"NO_PROXY": "[::1],localhost", "HTTPS_PROXY": "::::"},
        "HTTPS_PROXY",
    ),
}


@pytest.fixture
def proxy():
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture
def secure():
    with tls_sink() as sink:
        yield sink


def run(kit, *sinks_and_names, environ):
    variables = {"AGENT_TRACKING_PROVIDERS": ",".join(name for _, name in sinks_and_names)}
    for sink, name in sinks_and_names:
        variables |= sink.environ(name)
    finished = kit.python(SCRIPT, {**variables, **environ})
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    return json.loads(finished.stdout), finished.stderr


@pytest.mark.parametrize("case", BROKEN)
def test_a_variable_that_cannot_work_stops_that_lane_with_its_name_and_fix_and_no_other(
    kit, sink, secure, case
):
    environ, named = BROKEN[case]
    told, log = run(kit, (secure, "posthog"), (sink, "webhook"), environ=environ)
    state, reason, fix, delivered, dropped, retried = told["posthog"]
    assert (state, delivered, dropped, retried) == ("failed", 0, {"stopped": 60}, 0)
    assert named in f"{reason} {fix}"
    assert "register_provider" in fix
    assert next(iter(environ.values())) not in reason + fix + log
    assert log.count("\n") == 1
    assert told["webhook"][0] == "active"
    assert told["webhook"][3:] == [60, {}, 0]


def test_brackets_in_no_proxy_harm_nobody(kit, sink, proxy):
    told, _ = run(kit, (sink, "webhook"), environ={"NO_PROXY": "[::1],localhost", "HTTP_PROXY": proxy.url})
    assert told["webhook"][3:] == [60, {}, 0]
    assert proxy.asked


def test_a_proxy_that_works_is_used_for_plain_http(kit, sink, proxy):
    told, _ = run(kit, (sink, "webhook"), (sink, "posthog"), environ={"HTTP_PROXY": proxy.url})
    assert told["webhook"][3:] == told["posthog"][3:] == [60, {}, 0]
    assert {method for method, _ in proxy.asked} == {"POST"}
    assert len(proxy.asked) == sink.totals("webhook").requests + sink.totals("posthog").requests


def test_a_proxy_that_works_is_used_as_a_tunnel_for_https(kit, secure, proxy, tmp_path):
    trusted = tmp_path / "ca.pem"
    trusted.write_text(secure.certificate)
    told, _ = run(kit, (secure, "posthog"), environ={"ALL_PROXY": proxy.url, "SSL_CERT_FILE": str(trusted)})
    assert told["posthog"][3:] == [60, {}, 0]
    assert {method for method, _ in proxy.asked} == {"CONNECT"}


def test_no_proxy_is_obeyed(kit, sink, proxy):
    told, _ = run(kit, (sink, "webhook"), environ={"HTTP_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"})
    assert told["webhook"][3:] == [60, {}, 0]
    assert proxy.asked == []


def test_a_proxy_that_is_down_is_a_fault_that_may_pass(kit, sink):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        down = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        script = SCRIPT.replace("window=5.0", "window=0.0")
        environ = {**sink.environ("webhook"), "AGENT_TRACKING_PROVIDERS": "webhook", "HTTP_PROXY": down}
        finished = kit.python(script, environ)
    state, _, _, delivered, dropped, retried = json.loads(finished.stdout)["webhook"]
    assert (state, delivered, dropped) == ("active", 0, {"gave-up": 60})
    assert retried
