"""Guarded `swift rlhf --rlhf_type grpo` as a user types it: halted, killed and resumed, with golds."""

import signal
from pathlib import Path

import pytest
from safetensors.torch import load_file

from guardrail.ledger.file import read_ledger
from guardrail.models.fingerprint import weights_sha256
from guardrail.trainers.ms_swift.plugin import RECIPE_VARIABLE
from tests.run_fixtures import logged, records, wait
from tests.trainers.ms_swift.swift_fixtures import (
    GRPO,
    RECKLESS,
    ROLLOUTS,
    reckless_recipe,
    run_folder,
    short_recipe,
    trainer_line,
    warm_swift,
)
from tests.warm import SWIFT, WarmProcess

pytestmark = [pytest.mark.run, pytest.mark.swift]

STEPS = {"gradient_accumulation_steps": 2, "learning_rate": 1e-3, "logging_steps": 1}
LORA = f"{GRPO} --tuner_type lora --max_steps 4 --save_steps 2"
LORA_OPTIONS = ROLLOUTS | STEPS | {"repetition_penalty": 20, "beta": 0}
OF_SWIFT = {"trainer": "ms-swift", "train": None}


def test_a_reckless_grpo_is_slowed_then_halted_with_a_checkpoint(tmp_path):
    done = warm_swift(
        f"{GRPO} --tuner_type full {RECKLESS}",
        tmp_path,
        reckless_recipe(tmp_path),
        reward_funcs="shorter",
        num_generations=4,
        max_completion_length=24,
        gradient_accumulation_steps=2,
        learning_rate=3e-3,
        warmup_steps=1,
    )
    assert done.returncode == 3, done.stderr[-3000:]
    run = run_folder(tmp_path)
    actions = records(run, "action")
    assert [a["action"] for a in actions][-2:] == ["repeat_look", "halt"]
    assert {"cut_lr", "raise_kl"} <= {a["action"] for a in actions}
    ended = records(run, "ended")[0]
    assert ended["outcome"] == "halted"
    assert (run / f"checkpoint-{ended['steps']}/model.safetensors").is_file()
    assert (run / f"checkpoint-{ended['steps']}/guardrail_state.json").is_file()
    log = records(run, "log")[-1]
    assert log["task_samples"] == 8 * ended["steps"]
    assert log["rehearsal_samples"] == int((log["task_samples"] - 8) / 9)
    assert any(r["rehearsal_kl"] for r in records(run, "log"))
    assert log["learning_rate"] == pytest.approx(3e-3 * 0.25)
    assert records(run, "tripwire")[1]["task_kl"] > 0.1
    assert (run / "report.html").is_file()


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """A run with LoRA that nobody interrupts: its recipe and its folder."""
    folder = tmp_path_factory.mktemp("lora")
    recipe = short_recipe(folder, **OF_SWIFT)
    done = warm_swift(LORA, folder, recipe, **LORA_OPTIONS)
    assert done.returncode == 0, done.stderr[-3000:]
    return recipe, run_folder(folder)


def test_a_grpo_run_with_lora_is_guarded_and_looks_keep_the_models_own_decoding(lora):
    """GRPO always has a repetition penalty; at `--beta 0` the reference is the model without its adapter."""
    _, run = lora
    assert [r["step"] for r in records(run, "look")] == [0, 2, 4]
    assert records(run, "look")[0]["level"] == "ok"
    assert records(run, "kl_self_test")[0]["at_start"] == pytest.approx(0, abs=1e-4)
    assert records(run, "started")[0]["versions"]["ms-swift"].startswith("4.6.")
    form = records(run, "started")[0]["rehearsal_form"]
    assert (form["form"], form["reason"]) == ("literal", "adapter_off")
    log = records(run, "log")[-1]
    assert (log["task_samples"], log["rehearsal_samples"], log["beta"]) == (32, 2, 0)
    assert any(r["rehearsal_kl"] for r in records(run, "log"))
    assert records(run, "ended")[0]["outcome"] == "finished"
    adapter = load_file(run / "checkpoint-4/adapter_model.safetensors")
    assert all(bool(value.any()) for name, value in adapter.items() if "lora_B" in name)
    assert (run / "checkpoint-4/guardrail_state.json").is_file()
    assert (run / "report.html").is_file()


def signalled(recipe, folder, step, number) -> tuple[int, Path]:
    """Start the same run and signal it once `step` is logged; return its exit code and folder.

    Not `swift` itself, which, told to end, is gone at once, while its trainer still saves.
    """
    line = trainer_line(LORA, folder, **LORA_OPTIONS)
    with WarmProcess(line, cwd=folder, loaded=SWIFT, **{RECIPE_VARIABLE: recipe}) as process:
        wait(lambda: any(logged(run, step) for run in folder.glob("out/*")), process, 0.02)
        assert process.poll() is None, "the run ended before it was signalled"
        process.send_signal(number)
        code = process.wait(timeout=120)
    return code, run_folder(folder)


def resumed_equals(whole, run, recipe, folder, checkpoint) -> None:
    """The run goes on from the checkpoint to the weights and records of the one nobody interrupted."""
    again = LORA_OPTIONS | {"output_dir": run, "resume_from_checkpoint": run / checkpoint}
    done = warm_swift(f"{LORA} --add_version false", folder, recipe, **again)
    assert done.returncode == 0, done.stderr[-3000:]
    rewound = [r for r in read_ledger(run) if r["kind"] == "rewound"]
    assert [r["checkpoint"] for r in rewound] == [checkpoint]
    kept = {
        "look": ("step", "trigger", "level", "streams"),
        "log": ("step", "loss", "reward", "rehearsal_kl", "task_samples", "rehearsal_samples"),
        "ended": ("outcome", "last_ok_checkpoint"),
    }
    for kind, names in kept.items():
        one, other = (
            [[r[name] for name in names] for r in records(folder, kind)] for folder in (run, whole)
        )
        assert one == other
    assert weights_sha256(run / "checkpoint-4") == weights_sha256(whole / "checkpoint-4")
    assert weights_sha256(run / "checkpoint-4") != weights_sha256(run / checkpoint)


def test_a_killed_and_resumed_grpo_run_equals_an_unkilled_one(lora, tmp_path):
    recipe, whole = lora
    _, run = signalled(recipe, tmp_path, 3, signal.SIGKILL)
    assert not records(run, "ended"), "killed too late"
    resumed_equals(whole, run, recipe, tmp_path, "checkpoint-2")


def test_a_sigterm_ends_with_a_checkpoint_to_go_on_from(lora, tmp_path):
    recipe, whole = lora
    code, run = signalled(recipe, tmp_path, 2, signal.SIGTERM)
    assert code == 143
    (ended,) = records(run, "ended")
    assert ended["outcome"] == "terminated"
    assert ended["step"] == 3  # it was in progress; nobody looks or saves there otherwise
    resumed_equals(whole, run, recipe, tmp_path, "checkpoint-3")


def test_golds_beside_the_loss_guard_a_run_without_a_reference_model(tmp_path):
    """At `--beta 0` full fine-tuning has none for general prompts among the rollouts; nobody asked for them."""
    recipe = short_recipe(tmp_path, **OF_SWIFT)
    command = f"{GRPO} --tuner_type full --max_steps 4 --save_steps 4"
    done = warm_swift(command, tmp_path, recipe, beta=0, **ROLLOUTS, **STEPS)
    assert done.returncode == 0, done.stderr[-3000:]
    run = run_folder(tmp_path)
    form = records(run, "started")[0]["rehearsal_form"]
    assert (form["form"], form["reason"]) == ("anchored", "no_reference")
    assert form["said"] in done.stdout + done.stderr
    assert [r["step"] for r in records(run, "look")] == [0, 2, 4]
    assert records(run, "look")[0]["level"] == "ok"
    assert [r["step"] for r in records(run, "tripwire")] == [0, 2, 4]
    assert records(run, "tripwire")[-1]["task_kl"] > 0
    test = records(run, "kl_self_test")[0]
    assert test["at_start"] == pytest.approx(0, abs=1e-4)
    assert test["perturbed"] >= 10 * test["tolerance"] > 0
    logs = records(run, "log")
    # A gold for every nine completions seen before the step: one in the third, one in the fourth.
    assert [log["task_samples"] for log in logs] == [8, 16, 24, 32]
    assert [log["rehearsal_samples"] for log in logs] == [0, 0, 1, 2]
    assert [log["rehearsal_kl"] is None for log in logs] == [True, True, False, False]
    assert logs[-1]["rehearsal_kl"] > 0
    assert {log["beta"] for log in logs} == {0.0}
    ended = records(run, "ended")[0]
    assert (ended["outcome"], ended["failures"]) == ("finished", 0)
    assert (run / "checkpoint-4/guardrail_state.json").is_file()
    assert (run / "report.html").is_file()
