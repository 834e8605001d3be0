"""The user's own numbers: lines of metrics.jsonl become records of the ledger, once, and bad ones are told."""

import json
import os

import pytest

from guardrail.errors import InputError
from guardrail.ledger.file import Ledger, live_records, read_ledger
from guardrail.track.own_metrics import METRICS_FILE, add_metric, take_metrics


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append("started", 0, name="own")
    return ledger


def write(ledger, *lines, end="\n"):
    text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + end
    (ledger.path.parent / METRICS_FILE).write_text(text, encoding="utf-8")


def line(step, value, name="recovery_rate"):
    return {"step": step, "name": name, "value": value}


def taken(ledger):
    kept = [r for r in live_records(read_ledger(ledger.path.parent)) if r["kind"] == "metric"]
    return [(r["step"], r["name"], r["value"]) for r in kept]


def refused(ledger):
    return [r for r in read_ledger(ledger.path.parent) if r["kind"] == "metric_refused"]


def test_lines_become_records_once_and_in_the_users_steps(ledger):
    write(ledger, line(0, 0.30), line(10, 0.31, "回款率"))
    take_metrics(ledger, 12)
    take_metrics(ledger, 16)
    assert taken(ledger) == [(0, "recovery_rate", 0.30), (10, "回款率", 0.31)]
    write(ledger, line(0, 0.30), line(10, 0.31, "回款率"), line(14, 1))
    take_metrics(ledger, 16)
    assert taken(ledger)[-1] == (14, "recovery_rate", 1.0)
    assert not refused(ledger)


def test_no_file_is_no_metric(ledger):
    take_metrics(ledger, 5, final=True)
    assert len(read_ledger(ledger.path.parent)) == 1


def test_a_line_being_written_and_a_step_not_reached_wait(ledger):
    write(ledger, line(20, 0.5), '{"step": 4, "name": "a", "val', end="")
    take_metrics(ledger, 10)
    assert not taken(ledger)
    assert not refused(ledger)
    write(ledger, line(20, 0.5), line(4, 0.4, "a"), end="")
    take_metrics(ledger, 20)
    assert taken(ledger) == [(20, "recovery_rate", 0.5)]
    take_metrics(ledger, 20, final=True)
    assert taken(ledger)[-1] == (4, "a", 0.4)


def test_what_a_rewind_undid_is_taken_again_and_nothing_else(ledger):
    write(ledger, line(4, 0.4), line(8, 0.8))
    take_metrics(ledger, 8)
    ledger.append("rewound", 4, checkpoint="checkpoint-4")
    take_metrics(ledger, 8)
    assert taken(ledger) == [(4, "recovery_rate", 0.4), (8, "recovery_rate", 0.8)]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("nonsense", "Expecting value"),
        ("[1, 2]", "a line must read"),
        ('{"step": 1, "name": "a"}', "a line must read"),
        ('{"step": 1.5, "name": "a", "value": 1}', "whole number"),
        ('{"step": -1, "name": "a", "value": 1}', "whole number"),
        ('{"step": true, "name": "a", "value": 1}', "whole number"),
        ('{"step": 1, "name": "", "value": 1}', "printable"),
        ('{"step": 1, "name": "a\\u001b[31m", "value": 1}', "printable"),
        ('{"step": 1, "name": "a", "value": NaN}', "finite"),
        ('{"step": 1, "name": "a", "value": Infinity}', "finite"),
        ('{"step": 1, "name": "a", "value": true}', "finite"),
        ('{"step": 1, "name": "a", "value": "0.3"}', "finite"),
        ('{"step": 1, "name": "a", "value": 1' + "0" * 400 + "}", "within"),
        ("[" * 5000, "longer than"),
    ],
)
def test_a_bad_line_is_told_once_and_the_others_count(ledger, bad, why):
    write(ledger, line(1, 0.1), bad, line(2, 0.2))
    for _ in range(2):
        take_metrics(ledger, 5)
    assert [step for step, _, _ in taken(ledger)] == [1, 2]
    (record,) = refused(ledger)
    assert record["line"] == 2
    assert why in record["why"]


def test_bytes_that_are_no_text_and_a_folder_in_its_place_do_not_stop_a_run(ledger):
    path = ledger.path.parent / METRICS_FILE
    path.write_bytes(b"\xff\xfe\n")
    take_metrics(ledger, 1)
    assert "utf-8" in refused(ledger)[0]["why"]
    path.unlink()
    path.mkdir()
    take_metrics(ledger, 1)
    take_metrics(ledger, 1)
    assert [r["line"] for r in refused(ledger)] == [1, 0]


def test_a_step_beyond_the_end_is_refused_at_the_end(ledger):
    write(ledger, line(99, 0.1))
    take_metrics(ledger, 20, final=True)
    assert "step 99 lies beyond the run" in refused(ledger)[0]["why"]


def test_the_command_writes_a_line_and_a_finished_run_takes_it_at_once(ledger):
    run = ledger.path.parent
    ledger.append("log", 30, loss=1.0)
    assert add_metric(run, "recovery_rate", 0.3, None) == line(30, 0.3)
    assert not taken(ledger)
    ledger.append("ended", 30, outcome="finished")
    add_metric(run, "recovery_rate", 0.5, 12)
    assert taken(ledger) == [(30, "recovery_rate", 0.3), (12, "recovery_rate", 0.5)]


def test_a_line_that_somebody_left_open_does_not_swallow_the_commands(ledger):
    write(ledger, '{"step": 0, "name": "a", "val', end="")
    add_metric(ledger.path.parent, "recovery_rate", 0.3, 0)
    take_metrics(ledger, 10)
    assert taken(ledger) == [(0, "recovery_rate", 0.3)]
    assert len(refused(ledger)) == 1


@pytest.mark.parametrize(
    ("value", "step", "said"), [(float("nan"), 1, "finite"), (1, 31, "beyond")]
)
def test_the_command_refuses_what_no_run_could_take(ledger, value, step, said):
    ledger.append("log", 30, loss=1.0)
    with pytest.raises(InputError, match=said):
        add_metric(ledger.path.parent, "recovery_rate", value, step)
    assert not (ledger.path.parent / METRICS_FILE).exists()


def test_what_is_no_file_of_lines_does_not_hold_the_training_up(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append("log", 10)
    os.mkfifo(tmp_path / "metrics.jsonl")
    take_metrics(ledger, 10)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").write_text("[" * 3000 + "\n")
    take_metrics(ledger, 10)
    assert [r["kind"] for r in read_ledger(tmp_path)] == ["log", "metric_refused", "metric_refused"]
