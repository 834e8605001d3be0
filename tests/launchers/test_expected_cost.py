"""What a run will cost, by arithmetic on the shapes of Qwen3-8B and Qwen3-30B-A3B."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from guardrail.preflight.expected_cost import STEP_S, Training, expected_cost, planned_steps
from guardrail.recipe import read_recipe
from tests.launchers.test_recipe_arguments import DENSE, MOE


def costs(folder: Path, config: dict[str, object], *changes: str, training: Training | None = None):
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    named = ("train.data=rows.jsonl", f"gold_base={folder}", "looks.batch_size=64", *changes)
    recipe = read_recipe("qwen3-8b-sft-lora", changes=named)
    return expected_cost(recipe, 300, 400, training)


def lora(steps: int | None, **changes: object) -> Training:
    """LoRA on rows of 800 tokens, 16 a step, activations checkpointed."""
    given = {"gradient_checkpointing": True, "per_device_train_batch_size": 1}
    given |= {"gradient_accumulation_steps": 16} | changes
    return Training(SimpleNamespace(**given), 800, steps, lora=True, grpo=False)


def test_the_8b_has_its_parameters_and_a_look_its_minutes(tmp_path):
    found = costs(tmp_path, DENSE, training=lora(1000))
    assert found["parameters"] == pytest.approx(8.19e9, rel=1e-3)
    assert found["weights_gb"] == pytest.approx(16.4, abs=0.1)
    batches = 5  # of 64, for 300 items
    assert found["look_minutes"] == pytest.approx(batches * 512 * STEP_S / 60, abs=0.05)
    assert found["anchors_minutes"] == pytest.approx((5 * 5 + 7) * 512 * STEP_S / 60, abs=0.05)
    assert found["looks"] == 6  # at 0, 200, ..., 1000
    assert found["warnings"] == []
    step_s = 16 * 800 * 6 * found["parameters"] / 140e12  # 2 forward, 2 backward, 2 again
    assert found["step_seconds"] == pytest.approx(step_s, rel=1e-2)
    look_s = found["look_minutes"] * 60
    assert found["share_of_the_run"] == pytest.approx(look_s / (look_s + 200 * step_s), rel=0.02)


def test_a_long_run_pays_for_more_answers_and_a_short_one_for_one(tmp_path):
    short, long = (costs(tmp_path, DENSE, training=lora(steps)) for steps in (300, 100_000))
    assert (short["answers_an_item"], long["answers_an_item"]) == (
        1,
        1,
    )  # every 200 steps: 8 % each
    rarely = ("looks.every_steps=2000", "train.arguments.save_steps=2000")
    seldom = costs(tmp_path, DENSE, *rarely, training=lora(100_000))
    assert seldom["answers_an_item"] == 3
    assert seldom["share_of_the_run"] < 0.03
    assert costs(tmp_path, DENSE, "looks.samples=3", training=lora(300))["answers_an_item"] == 3


def test_rollouts_are_part_of_a_step_of_grpo(tmp_path):
    given = lora(None, max_completion_length=4096).arguments
    found = costs(tmp_path, DENSE, training=Training(given, 100, None, lora=False, grpo=True))
    assert found["step_seconds"] > 4096 * STEP_S
    assert "looks" not in found


def test_what_memory_is_left_beside_the_training_bounds_the_answers_at_a_time(tmp_path):
    open_ = ("looks.batch_size=null",)
    beside_lora = costs(tmp_path, DENSE, *open_)
    beside_full = costs(tmp_path, DENSE, *open_, "train.lora=null", "launch.processes=8")
    assert "step of 2" in beside_lora["assumed"]  # of 80 GB 54 are free, an answer takes 113 MB
    assert beside_full["parameters"] == beside_lora["parameters"]


def test_the_steps_of_a_run_are_those_the_trainer_counts():
    assert planned_steps({"max_steps": 7}, 100) == 7
    assert planned_steps({}, 12.5) == 38
    assert planned_steps({"num_train_epochs": 0.5}, 100) == 50


def test_of_a_mixture_the_experts_that_are_chosen_set_the_pace(tmp_path):
    found = costs(tmp_path, MOE)
    assert found["parameters"] == pytest.approx(30.5e9, rel=1e-2)
    assert found["look_minutes"] == costs(tmp_path, DENSE)["look_minutes"]
    assert "looks" not in found


def test_ranks_share_a_look_and_samples_multiply_it(tmp_path):
    one = costs(tmp_path, DENSE)["look_minutes"]
    assert costs(tmp_path, DENSE, "launch.processes=8")["look_minutes"] == pytest.approx(
        one / 5, abs=0.05
    )
    assert costs(tmp_path, DENSE, "looks.samples=2")["look_minutes"] == pytest.approx(
        2 * one, abs=0.6
    )


def test_a_look_that_outlasts_the_collectives_is_warned_of(tmp_path):
    slow = ("launch.processes=2", "looks.decoding.max_new_tokens=16000", "looks.batch_size=32")
    (warning,) = costs(tmp_path, DENSE, *slow)["warnings"]
    assert "`train.arguments.ddp_timeout` to" in warning
    assert costs(tmp_path, DENSE, *slow, "train.arguments.ddp_timeout=20000")["warnings"] == []


def test_a_sidecar_keeps_no_rank_waiting(tmp_path):
    slow = ("looks.samples=60", "launch.processes=2")
    assert costs(tmp_path, DENSE, *slow)["warnings"]
    beside = costs(tmp_path, DENSE, *slow, "looks.engine=sidecar")
    assert beside["warnings"] == []
    assert "does not wait" in beside["looks_taken_by"]
    assert beside["look_minutes"] > costs(tmp_path, DENSE, *slow)["look_minutes"]
