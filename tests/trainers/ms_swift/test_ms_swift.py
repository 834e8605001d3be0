"""ms-swift for real, in processes of its own: its trainers' gradients, and guarded `swift` commands.

What is measured inside its trainers lies in swift_scripts.py and swift_grpo_scripts.py, for importing
`swift` patches transformers.
"""

import json
import shutil

import pytest
from safetensors.torch import load_file

from guardrail.errors import InputError
from guardrail.ledger.file import read_ledger
from guardrail.models.fingerprint import weights_sha256
from guardrail.trainers.ms_swift.plugin import RECIPE_VARIABLE, recipe_from_environment
from tests.run_fixtures import records, small_recipe
from tests.trainers.ms_swift.swift_fixtures import (
    RECKLESS,
    measured,
    reckless_recipe,
    rows,
    run_folder,
    short_recipe,
    warm_swift,
)

pytestmark = [pytest.mark.run, pytest.mark.swift]


# --- Inside ms-swift's trainers. ------------------------------------------------------------------


@pytest.fixture(scope="module")
def sft_facts(tmp_path_factory):
    return measured("swift_scripts", tmp_path_factory.mktemp("sft"))


@pytest.fixture(scope="module")
def grpo_facts(tmp_path_factory):
    return measured("swift_grpo_scripts", tmp_path_factory.mktemp("grpo"))


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("form", ["padded", "lora", "padding-free", "packed"])
def test_the_gradient_of_an_sft_window_is_task_plus_kl(sft_facts, form, accumulation):
    found = sft_facts[f"{form}, {accumulation}"]
    assert found["size"] > 0.1
    assert found["error"] < 1e-5


def test_samples_of_flattened_rows_are_counted_one_by_one(sft_facts):
    for accumulation in (1, 4):
        for form in ("padded", "lora", "padding-free"):
            assert sft_facts[f"{form}, {accumulation}"]["samples"] == 4 * accumulation
    # Four packs of up to 400 tokens hold three dialogues each; sixteen packs hold all there are.
    assert sft_facts["packed, 1"]["samples"] == 12
    assert sft_facts["packed, 4"]["samples"] == sft_facts["packed, 4"]["rows"]
    tripwire = sft_facts["packed rows"]
    assert tripwire["samples"] == sft_facts["packed, 4"]["rows"] > tripwire["rows"] > 1


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("tuner", ["full", "lora", "lora at beta 0"])
def test_kl_only_prompts_of_grpo_add_their_k3_and_nothing_else(grpo_facts, tuner, accumulation):
    found = grpo_facts[f"{tuner}, {accumulation}"]
    assert found["size"] > 0.1
    assert found["error"] < 1e-5
    assert found["mean"] * 0.6 == pytest.approx(found["term"], rel=1e-5)
    assert found["held"] == found["rehearsal"] == 3
    assert found["samples"] == 4 * accumulation
    assert found["asked"] > 0
    assert found["scored"] == 0, "a reward function saw KL-only prompts"
    expected = 0 if "beta 0" in tuner else 1e-12
    assert found["beta"] == expected, "the boost is the KL-only weight's; beta stays as it is"


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("tuner", ["full", "lora"])
def test_golds_beside_grpo_add_their_kl_and_nothing_else(grpo_facts, tuner, accumulation):
    found = grpo_facts[f"golds, {tuner}, {accumulation}"]
    assert found["size"] > 0.1
    assert found["error"] < 1e-5
    assert found["mean"] * 0.6 == pytest.approx(found["term"], rel=1e-5)
    assert found["samples"] == 4 * accumulation
    assert found["rehearsal"] == 3


def test_what_cannot_be_guarded_is_refused_by_name(sft_facts, grpo_facts):
    assert sft_facts["accepted"] == ""
    assert "`--resume_only_model True`" in sft_facts["option"]
    assert (
        """--gradient_checkpointing_kwargs '{"use_reentrant": false}'""" in sft_facts["reentrant"]
    )
    assert sft_facts["not reentrant"] == ""
    assert "`--adapters`" in sft_facts["adapter"]
    assert "merge" in sft_facts["adapter"].lower()
    assert "`Seq2SeqTrainer._save_checkpoint` is absent" in sft_facts["no seam"]
    assert "supported is ms-swift from 4.6 below 4.7" in sft_facts["no seam"]
    assert sft_facts["newer"] == "sft"
    assert "too old to be guarded; supported is ms-swift from 4.7 below 4.8" in sft_facts["older"]
    assert "`qwen2_5_vl` takes pictures" in sft_facts["pictures"]
    for option in ("kl_in_reward", "dynamic_sample", "sync_ref_model"):
        assert f"`--{option} " in grpo_facts[option]
    assert "full fine-tuning at beta 0 has none; set `beta` above 0" in grpo_facts["beta"]
    for key, option in (("kl_reference", "--ref_model"), ("start_model", "--model")):
        assert f"the recipe's `{key}` is" in grpo_facts[key]
        assert f"`{option}` is" in grpo_facts[key]


def test_what_nobody_asked_for_by_name_gives_way_to_golds(grpo_facts):
    for option in ("kl_in_reward", "dynamic_sample", "sync_ref_model"):
        form = grpo_facts[f"{option}, form"]
        assert (form["form"], form["reason"]) == ("anchored", "setting")
        assert form["setting"] == f"--{option}"
    for key, reason in (("beta", "no_reference"), ("kl_reference", "other_reference")):
        form = grpo_facts[f"{key}, form"]
        assert (form["form"], form["reason"]) == ("anchored", reason)


# --- `swift` as a user types it. ------------------------------------------------------------------


@pytest.fixture(scope="module")
def reckless(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reckless")
    done = warm_swift(
        f"sft --tuner_type full {RECKLESS} --split_dataset_ratio 0.2 --eval_steps 4",
        folder,
        reckless_recipe(folder),
        learning_rate=6e-3,
        warmup_steps=24,
        gradient_accumulation_steps=1,
        save_total_limit=2,
    )
    return folder, done


def test_a_reckless_sft_is_slowed_then_halted_with_a_checkpoint(reckless):
    folder, done = reckless
    assert done.returncode == 3, done.stderr[-3000:]
    assert "HALTED" in done.stdout + done.stderr
    run = run_folder(folder)
    looks = records(run, "look")
    assert looks[0]["level"] == looks[1]["level"] == "ok"
    assert "serious" in {look["level"] for look in looks}
    actions = records(run, "action")
    assert [a["action"] for a in actions][-2:] == ["repeat_look", "halt"]
    assert {"cut_lr", "raise_kl"} <= {a["action"] for a in actions}
    assert actions[-1]["after"] == {"boost": 1.5**3, "lr_factor": 0.25}
    rates = {r["step"]: r["learning_rate"] for r in records(run, "log")}
    last = max(rates)
    assert rates[last] == pytest.approx(6e-3 * last / 24 * 0.25, rel=1e-3)
    assert records(run, "log")[-1]["kl_weight"] == pytest.approx(0.02 * 1.5**3)
    ended = records(run, "ended")[0]
    assert ended["outcome"] == "halted"
    assert ended["steps"] == actions[-1]["step"] < 24
    assert (run / f"checkpoint-{ended['steps']}/model.safetensors").is_file()
    assert records(run, "checkpoint")[-1]["level"] == "serious"
    assert "HALT" in (run / "report.html").read_text(encoding="utf-8").upper()


def test_the_injected_share_and_the_kl_self_test_are_in_the_ledger(reckless):
    run = run_folder(reckless[0])
    test = records(run, "kl_self_test")[0]
    assert test["at_start"] == pytest.approx(0, abs=1e-4)
    assert test["perturbed"] >= 10 * test["tolerance"] > 0
    log = records(run, "log")[-1]
    # A window injects what its predecessors' samples make due.
    before = log["task_samples"] - 4
    assert log["rehearsal_samples"] == int(before / 9)
    assert log["share"] == pytest.approx(0.1, abs=0.03)
    assert any(r["rehearsal_kl"] for r in records(run, "log"))
    assert [r["step"] for r in records(run, "tripwire")][:2] == [0, 4]
    assert records(run, "tripwire")[1]["task_kl"] > 0.1


def test_the_last_ok_checkpoint_outlives_rotation_beside_the_best_evaluation(reckless):
    run = run_folder(reckless[0])
    ended = records(run, "ended")[0]
    saved = [r["path"] for r in records(run, "checkpoint")]
    losses = [r["held_out"] for r in records(run, "domain_loss")]
    assert losses == sorted(losses, reverse=True), "each evaluation must be the best so far"
    assert saved.index(ended["last_ok_checkpoint"]) < len(saved) - 2
    kept = {p.name for p in run.glob("checkpoint-*")}
    # The last but one had the best evaluation, which is ms-swift's own best model.
    assert kept == {ended["last_ok_checkpoint"], *saved[-2:]}


def test_a_resumed_sft_does_what_the_run_did(reckless, tmp_path):
    run = run_folder(reckless[0])
    ended = records(run, "ended")[0]
    again = tmp_path / "again"
    shutil.copytree(run, again)
    arguments = {
        "learning_rate": 6e-3,
        "warmup_steps": 24,
        "gradient_accumulation_steps": 1,
        "save_total_limit": 2,
        "resume_from_checkpoint": again / ended["last_ok_checkpoint"],
    }
    recipe = reckless[0] / "short.yaml"
    command = f"sft --tuner_type full {RECKLESS} --split_dataset_ratio 0.2 --eval_steps 4"
    elsewhere = warm_swift(command, tmp_path, recipe, **arguments)
    assert elsewhere.returncode == 2, elsewhere.stderr[-3000:]
    assert f"`--output_dir {again} --add_version false`" in elsewhere.stderr
    done = warm_swift(
        f"{command} --add_version false", tmp_path, recipe, **arguments, output_dir=again
    )
    assert done.returncode == 3, done.stderr[-3000:]
    rewound = [r for r in read_ledger(again) if r["kind"] == "rewound"]
    assert [r["checkpoint"] for r in rewound] == [ended["last_ok_checkpoint"]]
    kept = ("step", "level", "trigger", "streams", "action", "before", "after")
    for kind in ("look", "action"):
        one, other = (
            [{k: r.get(k) for k in kept} for r in records(folder, kind)] for folder in (run, again)
        )
        assert one == other
    name = f"checkpoint-{ended['steps']}"
    assert weights_sha256(again / name) == weights_sha256(run / name)


def test_lora_keeps_its_gradient_and_looks_keep_their_decoding(tmp_path):
    """With ms-swift's defaults: gradient checkpointing on, accumulation to 16 samples a step.

    Were the penalty to reach the looks, look 0 would disagree with the anchors and end the run.
    """
    recipe = short_recipe(tmp_path, looks={"every_steps": 3})
    done = warm_swift(
        "sft --tuner_type lora --max_steps 3 --split_dataset_ratio 0",
        tmp_path,
        recipe,
        repetition_penalty=20,
        learning_rate=1e-3,
        logging_steps=1,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = run_folder(tmp_path)
    assert [r["step"] for r in records(run, "look")] == [0, 3]
    assert records(run, "kl_self_test")[0]["at_start"] == pytest.approx(0, abs=1e-4)
    log = records(run, "log")[-1]
    # ms-swift keeps 43 of the 60 rows, those of at most 192 tokens, and drops no short batch.
    assert log["task_samples"] == 43
    assert log["rehearsal_samples"] == 3
    assert records(run, "ended")[0]["outcome"] == "finished"
    adapter = load_file(run / "checkpoint-3/adapter_model.safetensors")
    moved = [name for name, value in adapter.items() if "lora_B" in name and bool(value.any())]
    assert len(moved) == sum("lora_B" in name for name in adapter) > 0
    assert (run / "checkpoint-3/guardrail_state.json").is_file()


def test_a_missing_recipe_is_one_clear_message_and_exit_code_2(tmp_path, monkeypatch):
    done = warm_swift("sft --max_steps 1 --split_dataset_ratio 0", tmp_path, "")
    assert done.returncode == 2
    assert f"the environment variable {RECIPE_VARIABLE} is not set" in done.stderr
    assert "Traceback" not in done.stderr.partition("guardrail: error:")[2]
    monkeypatch.setenv(RECIPE_VARIABLE, "absent.yaml")
    with pytest.raises(InputError, match=rf"{RECIPE_VARIABLE}=absent.yaml: recipe `absent.yaml`"):
        recipe_from_environment()


def test_data_that_hold_judged_items_are_refused(tmp_path):
    recipe = small_recipe(tmp_path, items_an_ability=4)
    item = json.loads((tmp_path / "red_line.jsonl").read_text(encoding="utf-8").splitlines()[0])
    leak = rows(tmp_path)
    row = {"messages": [*item["messages"], {"role": "assistant", "content": "好"}]}
    with leak.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    leaked = tmp_path / "leaked.jsonl"
    leak.rename(leaked)
    command = "sft --tuner_type full --max_steps 1 --split_dataset_ratio 0"
    done = warm_swift(command, tmp_path, recipe, dataset=leaked)
    assert done.returncode == 2
    assert "`--dataset` contains 1 judged or benchmark prompts" in done.stderr
    assert item["id"] in done.stderr
