"""A measurement's account: what was lost is seen, what a sender claims is not asked for."""

from __future__ import annotations

import pytest
from benchmarks.available import unavailable
from benchmarks.backlog import measure_backlog
from benchmarks.pace import in_chunks, summary
from benchmarks.room import Room, balance_of
from benchmarks.senders import OURS, SENDERS, variables_of
from benchmarks.web import serve_one

QUICK = {"seconds": 0.1, "tight": 300}
OURS_AND_FLOOR = ("floor-1", "floor-4", "floor-4-grown", "floor-relay", "one", "four")


@pytest.fixture(scope="module")
def room(receiver):
    return Room(receiver)


@pytest.mark.parametrize("sender", OURS_AND_FLOOR)
def test_nothing_is_lost_where_the_sink_has_it_all(room, sender):
    found = room.measure("latency", sender, **QUICK)
    assert found["calls"] == 1 + 100 + 300
    assert found["delivered"] == found["calls"] * SENDERS[sender].copies
    assert (found["lost"], found["too_many"]) == (0, 0)


@pytest.mark.parametrize("sender", ["floor-4", "one", "four"])
def test_a_sink_that_loses_is_noticed_though_every_sender_was_told_yes(room, sender):
    room.receiver.lose(2)
    try:
        found = room.measure("latency", sender, **QUICK)
    finally:
        room.receiver.lose(0)
    copies = SENDERS[sender].copies
    assert found["lost"] > 0
    assert found["delivered"] + found["lost"] == found["calls"] * copies


def test_a_sender_that_reaches_no_sink_has_lost_everything(room):
    with room.account("four") as account:
        assert account.balance(50)["lost"] == 200


def test_what_one_backend_got_twice_pays_for_nothing_that_another_one_missed():
    found = balance_of(100, 2, [110, 95], requests=4)
    assert (found["delivered"], found["lost"], found["too_many"]) == (205, 5, 10)


def test_a_backend_that_got_nothing_at_all_missed_everything():
    assert balance_of(100, 4, [100, 100, 100], requests=6)["lost"] == 100


def test_the_control_calls_as_often_as_the_others_and_sends_nothing(room):
    found = room.measure("latency", "control", **QUICK)
    assert (found["calls"], found["delivered"], found["lost"], found["requests"]) == (401, 0, 0, 0)


def test_the_load_of_every_rate_is_in_the_account(room):
    found = room.measure("load", "one", rates=[(100, 0.1), (5_000, 0.1)])
    made = [each["calls"] for each in found["loads"].values()]
    assert sum(made) + 1 == found["calls"] == found["delivered"]
    assert all(each["cpu"] > 0 for each in found["loads"].values())


def test_a_backlog_is_delivered_once_the_backends_answer_again(room):
    found = room.measure("memory", "four", waiting=2_000, rest=0.3)
    assert (found["calls"], found["lost"]) == (1 + 2_000 + 500, 0)


def test_calls_of_several_threads_are_all_in_the_account(room):
    found = room.measure("callers", "four", threads=8, tight=800)
    assert (found["calls"], found["lost"]) == (801, 0)


@pytest.mark.parametrize("sender", OURS)
def test_only_what_is_measured_with_a_spool_has_one(sender):
    found = variables_of(sender, "http://127.0.0.1:1/run", "/folder")
    assert ("AGENT_TRACKING_SPOOL" in found) == (sender in {"spool", "relay"})
    assert ("AGENT_TRACKING_DELIVERY" in found) == (sender == "relay")


def test_as_many_providers_as_asked_for_get_everything(room):
    found = room.measure("growth", "providers-3", size=1_000, tight=200, rate=1_000, seconds=0.2)
    assert found["delivered"] == 3 * found["calls"]
    assert found["lost"] == 0


def test_every_request_that_a_web_application_answered_was_tracked_and_arrived(room):
    found = serve_one(room, "gunicorn", "four", turns=2, warm=0.1, seconds=0.2)
    assert found["tracked"] > 0
    assert found["delivered"] == 4 * found["tracked"]
    assert found["lost"] == found["too_many"] == 0


def test_pairs_of_requests_are_tracked_once_each_and_tell_what_tracking_adds(room):
    found = serve_one(room, "uvicorn", "four", turns=1, warm=0.1, seconds=0.6, pairs=40)
    assert found["tracked"] > 40
    assert found["delivered"] == 4 * found["tracked"]
    assert found["single"].keys() == {"request", "error"}
    assert next(turn["behind"] for turn in found["turns"] if turn["path"] == "/on") > 0


def test_a_web_application_is_loaded_in_turns_and_the_control_sends_nothing(room):
    found = serve_one(room, "gunicorn", "control", turns=2, warm=0.1, seconds=0.2)
    assert [turn["path"] for turn in found["turns"]] == ["/off", "/on", "/off", "/on", "/off"]
    assert all(turn["throughput"] > 0 for turn in found["turns"])
    assert (found["delivered"], found["requests"]) == (0, 0)


@pytest.mark.parametrize("lost", [0, 2])
def test_a_backlog_is_counted_by_the_sink_when_it_is_delivered(room, lost):
    room.receiver.lose(lost)
    try:
        found = measure_backlog(room, [600], [], lambda _: None, written=500)
    finally:
        room.receiver.lose(0)
    (drained,) = found["drain"]
    assert drained["delivered"] + drained["lost"] == 4 * 600
    assert bool(drained["lost"]) == bool(lost)
    assert found["write"]["cpu"] > 0
    assert found["write"]["careful"] > 0


def test_a_spool_that_is_opened_is_as_large_as_asked_for(room):
    found = measure_backlog(room, [], [0.02], lambda _: None, written=500)
    assert [each["gigabytes"] for each in found["open"]] == [0.02]
    assert found["open"][0]["seconds"] > 0


@pytest.mark.parametrize("sender", ["control", "floor-4", "one", "four"])
def test_what_is_always_there_is_always_measured(room, sender):
    assert unavailable(room, sender) == ""


@pytest.mark.parametrize("sender", ["spool", "relay"])
def test_a_mode_is_measured_or_it_is_said_in_one_line_why_not(room, sender):
    why = unavailable(room, sender)
    assert "\n" not in why
    if not why:
        assert room.measure("latency", sender, **QUICK)["lost"] == 0


def test_a_sender_that_fails_ends_the_run_with_its_own_words(room):
    with pytest.raises(RuntimeError, match=r"latency of nobody failed:(?s:.)*KeyError: 'nobody'"):
        room.measure("latency", "nobody", **QUICK)


def test_chunks_make_as_many_calls_as_the_rate_says():
    calls = []
    assert in_chunks(lambda: calls.append(1), 1_000, 0.1) == len(calls) == 100
    assert in_chunks(lambda: None, 50, 0.1) == 5


def test_a_distribution_is_in_microseconds():
    found = summary([number / 1_000_000 for number in range(1, 1_001)])
    assert found["p50"] == pytest.approx(501)
    assert found["p99"] == pytest.approx(991)
    assert found["max"] == pytest.approx(1000)
