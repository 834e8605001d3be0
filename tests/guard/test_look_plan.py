"""Looks are planned over what is left of the error budget, or refused where nothing is."""

import json
from types import SimpleNamespace

import pytest

from guardrail.errors import InputError
from guardrail.guard.look_plan import (
    affordable_samples,
    due_looks,
    looks_kept,
    plan_looks,
    refuse_longer,
)
from guardrail.guard.state import GuardState, read_state, write_state
from guardrail.judge.rule import RuleState
from guardrail.recipe import read_recipe


def arguments(**changes):
    return SimpleNamespace(
        **{"save_strategy": "no", "save_steps": 500, "num_train_epochs": 1, "max_steps": -1,
           "load_best_model_at_end": False} | changes
    )  # fmt: skip


@pytest.fixture
def recipe():
    recipe = read_recipe("toy-sft")
    return recipe.model_copy(
        update={"looks": recipe.looks.model_copy(update={"every_steps": 10, "reserve": 3})}
    )


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({}, [10, 20, 25]),
        ({"save_strategy": "steps", "save_steps": 8}, [8, 10, 16, 20, 24, 25]),
        ({"save_strategy": "steps", "save_steps": 0.2}, [5, 10, 15, 20, 25]),
        ({"save_strategy": "epoch", "num_train_epochs": 2}, [10, 12, 20, 25]),
    ],
)
def test_looks_fall_every_n_steps_on_saves_and_on_the_end(recipe, changes, due):
    assert due_looks(recipe, 25, arguments(**changes)) == due


def test_the_best_model_has_a_look_of_its_own(recipe):
    assert looks_kept(recipe, arguments()) == 3
    assert looks_kept(recipe, arguments(load_best_model_at_end=True)) == 4


def begun(due=(10, 20, 30), kept=3) -> GuardState:
    state = GuardState()
    assert plan_looks(state, list(due), kept, step=0)["planned_looks_before"] == 0
    return state


def test_a_plan_that_did_not_change_stays_whatever_was_used(tmp_path):
    state = begun()
    state.rule = RuleState(looks_used=2, share=2 / 6)
    write_state(tmp_path, state)
    state = read_state(tmp_path)
    assert plan_looks(state, [10, 20, 30], 3, step=20) is None
    assert state.planned_looks == 6


def test_a_longer_run_divides_what_is_left_among_the_looks_ahead():
    state = begun()
    state.rule, state.extra_looks = RuleState(looks_used=3, share=0.5), 1
    changed = plan_looks(state, [10, 20, 30, 40, 50], 3, step=20)
    assert changed == {
        "planned_steps": 50, "planned_steps_before": 30, "planned_looks": 3 + 3 + 2,
        "planned_looks_before": 6, "looks_used": 3, "budget_spent": 0.5,
    }  # fmt: skip
    assert state.planned_looks == 8
    assert plan_looks(state, [10, 20, 30, 40, 50], 3, step=20) is None


def test_a_look_that_is_owed_is_one_of_those_ahead():
    state = begun()
    state.rule, state.owed_look = RuleState(looks_used=1, share=1 / 6), "save"
    assert plan_looks(state, [10, 20, 30, 40], 3, step=20)["planned_looks"] == 1 + 2 + 1 + 3


def test_a_shorter_run_has_fewer_looks_ahead_and_one_that_is_over_none():
    state = begun()
    state.rule = RuleState(looks_used=1, share=1 / 6)
    assert plan_looks(state, [10, 15], 3, step=10)["planned_looks"] == 1 + 1 + 3
    state = begun()
    state.rule = RuleState(looks_used=3, share=1.0)
    assert plan_looks(state, [10, 15], 3, step=30)["planned_looks"] == 3 + 3


def test_nothing_is_planned_beyond_a_final_look():
    state = begun()
    state.rule = RuleState(looks_used=3, share=1.0)
    with pytest.raises(
        InputError, match="step 30 has spent the run's error budget, and training on to 40"
    ):
        plan_looks(state, [10, 20, 30, 40], 3, step=30)
    assert state.due == [10, 20, 30]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"max_steps": 30}, False),
        ({"max_steps": 31}, True),
        ({"num_train_epochs": 1.5}, False),
        ({"num_train_epochs": 2}, True),
        ({"max_steps": 20, "num_train_epochs": 9}, False),
    ],
)
def test_a_run_that_is_over_is_not_made_longer(tmp_path, changes, refused):
    told = {"global_step": 30, "epoch": 1.5}
    (tmp_path / "trainer_state.json").write_text(json.dumps(told), encoding="utf-8")
    over = GuardState(rule=RuleState(looks_used=3, share=1.0))
    refuse_longer(
        GuardState(rule=RuleState(looks_used=3, share=0.9)), tmp_path, arguments(**changes)
    )
    if not refused:
        refuse_longer(over, tmp_path, arguments(**changes))
        return
    with pytest.raises(InputError, match="begin a run of its own from this checkpoint"):
        refuse_longer(over, tmp_path, arguments(**changes))


@pytest.mark.parametrize(
    ("steps_s", "samples"), [(0.0, 1), (10_000.0, 1), (20_000.0, 2), (30_000.0, 4), (1e9, 4)]
)
def test_looks_take_three_hundredths_of_the_steps_or_one_answer_an_item(steps_s, samples):
    """Ten looks of 20 s an answer, after 100 s for look 0."""
    assert affordable_samples(20.0, 10, steps_s, 100.0) == samples
