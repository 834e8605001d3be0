"""What a run will cost, by arithmetic on the shapes of Qwen3-8B and Qwen3-30B-A3B."""

import json
from pathlib import Path

import pytest

from guardrail.preflight.expected_cost import STEP_S, expected_cost
from guardrail.recipe import read_recipe
from tests.launchers.test_recipe_arguments import DENSE, MOE


def costs(folder: Path, config: dict[str, object], *changes: str, steps: int | None = None):
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    named = ("train.data=rows.jsonl", f"gold_base={folder}", "looks.batch_size=64", *changes)
    recipe = read_recipe("qwen3-8b-sft-lora", changes=named)
    return expected_cost(recipe, 300, 400, steps)


def test_the_8b_has_its_parameters_and_a_look_its_minutes(tmp_path):
    found = costs(tmp_path, DENSE, steps=1000)
    assert found["parameters"] == pytest.approx(8.19e9, rel=1e-3)
    assert found["weights_gb"] == pytest.approx(16.4, abs=0.1)
    batches = 5  # of 64, for 300 items
    assert found["look_minutes"] == pytest.approx(batches * 512 * STEP_S / 60, abs=0.05)
    assert found["anchors_minutes"] == pytest.approx((5 * 5 + 7) * 512 * STEP_S / 60, abs=0.05)
    assert found["looks"] == 6  # at 0, 200, ..., 1000
    assert found["warnings"] == []


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
