"""A guarded run whose guard only looks trains bit for bit as the same run without a guard."""

import datasets
import pytest
import torch
import trl

from guardrail.ledger.file import read_ledger
from guardrail.models.load import load_model
from guardrail.recipe import read_recipe
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.trainers.attach import Guardrail
from tests.run_fixtures import anchored, small_recipe

pytestmark = [pytest.mark.run, pytest.mark.trl1, pytest.mark.filterwarnings("ignore")]

COMMON = {
    "max_steps": 5,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-4,
    "logging_steps": 1,
    "save_steps": 2,
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "seed": 7,
}


def length(completions, **columns) -> list[float]:
    return [len(completion[0]["content"]) / 100 for completion in completions]


def sft(recipe, folder):
    model, tokenizer = load_model(recipe.gold_base)
    model.config.attention_dropout = 0.1  # training draws random numbers of its own
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    rows = read_training_rows(recipe.train.data).rows[:40]
    return trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(output_dir=str(folder), max_length=128, **COMMON),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )


def grpo(recipe, folder):
    model, tokenizer = load_model(recipe.gold_base)
    rows = read_training_rows(recipe.train.data).rows[:40]
    return trl.GRPOTrainer(
        model=model,
        reward_funcs=[length],
        args=trl.GRPOConfig(
            output_dir=str(folder),
            num_generations=2,
            max_completion_length=8,
            beta=0.04,
            chat_template_kwargs={"enable_thinking": False},
            **COMMON,
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": r["messages"][:1]} for r in rows]),
        processing_class=tokenizer,
    )


@pytest.mark.parametrize("make", [sft, grpo])
def test_a_run_with_looks_and_no_actions_is_the_run_without_them(tmp_path, make):
    file = anchored(
        small_recipe(
            tmp_path,
            items_an_ability=2,
            looks={"every_steps": 1, "tripwire_every_steps": 1},
            rehearsal={"fraction": 0.01},
        )
    )
    recipe = read_recipe(file)
    plain = make(recipe, tmp_path / "plain")
    plain.train()
    guarded = make(recipe, tmp_path / "guarded")
    callback = Guardrail.from_recipe(recipe).attach(guarded)
    guarded.train()
    records = read_ledger(tmp_path / "guarded")
    assert [r["step"] for r in records if r["kind"] == "look"] == [0, 1, 2, 3, 4, 5]
    assert [r["step"] for r in records if r["kind"] == "tripwire"] == [0, 1, 2, 3, 4, 5]
    assert not any(r["kind"] in ("action", "error") for r in records)
    assert callback.guard.state.task_samples > 0, "the injection was never asked"
    assert callback.guard.state.rehearsal_seen == 0, "what was injected must show in the losses"
    aside = {
        name for name in plain.state.log_history[-1] if "per_second" in name or "runtime" in name
    }
    one, other = (
        [
            {k: v for k, v in log.items() if k not in aside and "time" not in k}
            for log in t.state.log_history
        ]
        for t in (plain, guarded)
    )
    assert one == other
    assert len({log["loss"] for log in one if "loss" in log}) == 5
    for a, b in zip(plain.model.parameters(), guarded.model.parameters(), strict=True):
        assert torch.equal(a, b)
