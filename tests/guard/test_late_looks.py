"""Looks that a sidecar answers: asked in the ledger, judged oldest first, applied where the training has got to."""

import json
import time

import numpy as np
import pytest

from guardrail.guard.asked_looks import (
    Measurement,
    answer_file,
    open_asks,
    read_answer,
    write_answer,
    write_failure,
)
from guardrail.guard.checkpoints import complete_checkpoint
from guardrail.guard.state import read_state, write_state
from guardrail.ledger.file import live_records, read_ledger
from guardrail.read_back import sealed, unsealed
from guardrail.recipe import read_recipe
from tests.guard.asked_course import BAD, GOLD, asked_course, look_due, says


@pytest.fixture
def moved():
    """The actions that levers were moved by."""
    return []


@pytest.fixture
def course(tmp_path, moved):
    return asked_course(tmp_path, moved.append)


def step_ends(course, step):
    """What the callback does at the end of a step, once a thread has judged what has come."""
    asked = course.guard.state.asked
    if asked and answer_file(course.guard.run, asked[0]).is_file():
        while not course.answered():
            time.sleep(0.001)
    if course.answered():
        course.apply(step)


def test_nothing_is_judged_before_look_0_and_each_step_applies_the_oldest(course):
    state = course.guard.state
    first, second = look_due(course, 10), look_due(course, 20)
    says(course, second, GOLD)
    says(course, first, GOLD)
    step_ends(course, 21)
    assert [ask.step for ask in state.asked] == [0, 10, 20]
    says(course, state.asked[0], GOLD)
    for step in (22, 23, 24, 25):
        step_ends(course, step)
    looks = [r for r in read_ledger(course.guard.run) if r["kind"] == "look"]
    assert [(r["step"], r["look"], r["applied_step"]) for r in looks] == [
        (0, 0, 22), (10, 1, 23), (20, 2, 24),
    ]  # fmt: skip
    assert state.asked == []
    assert [judged.step for judged in state.history] == [10, 20]
    graded = [r for r in read_ledger(course.guard.run) if r["kind"] == "checkpoint"]
    assert [(r["path"], r["level"]) for r in graded][-1] == ("checkpoints/checkpoint-20", "ok")
    assert state.last_ok_checkpoint == "checkpoint-20"


def test_a_critical_look_is_asked_again_before_any_later_one_and_then_halts(course, moved):
    state, run = course.guard.state, course.guard.run
    first, later = look_due(course, 10), look_due(course, 20)
    says(course, state.asked[0], GOLD)
    says(course, first, BAD)
    says(course, later, GOLD)
    for step in (21, 22, 23):
        step_ends(course, step)
    again = state.asked[0]
    assert (again.step, again.trigger, again.checkpoint) == (10, "repeat", first.checkpoint)
    assert [ask.order for ask in open_asks(read_ledger(run))] == [(10, True), (20, False)]
    assert not course.halted
    says(course, again, BAD)
    step_ends(course, 24)
    assert course.halted
    bounds = [
        [stream["boundary_halt"] for stream in r["streams"]]
        for r in read_ledger(run)
        if r["kind"] == "look" and r["step"] == 10
    ]
    assert bounds[0] == bounds[1], "a repeat has the budget of the look it repeats"
    halt = [r for r in read_ledger(run) if r["kind"] == "action"][-1]
    assert (halt["step"], halt["action"], halt["look"]) == (24, "halt", again.look)
    assert moved[-1].kind == "halt"


def test_a_raise_without_a_kl_term_is_told_and_not_carried_out(course):
    guard = course.guard
    mild = [f"drift.margins.{name}.critical=99" for name in guard.recipe.drift.margins]
    guard.recipe = read_recipe(
        "toy-sft", changes=["looks.engine=sidecar", "ladder.max_lr_cuts=0", *mild]
    )
    guard.kl_term = False
    ask = look_due(course, 10)
    says(course, guard.state.asked[0], GOLD)
    step_ends(course, 11)
    says(course, ask, BAD)
    step_ends(course, 12)
    (action,) = [r for r in read_ledger(guard.run) if r["kind"] == "action"]
    assert (action["action"], action["carried_out"]) == ("raise_kl", False)
    assert action["after"]["boost"] == 1.0


def test_what_could_not_be_measured_goes_the_way_of_an_error_while_looking(course):
    first = look_due(course, 10)
    says(course, course.guard.state.asked[0], GOLD)
    write_failure(course.guard.run, first, "OutOfMemoryError: no room")
    step_ends(course, 11)
    step_ends(course, 12)
    error = read_ledger(course.guard.run)[-1]
    assert (error["kind"], error["step"], error["applied_step"], error["look"]) == (
        "error", 10, 12, 1,
    )  # fmt: skip
    assert "no room" in error["error"]
    assert course.halted
    assert course.guard.state.failures == 1
    assert open_asks(read_ledger(course.guard.run)) == []


def test_a_pipeline_that_differs_halts_even_where_errors_go_on(course):
    guard = course.guard
    guard.recipe = guard.recipe.model_copy(update={"on_error": "continue"})
    says(course, guard.state.asked[0], BAD)
    step_ends(course, 3)
    assert course.halted
    assert "look 0 disagrees" in read_ledger(guard.run)[-1]["error"]


def test_an_answer_to_another_ask_or_half_of_one_is_never_applied(course):
    guard, first = course.guard, look_due(course, 10)
    says(course, guard.state.asked[0], GOLD)
    step_ends(course, 11)
    says(course, first, BAD)
    path = answer_file(guard.run, first)
    whole = path.read_text(encoding="utf-8")
    path.rename(path.with_name(path.name + ".partial"))
    step_ends(course, 12)
    assert guard.state.asked == [first]
    other = unsealed(json.loads(whole))
    other["asked"]["nonce"] = "of another attempt"
    path.write_text(json.dumps(sealed(other)), encoding="utf-8")
    step_ends(course, 13)
    assert "answers another question" in read_ledger(guard.run)[-1]["error"]
    assert guard.state.history == []


def test_a_resume_asks_for_no_look_of_the_branch_it_left(course):
    guard = course.guard
    says(course, guard.state.asked[0], GOLD)
    first = look_due(course, 10)
    guard.ledger.append("log", 12)
    step_ends(course, 13)
    look_due(course, 20)
    guard.ledger.append("rewound", 12, checkpoint="checkpoint-12", set_aside=[])
    assert [ask.step for ask in open_asks(read_ledger(guard.run))] == [0, 10]
    kept = [r["kind"] for r in live_records(read_ledger(guard.run))]
    assert "look" not in kept, "look 0 was applied at step 13, which the rewind undid"
    assert open_asks(read_ledger(guard.run))[1] == first


def test_the_state_of_a_checkpoint_holds_what_is_asked_and_rotation_spares_it(course):
    guard = course.guard
    for step in (10, 20, 30):
        (course.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        look_due(course, step)
        complete_checkpoint(guard, course.checkpoints / f"checkpoint-{step}", limit=1, best=None)
    left = sorted(path.name for path in course.checkpoints.iterdir())
    assert left == ["checkpoint-10", "checkpoint-20", "checkpoint-30"]
    says(course, guard.state.asked[0], GOLD)
    says(course, guard.state.asked[1], BAD)
    step_ends(course, 30)
    step_ends(course, 30)
    write_state(guard.run, guard.state)
    kept = read_state(guard.run)
    assert kept.asked == guard.state.asked
    assert kept.rule_before == guard.state.rule_before != kept.rule


def test_an_answer_reads_as_it_was_written(course):
    ask = course.guard.state.asked[0]
    values = {"passed": np.array([[0.1, np.nan], [1 / 3, 0.0]])}
    noise = (values, {"passed": np.array([[1.0], [2.0]])})
    write_answer(course.guard.run, ask, Measurement(values, "looks/x.jsonl", 2.5, noise=noise))
    found = read_answer(course.guard.run, ask)
    assert isinstance(found, Measurement)
    np.testing.assert_array_equal(found.values["passed"], values["passed"])
    np.testing.assert_array_equal(found.noise[1]["passed"], noise[1]["passed"])
    write_failure(course.guard.run, ask, "gone")
    assert read_answer(course.guard.run, ask) == "gone"
