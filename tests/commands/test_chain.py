"""The usual chain: original → guarded SFT → guarded GRPO from that Base-SFT, golds from the original.

What the SFT lost is inherited, what the GRPO loses is new; the KL pulls to the Base-SFT.
"""

import json

import pytest
import yaml
from peft import PeftModel

from guardrail.ledger.file import live_records, read_ledger
from guardrail.models.fingerprint import weights_sha256
from guardrail.models.load import load_model
from guardrail.shipped import shipped_root
from tests.commands.test_run_grpo import grpo_recipe
from tests.run_fixtures import anchored, arguments, as_yaml, guardrail, records, small_recipe

BASE = shipped_root() / "recipes/toy/base"
LORA = {"r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"]}


def base_sft(folder):
    """The adapter of a guarded SFT that goes too far before its first look: there is harm to inherit."""
    recipe = anchored(
        small_recipe(
            folder,
            items_an_ability=8,
            rehearsal={"weight": 0.02},
            train=arguments(learning_rate=8e-3, max_steps=16, save_steps=16) | {"lora": LORA},
            looks={"every_steps": 16, "tripwire_every_steps": 0},
        )
    )
    done = guardrail("run", recipe, "--out", folder / "sft", cwd=folder)
    assert done.returncode in (0, 3), done.stderr[-3000:]  # the guard may halt it at its end
    adapter = folder / "sft/checkpoints/checkpoint-16"
    assert (adapter / "adapter_model.safetensors").is_file()
    return adapter


def merged(adapter, folder):
    model, tokenizer = load_model(BASE)
    PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("unmerged", marks=[pytest.mark.run, pytest.mark.trl1]),
        pytest.param("merged", marks=pytest.mark.full),
    ],
)
def test_grpo_from_a_base_sft_tells_inherited_from_new_harm(tmp_path, kind):
    start = base_sft(tmp_path)
    if kind == "merged":
        start = merged(start, tmp_path / "merged")
    recipe = grpo_recipe(
        tmp_path,
        items_an_ability=8,
        start_model=str(start),
        kl_reference=str(start),
        anchors=str(tmp_path / "anchors-grpo"),
        rehearsal={"grpo": "both", "fraction": 0.1, "allow_large_fraction": True},
        arguments={"learning_rate": 1e-5, "max_steps": 4},
    )
    refused = guardrail("run", recipe, "--out", tmp_path / "refused", cwd=tmp_path)
    assert refused.returncode == 2, refused.stderr[-3000:]
    assert "`on_inherited: judge_new`" in refused.stderr
    content = yaml.safe_load(recipe.read_text(encoding="utf-8")) | {"on_inherited": "judge_new"}
    recipe.write_text(as_yaml(content), encoding="utf-8")
    run = tmp_path / "grpo"
    done = guardrail("run", recipe, "--out", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]

    manifest = json.loads((tmp_path / "anchors-grpo/manifest.json").read_text(encoding="utf-8"))
    assert manifest["gold_base"]["weights"] == weights_sha256(BASE)
    assert manifest["kl_reference"]["weights"] == weights_sha256(start) != weights_sha256(BASE)
    # The trainer's own reference is the Base-SFT: at the start the KL is 0, and it sees a perturbation.
    test = records(run, "kl_self_test")[0]
    assert test["at_start"] == pytest.approx(0, abs=1e-6)
    assert test["perturbed"] >= 10 * test["tolerance"] > 0
    # So is the golds' stored one: to the original the Base-SFT would be whole nats away.
    kls = [log["golds"]["rehearsal_kl"] for log in records(run, "log")]
    assert 0 <= max(kl for kl in kls if kl is not None) < 0.05

    first, *later = records(run, "look")
    assert first["inherited"] is True
    assert first["level"] != "ok"
    passed = {look["step"]: overall(look) for look in (first, *later)}
    assert passed[0]["base"] - passed[0]["now"] > 0.3, "the SFT must have done harm"
    # New harm is measured from what the start model answered, not from the original.
    assert passed[4]["base"] == pytest.approx(passed[0]["now"])
    assert [look["level"] for look in later] == ["ok"]
    assert not any(r["kind"] == "action" for r in live_records(read_ledger(run)))
    both = json.loads((run / "report.json").read_text(encoding="utf-8"))["inherited"][0]
    assert both == {
        "group": "overall",
        "gold_base": pytest.approx(passed[0]["base"]),
        "start": pytest.approx(passed[0]["now"]),
        "now": pytest.approx(passed[4]["now"]),
    }


def overall(look):
    return next(s for s in look["streams"] if (s["metric"], s["group"]) == ("passed", "overall"))
