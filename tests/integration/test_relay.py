"""``agent-tracking relay`` as a process of its own: what it delivers, how it ends, who takes over."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from agent_tracking.relay import Relay
from agent_tracking.testing import Fault

RELAY = [sys.executable, "-W", "error", "-m", "agent_tracking", "relay"]
#: Tracks so many, from a number on, and says whether flush() confirmed them.
WRITER = """
    import sys
    from agent_tracking import flush, track
    for n in range(int(sys.argv[1]), int(sys.argv[2])):
        track("order paid", {"n": n}, user_id="u")
    print(bool(flush(20)), flush=True)
"""


@pytest.fixture
def spool(apps, tmp_path):
    folder = tmp_path / "spool"
    apps.variables |= {
        "AGENT_TRACKING_SPOOL": str(folder),
        "AGENT_TRACKING_DELIVERY": "relay",
        "AGENT_TRACKING_FLUSH_INTERVAL": "0.2",
    }
    return folder


def write(apps, first, last):
    finished = apps.run(WRITER, str(first), str(last))
    assert (finished.status, finished.out, finished.err) == (0, "True\n", "")


def until(condition, what, seconds=25.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def ended(relay):
    """Wait for the end; return the exit status and what it had printed."""
    out, _ = relay.communicate(timeout=25)
    return relay.returncode, out


def once(apps, *options, **environ):
    process = apps.start([*RELAY, "--once", "--json", *options], environ)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return process.returncode, json.loads(out) if out else err


def both(apps):
    """Two providers, so that what stops one can be seen not to stop the other."""
    apps.variables |= {**apps.sink.environ(), "AGENT_TRACKING_PROVIDERS": "webhook,posthog"}


def test_an_app_whose_relay_delivers_imports_no_http_no_plugin_system_and_no_provider(apps, spool):
    finished = apps.run(
        """
        import sys
        from agent_tracking import flush, identify, shutdown, stats, track
        track("order paid", {"n": 1}, user_id="u")
        identify("u", {"plan": "pro"})
        print(bool(flush()), stats().spool.records > 0)
        shutdown()
        bad = {"httpx", "httpcore", "h11", "pluggy", "ssl", "http", "agent_tracking.registry", "agent_tracking.delivery"}
        print(sorted(name for name in sys.modules if name in bad or name.split(".")[0] in bad))
        print([name for name in sys.modules if name.startswith("agent_tracking_")])
        """
    )
    assert (finished.out, finished.err) == ("True True\n[]\n[]\n", "")
    assert apps.sink.totals("webhook").requests == 0


def test_flush_of_such_an_app_means_on_the_disk_whatever_the_process_does_next(apps, spool):
    finished = apps.run(f"{WRITER}    import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n", "0", "300")
    assert finished.out == "True\n"
    assert once(apps)[0] == 0
    assert apps.arrived() == list(range(300))


def test_once_delivers_what_waits_and_ends(apps, spool):
    write(apps, 0, 120)
    status, ending = once(apps)
    assert (status, ending["stopped"], ending["ok"]) == (0, "done", True)
    assert (ending["delivered"], ending["dropped"], ending["left"]) == ({"webhook": 120}, {}, {})
    assert apps.arrived() == list(range(120))
    status, ending = once(apps)
    assert (status, ending["delivered"]) == (0, {"webhook": 0})


def test_once_ends_although_an_app_goes_on_writing(apps, spool):
    write(apps, 0, 100)
    writer = apps.script(
        """
        import time
        from agent_tracking import track
        n = 100
        while True:
            track("order paid", {"n": n}, user_id="u")
            n += 1
            time.sleep(0.005)
        """
    )
    until(lambda: len(list(spool.glob("*.seg"))) > 1, "it writes")
    status, ending = once(apps, "--timeout", "50")
    assert (status, ending["stopped"]) == (0, "done")
    assert ending["delivered"]["webhook"] >= 100
    assert writer.poll() is None


def test_once_says_by_its_status_that_something_is_left(apps, spool):
    write(apps, 0, 60)
    apps.sink.fail("webhook", Fault.status(503, times=None))
    status, ending = once(apps, "--timeout", "1.5")
    assert (status, ending["stopped"], ending["delivered"]) == (1, "timeout", {"webhook": 0})
    assert ending["left"]["webhook"]["bytes"] > 0
    apps.sink.clear()
    assert once(apps)[0] == 0
    assert apps.sink.totals("webhook").counted == 60


def test_once_says_by_its_status_that_a_record_was_dropped(apps, spool):
    write(apps, 0, 3)
    apps.sink.fail("webhook", Fault.status(400, times=None))
    status, ending = once(apps, AGENT_TRACKING_STRICT="1")  # that is for applications: here nothing raises
    assert (status, ending["dropped"], ending["left"]) == (1, {"webhook": {"rejected": 3}}, {})


def test_a_provider_that_is_stopped_costs_neither_the_others_nor_a_record_of_its_own(apps, spool):
    both(apps)
    write(apps, 0, 700)
    apps.sink.fail("posthog", Fault.unauthorized(times=None))
    status, ending = once(apps, "--timeout", "20")
    assert (status, ending["stopped"], list(ending["failed"])) == (1, "failed", ["posthog"])
    assert ending["delivered"] == {"posthog": 0, "webhook": 700}
    apps.sink.clear()
    status, ending = once(apps)
    assert (status, ending["delivered"]) == (0, {"posthog": 700, "webhook": 0})


def test_it_goes_on_while_one_provider_is_left_and_ends_when_none_is(apps, spool):
    both(apps)
    apps.sink.fail("posthog", Fault.unauthorized(times=None))
    write(apps, 0, 10)
    relay = apps.start(RELAY)
    assert apps.sink.wait(lambda: apps.sink.totals("webhook").counted == 10, 25)
    line = relay.stdout.readline()
    while "posthog stopped" not in line:
        line = relay.stdout.readline()
    write(apps, 10, 20)
    assert apps.sink.wait(lambda: apps.sink.totals("webhook").counted == 20, 25)
    apps.sink.fail("webhook", Fault.status(410, times=None))
    write(apps, 20, 30)
    out, _ = relay.communicate(timeout=25)
    assert relay.returncode == 1
    assert "ended (failed)" in out
    apps.sink.clear()
    assert once(apps)[0] == 0
    assert [apps.sink.totals(name).counted for name in ("posthog", "webhook")] == [30, 30]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_it_after_the_request_under_way_and_nothing_is_sent_again(apps, spool, number):
    apps.sink.fail("webhook", Fault.delay(1.5, times=1))
    write(apps, 0, 60)
    relay = apps.start(RELAY)
    assert relay.stdout.readline().startswith(f"relay {relay.pid} on {spool}: delivers to webhook")
    apps.sink.wait(lambda: apps.sink.totals("webhook").requests, 0.7)
    relay.send_signal(number)
    out, err = relay.communicate(timeout=25)
    assert (relay.returncode, err) == (0, "")
    assert f"ended ({number.name}): webhook" in out
    assert once(apps)[0] == 0
    assert apps.arrived() == list(range(60))  # which fails if one came twice


def test_a_second_signal_ends_it_at_once_and_costs_no_record(apps, spool):
    apps.sink.fail("webhook", Fault.hang(times=1))
    write(apps, 0, 60)
    relay = apps.start(RELAY, {"AGENT_TRACKING_SHUTDOWN_TIMEOUT": "60"})
    relay.stdout.readline()
    until(lambda: b"busy" in status_of(spool, relay.pid), "a request is under way")
    relay.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        relay.wait(1.0)
    relay.send_signal(signal.SIGTERM)
    relay.communicate(timeout=5)
    assert relay.returncode == -signal.SIGTERM
    assert once(apps)[0] == 0
    assert apps.sink.totals("webhook").counted == 60


def status_of(spool, pid):
    try:
        return (spool / "status" / f"{pid}.json").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_of_two_relays_one_delivers_the_other_waits_says_so_and_takes_over(apps, spool, number):
    write(apps, 0, 60)
    first = apps.start(RELAY)
    assert "delivers to webhook" in first.stdout.readline()
    assert apps.sink.wait(lambda: apps.sink.totals("webhook").counted == 60, 25)
    second = apps.start(RELAY)
    assert f"waits while process {first.pid} delivers to webhook" in second.stdout.readline()
    write(apps, 60, 120)
    assert apps.sink.wait(lambda: apps.sink.totals("webhook").counted == 120, 25)
    first.send_signal(number)
    first.communicate(timeout=25)
    began = time.monotonic()
    assert "delivers to webhook" in second.stdout.readline()
    assert time.monotonic() - began < 20
    write(apps, 120, 180)
    assert apps.sink.wait(lambda: apps.sink.totals("webhook").counted == 180, 25)
    second.terminate()
    assert ended(second)[0] == 0
    if number == signal.SIGTERM:
        assert apps.arrived() == list(range(180))  # which fails if one came twice
    else:  # what the first had sent and not noted down comes again, under the same key
        assert sorted(event["properties"]["n"] for event in apps.sink.events("webhook")) == list(range(180))


def test_once_beside_a_relay_that_delivers_waits_for_that_one(apps, spool):
    apps.sink.fail("webhook", Fault.delay(1.0, times=1))
    relay = apps.start(RELAY)
    assert "delivers to webhook" in relay.stdout.readline()
    write(apps, 0, 60)
    status, ending = once(apps)
    assert (status, ending["stopped"], ending["delivered"]) == (0, "done", {"webhook": 0})
    assert apps.sink.totals("webhook").counted == 60
    relay.terminate()
    assert ended(relay)[0] == 0


def test_one_that_only_waits_ends_by_a_signal_as_well(apps, spool):
    first = apps.start(RELAY)
    first.stdout.readline()
    second = apps.start(RELAY)
    assert "waits while" in second.stdout.readline()
    second.terminate()
    assert ended(second)[0] == 0
    assert first.poll() is None


def test_a_folder_that_vanishes_is_made_anew_and_the_next_records_arrive(apps, spool):
    write(apps, 0, 60)
    relay = apps.start(RELAY)
    assert apps.sink.wait(lambda: apps.sink.totals("webhook").counted == 60, 25)
    shutil.rmtree(spool, ignore_errors=True)
    write(apps, 60, 120)
    assert apps.sink.wait(lambda: apps.sink.totals("webhook").counted == 120, 25)
    relay.terminate()
    assert ended(relay)[0] == 0


def test_once_does_not_call_it_done_when_the_folder_vanishes(apps, spool):
    apps.sink.fail("webhook", Fault.delay(0.7, times=None))
    write(apps, 0, 1500)
    relay = apps.start([*RELAY, "--once"])
    relay.stdout.readline()
    shutil.rmtree(spool)
    out, _ = relay.communicate(timeout=40)
    assert relay.returncode == 1
    assert "ended (vanished)" in out


def test_once_does_not_call_it_done_when_the_files_vanish_before_the_folder(apps, spool):
    apps.sink.fail("webhook", Fault.delay(0.7, times=None))
    write(apps, 0, 300)
    relay = Relay(str(spool), apps.environ())
    shutdown = relay.tracker.shutdown

    def files_go(_news):
        for path in spool.glob("*.seg"):
            path.unlink()

    def folder_goes(seconds):
        shutil.rmtree(spool)
        return shutdown(seconds)

    relay.tracker.shutdown = folder_goes
    ending = relay.run(once=True, timeout=30, tell=files_go)
    assert (ending.stopped, ending.ok) == ("vanished", False)


def test_its_counters_and_what_waits_stand_in_a_file_that_providers_shows(apps, spool):
    apps.sink.fail("webhook", Fault.status(503, times=None))
    write(apps, 0, 120)
    relay = apps.start(RELAY)

    def seen():
        return json.loads(status_of(spool, relay.pid) or "{}")

    until(lambda: seen().get("stats", {}).get("providers", {}).get("webhook", {}).get("retried"), "retries")
    assert seen()["role"] == "relay"
    lag = seen()["stats"]["spool"]["providers"]["webhook"]
    assert lag["records"] > 0
    assert lag["seconds"] > 0
    shown = apps.start([sys.executable, "-m", "agent_tracking", "providers", "--json"])
    data = json.loads(shown.communicate(timeout=25)[0])
    assert [each["process"]["role"] for each in data["processes"]] == ["relay"]
    assert (
        data["spool"]["providers"]["webhook"]["leader"],
        data["spool"]["providers"]["webhook"]["role"],
    ) == (
        relay.pid,
        "relay",
    )
    apps.sink.clear()
    until(
        lambda: not seen()["stats"]["spool"]["providers"]["webhook"]["records"],
        "it is written when all is sent",
    )
    assert seen()["stats"]["providers"]["webhook"]["delivered"] == 120
    relay.terminate()
    assert ended(relay)[0] == 0
    assert not status_of(spool, relay.pid)
