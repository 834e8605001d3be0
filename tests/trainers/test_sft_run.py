"""Guarded SFT for real in a user's script: what `guardrail run` does not do, TRL's SFTTrainer with LoRA."""

import json
import sys

import pytest
from safetensors.torch import load_file

from tests.run_fixtures import ROOT, anchored, arguments, process, records, script, small_recipe

pytestmark = [pytest.mark.run, pytest.mark.trl1]


def test_lora_on_packed_accumulated_rows_is_guarded_from_start_to_report(tmp_path):
    recipe = anchored(
        small_recipe(
            tmp_path,
            items_an_ability=4,
            rehearsal={"fraction": 0.1, "allow_large_fraction": True},
            looks={"every_steps": 3},
        )
    )
    run = tmp_path / "run"
    arguments = {"packing": True, "max_length": 256, "gradient_accumulation_steps": 2}
    arguments |= {"max_steps": 6, "save_steps": 3, "learning_rate": 2e-3}
    options = {"lora": True, "arguments": arguments | {"per_device_train_batch_size": 2}}
    done = script("trainers.ranks.ranks_scripts", "train", recipe, run, json.dumps(options))
    assert done.returncode == 0, done.stderr[-3000:]
    assert [r["step"] for r in records(run, "look")] == [0, 3, 6]
    self_test = records(run, "kl_self_test")[0]
    assert self_test["at_start"] == pytest.approx(0, abs=1e-4)
    assert self_test["perturbed"] >= 10 * self_test["tolerance"] > 0
    log = records(run, "log")[-1]
    # Four packs a step, several dialogues in each; a window injects what its predecessors make due.
    assert log["task_samples"] > 6 * 4
    assert 0.05 < log["share"] <= 0.1
    assert any(r["rehearsal_kl"] for r in records(run, "log"))
    assert records(run, "ended")[0]["outcome"] == "finished"
    adapter = load_file(run / "checkpoint-6/adapter_model.safetensors")
    assert all(bool(value.any()) for name, value in adapter.items() if "lora_B" in name)
    assert (run / "checkpoint-6/guardrail_state.json").is_file()
    assert (run / "report.html").is_file()
    assert "the final weights were not tested" in done.stderr


def test_a_script_of_ones_own_hears_its_guard_and_exits_as_halted(tmp_path):
    """`launch/trl_sft.py`, as it is shipped, with settings that no KL weight can save."""
    recipe = anchored(
        small_recipe(
            tmp_path,
            items_an_ability=5,
            train=arguments(learning_rate=0.02),
            drift={"margins": {"passed": {"margin": 0.03, "critical": 0.2}}},
        )
    )
    run = tmp_path / "run"
    done = process([sys.executable, ROOT / "launch/trl_sft.py", recipe, run])
    assert done.returncode == 3, done.stderr[-3000:]
    step = records(run, "ended")[0]["steps"]
    assert step < 12
    lines = [line.strip() for line in done.stderr.replace("\r", "\n").split("\n")]
    for begins in (
        "KL self-test (float32): ",
        "step    0  look 0",
        f"step {step:>4}  look 2",
        f"step {step:>4}  halt: ",
        f"HALTED by the guard at step {step}: the run drifted beyond its margins",
        f"report        {run / 'report.html'}",
    ):
        assert any(line.startswith(begins) for line in lines), begins
    assert (run / "report.html").is_file()
    assert (run / f"checkpoint-{step}/guardrail_state.json").is_file()
