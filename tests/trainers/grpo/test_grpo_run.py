"""Guarded GRPO for real: TRL's GRPOTrainer on the toy base, in a user's script."""

import json
import subprocess
from pathlib import Path

import pytest

from guardrail.report.report import build_report
from tests.run_fixtures import anchored, records, script, small_recipe

pytestmark = pytest.mark.run


def launch(recipe: Path, run: Path, **options: object) -> subprocess.CompletedProcess[str]:
    return script("trainers.grpo.grpo_scripts", recipe, run, json.dumps(options))


@pytest.mark.parametrize("lora", [False, pytest.param(True, marks=pytest.mark.trl1)])
def test_a_guarded_run_mixes_general_prompts_looks_and_reports(tmp_path, lora):
    recipe = anchored(
        small_recipe(
            tmp_path,
            items_an_ability=3,
            trainer="trl-grpo",
            train={"held_out": 0.0},
            rehearsal={"fraction": 0.1, "allow_large_fraction": True},
            looks={"every_steps": 3},
        )
    )
    run = tmp_path / "run"
    done = launch(recipe, run, lora=lora)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads((run / "told.json").read_text())
    assert told["step"] == 6
    # Two groups a step, a tenth of them general.
    assert told["task_samples"] + told["rehearsal_samples"] == 12
    assert told["rehearsal_samples"] == 1
    assert [r["step"] for r in records(run, "look")] == [0, 2, 3, 4, 6]
    assert records(run, "started")[0]["trainer"] == "GRPOTrainer"
    self_test = records(run, "kl_self_test")[0]
    assert self_test["at_start"] == pytest.approx(0, abs=1e-4)
    assert self_test["perturbed"] >= 10 * self_test["tolerance"] > 0
    assert any(r["rehearsal_kl"] is not None for r in records(run, "log"))
    assert (run / "checkpoint-6/guardrail_state.json").is_file()
    assert build_report(run).is_file()


@pytest.mark.trl1
def test_a_reckless_run_is_slowed_and_halted(tmp_path):
    recipe = anchored(
        small_recipe(
            tmp_path,
            items_an_ability=12,
            rehearsal={"fraction": 0.1, "allow_large_fraction": True},
            looks={"every_steps": 2},
            trainer="trl-grpo",
            train={"held_out": 0.0},
            drift={"margins": {"passed": {"margin": 0.03, "critical": 0.2}}},
        )
    )
    run = tmp_path / "run"
    arguments = {"learning_rate": 5e-3, "max_steps": 20, "lr_scheduler_type": "constant"}
    done = launch(recipe, run, arguments=arguments | {"save_steps": 20})
    assert done.returncode == 0, done.stderr[-3000:]
    actions = [r["action"] for r in records(run, "action")]
    assert actions[-1] == "halt", actions
    assert records(run, "ended")[0]["outcome"] == "halted"
    step = records(run, "ended")[0]["step"]
    assert (run / f"checkpoint-{step}/model.safetensors").is_file()
