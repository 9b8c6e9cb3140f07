"""What a run says of itself: the control, a machine that was too busy, figures that add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.__main__ import main
from benchmarks.figures import cpu_by_rate, targets
from benchmarks.machine import Watch, about, doubts
from benchmarks.pace import middle_of
from benchmarks.report import page, write
from benchmarks.run import controls_of, ratios_of

QUIET = {"load": 0.1, "cores": 2, "foreign": 0.01}


def served(sender, *throughputs):
    """Return a server's turns, without tracking, with it, without it, ..."""
    turns = [
        {
            "path": "/on" if place % 2 else "/off",
            "throughput": each,
            "behind": 5.0 + 12.0 * (place % 2),
            "p50": 500.0,
            "p99": 1000.0,
        }
        for place, each in enumerate(throughputs)
    ]
    return {"sender": sender, "turns": turns}


def row(copies, *, calls=1_000, lost=0, cpu=0.02, p50=2.0):
    times = {"p50": p50, "p99": 20.0, "p99.9": 50.0, "max": 150.0}
    return {
        "first": 80.0,
        "paced": times,
        "tight": times,
        "calls": calls,
        "delivered": calls * copies - lost,
        "lost": lost,
        "too_many": 0,
        "requests": 20 * copies,
        "loads": {"1000": {"calls": calls, "cpu": cpu, "reached": 1_000.0}},
    }


@pytest.fixture
def results():
    rows = {"control": [row(0, cpu=0.004)], "floor-4": [row(4, cpu=0.044)], "four": [row(4, cpu=0.052)]}
    app = {
        "uvicorn": [
            served("control", 1000.0, 998.0, 1000.0),
            served("four", 1000.0, 930.0, 1000.0),
        ]
    }
    return {
        "about": about(),
        "quick": False,
        "parts": ["latency", "load", "app"],
        "skipped": {"relay": "this version has none"},
        "latency": rows,
        "load": rows,
        "app": app,
        "controls": controls_of(app),
        "watched": QUIET,
        "minutes": 18.0,
        "doubts": [],
    }


def test_a_quiet_machine_with_a_control_that_reads_one_leaves_no_doubt():
    assert doubts(QUIET, {"uvicorn": 0.995, "gunicorn": 1.009}) == []


@pytest.mark.parametrize(
    ("watched", "controls", "said"),
    [
        ({**QUIET, "load": 1.7}, {"uvicorn": 1.0}, "load average was 1.70 on 2 cores"),
        ({**QUIET, "foreign": 0.3}, {"uvicorn": 1.0}, "other processes used 30% of the machine"),
        (QUIET, {"uvicorn": 0.989}, "control on uvicorn reads 0.989"),
        (QUIET, {"uvicorn": 1.0, "gunicorn": 1.011}, "control on gunicorn reads 1.011"),
        (QUIET, {}, "no control was run"),
    ],
)
def test_a_machine_that_was_too_busy_is_said_to_have_been(watched, controls, said):
    found = doubts(watched, controls)
    assert len(found) == 1
    assert said in found[0]


def test_what_others_use_of_the_machine_is_a_share_of_it():
    share = Watch().share()
    assert share is None or 0 <= share <= 1


def test_the_control_stands_in_the_report_and_in_the_last_line(results, tmp_path, capsys):
    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps(results))
    assert main(["--from-json", str(raw)]) == 0
    output = capsys.readouterr()
    assert "uvicorn 0.998" in output.out
    assert output.err.splitlines()[-1].endswith("uvicorn 0.998")


def test_a_run_that_cannot_be_believed_says_so_in_the_report_and_by_its_exit_status(
    results, tmp_path, capsys
):
    results["doubts"] = doubts({**QUIET, "foreign": 0.4}, results["controls"])
    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps(results))
    assert main(["--from-json", str(raw)]) == 3
    output = capsys.readouterr()
    assert "**THE MACHINE WAS TOO BUSY" in output.out
    assert "other processes used 40%" in output.err.splitlines()[-1]


def test_what_could_not_be_measured_is_named_with_the_reason(results):
    assert "Not measured: relay: this version has none." in page(results)


def test_what_was_lost_is_in_the_table(results):
    results["latency"]["four"] = [row(4), row(4, lost=17)]
    assert "| 17 of 4,000 |" in page(results)


def test_each_turn_is_compared_with_those_without_tracking_before_and_after_it():
    found = ratios_of([served("four", 1000.0, 810.0, 800.0), served("one", 500.0, 480.0, 500.0)])
    assert found["four"]["throughput"] == pytest.approx(0.9)
    assert found["one"]["throughput"] == pytest.approx(0.96)
    assert found["four"]["behind"] == pytest.approx(12)
    assert found["one"]["whole"] == pytest.approx(2_000)


def test_ratios_are_the_middle_of_all_turns_of_all_rounds_whatever_the_others_say():
    rounds = [
        served("four", 1000.0, 900.0, 1000.0, 940.0, 1000.0),
        served("four", 500.0, 50.0, 500.0, 900.0, 500.0),
    ]
    found = ratios_of(rounds)["four"]
    assert found["throughput"] == pytest.approx(0.92)
    assert found["error"] == pytest.approx(0.0231, abs=1e-4)  # of 0.9, 0.9, 0.94, 0.94


def test_the_error_of_the_middle_shrinks_with_the_root_of_the_number_of_turns():
    turns = [0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]
    (value, error), (same, smaller) = middle_of(turns), middle_of(turns * 16)
    assert value == pytest.approx(1.15) == same
    assert error / smaller == pytest.approx(4, rel=0.1)


def test_what_a_call_adds_to_its_request_is_the_mean_of_the_rounds_and_a_share_of_the_request(results):
    rounds = [
        {**served("four", 1000.0, 900.0, 1000.0), "single": {"request": request, "error": 3.0}}
        for request in (20.0, 26.0, 26.0, 20.0)
    ]
    found = ratios_of(rounds)["four"]
    assert found["request"] == pytest.approx(23)
    assert found["request_error"] == pytest.approx(1.5)
    results["app"] = {"uvicorn": [*rounds, served("one", 1000.0, 900.0, 1000.0)], "gunicorn": rounds}
    lines = [line for line in page(results).splitlines() if line.startswith(("| uvicorn", "| gunicorn"))]
    assert lines[0].endswith("| - | - | - |")
    assert lines[1].endswith("| 23.0 ± 1.5 | 12.0 | 3.5% |")
    assert lines[2] == lines[1].replace("uvicorn", "gunicorn")


def test_the_control_is_read_off_pairs_of_requests_where_there_are_some():
    turns = {**served("control", 1000.0, 950.0, 1000.0)}
    assert controls_of({"uvicorn": [turns]}) == {"uvicorn": pytest.approx(0.95)}
    exact = {**turns, "single": {"request": 4.0, "error": 2.0}}
    assert controls_of({"uvicorn": [exact]}) == {"uvicorn": pytest.approx(1000 / (1000 + 4 + 12))}


def test_of_one_turn_there_is_no_error_to_be_known():
    assert middle_of([0.9]) == (0.9, 0.0)


def test_cpu_is_without_the_loop_and_for_each_delivery_that_arrived(results):
    found = cpu_by_rate(results)
    assert "control" not in found
    assert found["four"]["1000"]["cpu"] == pytest.approx((52 - 4) / 4)
    results["load"]["four"] = [row(4, cpu=0.052, lost=2_000)]
    assert cpu_by_rate(results)["four"]["1000"]["cpu"] == pytest.approx((52 - 4) / 2)


def test_a_target_is_met_or_not_by_what_was_measured(results):
    met = {target.what: target.met for target in targets(results)}
    assert met["`track()` paced, p50, µs"] is True
    assert met["CPU for each delivery at 1,000/s ÷ the floor's"] is True
    assert met["app throughput, four providers, with ÷ without"] is True
    assert met["app throughput, relay, with ÷ without"] is None
    results["latency"]["four"] = [row(4, p50=4.5, lost=1)]
    met = {target.what: target.met for target in targets(results)}
    assert met["`track()` paced, p50, µs"] is met["lost of all of them"] is False


@pytest.mark.parametrize(
    ("turns", "met", "word"),
    [
        ([0.89, 0.91, 0.95, 0.99], None, "too close to tell"),
        ([0.80, 0.81, 0.82, 0.83], False, "**no**"),
        ([0.98, 0.99, 1.01, 1.02], True, "yes"),
    ],
)
def test_a_target_within_two_standard_errors_is_neither_met_nor_missed(results, turns, met, word):
    results["app"] = {"uvicorn": [served("four", 1.0, *(each for turn in turns for each in (turn, 1.0)))]}
    target = next(each for each in targets(results) if each.what.startswith("app throughput, four"))
    assert target.met is met
    (line,) = [line for line in page(results).splitlines() if line.startswith("| app throughput, four")]
    assert line.endswith(f"| {word} |")
    assert f" ± {target.error:.3f} |" in line


def test_pairs_of_requests_are_a_throughput_of_their_own(results):
    rounds = [{**served("relay", 500.0, 400.0, 500.0), "single": {"request": 24.0, "error": 1.0}}]
    results["app"] = {"uvicorn": rounds}
    target = next(each for each in targets(results) if each.what == "the same by pairs of requests, relay")
    assert target.got == pytest.approx(2000 / (2000 + 24 + 12))
    assert target.error == pytest.approx(0.0005)
    assert target.met is True


def test_only_what_stands_between_the_markers_is_replaced(results, tmp_path):
    document = tmp_path / "page.md"
    document.write_text("by hand\n<!-- measured: latency -->\nold\n<!-- /measured -->\nby hand, too\n")
    write(results, [document])
    text = document.read_text()
    assert text.startswith("by hand\n<!-- measured: latency -->\n\n| µs | first")
    assert text.endswith("|\n\n<!-- /measured -->\nby hand, too\n")
    assert "old" not in text


def test_the_report_names_no_host_and_no_path(results):
    import platform

    text = page(results)
    assert platform.node() not in text.split()
    assert str(Path.home()) not in text
    assert str(Path(__file__).parents[2]) not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["latencies"], "there is no part 'latencies'; there are latency, load"),
        (["--only", "posthogg"], "there is no sender 'posthogg'; there are control"),
        (["--quick", "--write"], "--write takes the whole measurement"),
        (["load", "--write"], "--write takes the whole measurement"),
    ],
)
def test_what_cannot_be_asked_for_is_said_in_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_the_plots_can_be_read_on_a_dark_page(results, tmp_path):
    pytest.importorskip("matplotlib", reason="in the dependency group bench")
    from benchmarks.plots import draw

    draw(results, tmp_path)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["app.svg", "cpu.svg", "latency.svg"]
    for path in tmp_path.iterdir():
        text = path.read_text()
        assert "prefers-color-scheme: dark" in text
        assert text.startswith("<svg")
        assert len(text) < 100_000
