"""GRPO at the trainers' own default, `beta` 0, with real architectures in bf16: from anchors to report."""

from pathlib import Path

import pytest
import torch
import transformers

from guardrail.errors import InputError
from guardrail.recipe import read_recipe
from guardrail.report.report import build_report
from guardrail.run import run_recipe
from guardrail.shipped import shipped_root
from guardrail.trainers.trl.grpo_form import recipe_form
from tests.commands.test_run_grpo import grpo_recipe
from tests.run_fixtures import records
from tests.trainers.grpo.grpo_fixtures import HERE, MARKS

pytestmark = [*MARKS, pytest.mark.run]

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def bf16_base(folder: Path, *, experts: bool) -> Path:
    """A random Qwen3, or Qwen3-MoE with a router loss in its config, in bf16 on disk, with the toy's tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(shipped_root() / "recipes/toy/base")
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    shape = {**SHAPE, **ends, "vocab_size": len(tokenizer), "bos_token_id": None}
    torch.manual_seed(0)
    if experts:
        config = transformers.Qwen3MoeConfig(**shape, **EXPERTS, router_aux_loss_coef=0.01)
        model = transformers.Qwen3MoeForCausalLM(config)
    else:
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**shape))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe_at_beta_zero(folder: Path, *, experts: bool = False, lora: bool = True, **rehearsal):
    """Three steps whose recipe names no form of KL-only samples, unless `rehearsal` does."""
    file = grpo_recipe(
        folder,
        items_an_ability=2,
        gold_base=str(bf16_base(folder / "base", experts=experts)),
        rehearsal={"fraction": 0.1, "allow_large_fraction": True, "grpo": None} | rehearsal,
        looks={"every_steps": 3, "tripwire_every_steps": 0, "benchmark_questions": 0}
        | {"decoding": {"mode": "greedy", "max_new_tokens": 8}},
        arguments={"max_steps": 3, "save_steps": 3, "num_generations": 2}
        | {"beta": 0.0, "learning_rate": 1e-3},
    )
    recipe = read_recipe(file)
    adapter = {"r": 4, "target_modules": ["q_proj", "v_proj"]} if lora else None
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"lora": adapter})})


def finished_run(folder: Path, recipe) -> tuple[Path, str]:
    """The run's folder and its report, as text."""
    run = folder / "run"
    run_recipe(recipe, run)
    assert records(run, "ended")[0]["steps"] == 3
    return run, build_report(run, language="en").read_text(encoding="utf-8")


def form_of(run: Path) -> tuple[str, str]:
    form = records(run, "started")[0]["rehearsal_form"]
    return form["form"], form["reason"]


def test_lora_pulls_general_prompts_to_the_model_without_its_adapter(tmp_path):
    recipe = recipe_at_beta_zero(tmp_path)
    promised = recipe_form(recipe)
    run, report = finished_run(tmp_path, recipe)
    assert form_of(run) == ("literal", "adapter_off") == (promised.name, promised.reason)
    assert "the model with its adapter off is the KL reference" in report
    logs = records(run, "log")
    # Four prompts a step, of which the tenth is general.
    assert [(log["task_samples"], log["rehearsal_samples"]) for log in logs] == [
        (4, 0),
        (8, 0),
        (11, 1),
    ]
    assert [log["rehearsal_kl"] is None for log in logs] == [True, True, False]
    assert 0 < logs[-1]["rehearsal_kl"] < 1
    assert {log["beta"] for log in logs} == {0.0}


def test_a_router_loss_keeps_general_prompts_out_of_the_rollouts(tmp_path):
    """TRL 1.16 adds the model's own router loss to GRPO's; 0.29 adds none, whatever the model's config says."""
    recipe = recipe_at_beta_zero(tmp_path, experts=True)
    promised = recipe_form(recipe)
    run, report = finished_run(tmp_path, recipe)
    assert form_of(run) == (promised.name, promised.reason)
    if HERE.first == "0.29":
        assert form_of(run) == ("literal", "adapter_off")
    else:
        assert form_of(run) == ("anchored", "router_loss")
        assert "the MoE router loss would act on general prompts" in report
    assert any(log["rehearsal_kl"] for log in records(run, "log"))


def test_full_fine_tuning_takes_golds_and_refuses_prompts_by_name(tmp_path):
    recipe = recipe_at_beta_zero(tmp_path, lora=False)
    asked = recipe.rehearsal.model_copy(update={"grpo": "literal"})
    with pytest.raises(InputError, match=r"at beta 0 has none; set `beta` above 0 .* anchored`"):
        run_recipe(recipe.model_copy(update={"rehearsal": asked}), tmp_path / "refused")
    assert not Path(str(recipe.anchors)).exists(), "refused too late"
    run, report = finished_run(tmp_path, recipe)
    assert form_of(run) == ("anchored", "no_reference")
    assert "full fine-tuning at beta 0 has no reference model" in report
    log = records(run, "log")[-1]
    assert (log["task_samples"], log["rehearsal_samples"]) == (24, 1)
    assert log["rehearsal_kl"] > 0
