"""A training that takes its looks to a sidecar: queued, killed, restarted, applied late, judged after the end."""

import json

import pytest

from guardrail.guard.asked_looks import open_asks
from guardrail.guard.resume import checkpoint_step, checkpoints
from guardrail.guard.state import read_state
from guardrail.ledger.file import read_ledger
from guardrail.live.sidecar_status import read_alive
from guardrail.live.status import run_status
from tests.run_fixtures import (
    anchored,
    arguments,
    command,
    guardrail,
    records,
    script_line,
    small_recipe,
    wait,
)
from tests.trust.written_files import unnamed
from tests.warm import WarmProcess

pytestmark = pytest.mark.run


def training(*args):
    return WarmProcess(script_line("sidecar.held_training", *args), cwd=args[1].parent)


def asked(run):
    return open_asks(read_ledger(run)) if (run / "ledger.jsonl").is_file() else []


def judged(run, steps):
    kept = ("step", "look", "trigger", "level", "streams", "planned_looks", "final")
    return [{k: r[k] for k in kept} for r in records(run, "look") if r["step"] in steps]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return anchored(small_recipe(
        tmp_path_factory.mktemp("beside"),
        items_an_ability=6,
        looks={"every_steps": 4, "samples": 1, "decoding": {"mode": "sampled", "max_new_tokens": 32}},
        train=arguments(
            learning_rate=3e-3, warmup_steps=2, max_steps=12, save_steps=4, save_total_limit=1,
            logging_steps=1,
        ),
    ))  # fmt: skip


@pytest.fixture(scope="module")
def told(recipe):
    """A run whose sidecar is killed at its second look and started again; what each process said."""
    run = recipe.parent / "beside"
    said = {"run": run}
    with training(recipe, run, "sidecar", 9, 2) as trained:
        wait(lambda: len(asked(run)) == 3, trained, 0.05)
        said["queued"] = [ask.step for ask in asked(run)]
        said["kept"] = [checkpoint_step(path) for path in checkpoints(run / "checkpoints")]
        with WarmProcess(command("serve", run), cwd=run) as first:
            wait(lambda: (read_alive(run) or {}).get("step") == 0, first, 0.02)
            said["second"] = guardrail("serve", run, "--once", cwd=run)
            wait(lambda: (read_alive(run) or {}).get("step") == 4, first, 0.02)
            first.kill()
            said["killed"] = first.wait(60)
        said["seen"] = run_status(run)["sidecar"]
        with WarmProcess(command("serve", run, "--json"), cwd=run) as again:
            said["trained"] = trained.wait(300)
            said["ended"] = records(run, "ended")[-1]
            said["served"] = again.wait(300)
            said["facts"] = json.loads(again.output("stdout"))
    return said


def test_asks_queue_and_their_checkpoints_outlive_rotation(told):
    assert told["queued"] == [0, 4, 8]
    assert told["kept"] == [4, 8], "save_total_limit is 1"


def test_a_second_sidecar_is_refused_by_name(told):
    assert told["second"].returncode == 2
    said = " ".join(told["second"].stderr.split())
    assert "a sidecar serves" in said
    assert "process " in said


def test_a_killed_one_is_followed_by_one_that_goes_on_with_the_oldest_ask(told):
    assert told["killed"] == -9
    assert [ask["step"] for ask in told["seen"]["open"]] == [0, 4, 8], "nothing applied yet"
    assert told["facts"]["answered"][0] == 4


def test_verdicts_come_late_and_move_the_levers_then(told):
    looks = {look["step"]: look for look in records(told["run"], "look")}
    assert [looks[step]["applied_step"] for step in (0, 4)] == [9, 10]
    acted = records(told["run"], "action")[0]
    assert acted["look"] == 1
    assert acted["carried_out"]
    assert acted["step"] == looks[4]["applied_step"]


def test_until_levers_move_the_looks_are_those_of_a_run_that_takes_them_itself(told, recipe):
    run = recipe.parent / "itself"
    with training(recipe, run, "in process") as trained:
        wait(lambda: (run / "ledger.jsonl").is_file() and judged(run, [4]) != [], trained, 0.05)
        trained.kill()
    assert judged(told["run"], [0, 4]) == judged(run, [0, 4])


def test_after_the_end_the_sidecar_judges_what_is_left_and_ends_with_the_runs_code(told):
    run = told["run"]
    assert told["trained"] == 4, "the training ends untested"
    last = records(run, "look")[-1]
    assert last["step"] == 12
    assert last["after_end"]
    assert told["facts"]["never_judged"] == []
    assert told["served"] == told["facts"]["exit_code"] == run_status(run)["exit_code"]
    assert unnamed(run, "run") == []
    end = read_state(run / "checkpoints/checkpoint-12")
    assert end.asked == []
    assert end.history[-1].step == 12
    graded = records(run, "checkpoint")[-1]
    assert (graded["step"], graded["level"]) == (12, last["level"])
    assert "after the end" in (run / "report.html").read_text(encoding="utf-8")
    seqs = [record["seq"] for record in read_ledger(run)]
    assert seqs == sorted(set(seqs))
