"""DeepSpeed ZeRO-2 and ZeRO-3 on two gloo ranks: term, looks, a rate that is cut, a kill, what is refused.

`make test-deepspeed` installs DeepSpeed and runs them.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from peft import get_peft_model

from guardrail.build_trainer import build_trainer
from guardrail.kl.schedule import rehearsal_order
from guardrail.models.fingerprint import weights_sha256
from guardrail.recipe import read_recipe
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.shipped import shipped_recipes
from tests.run_fixtures import arguments, as_yaml, guardrail, process, records, small_recipe
from tests.trainers.conftest import ADAPTER, foreign_samples, tiny_model
from tests.trainers.ranks.test_several_ranks import facts
from tests.trainers.test_trl_sft import gradients, naive_kl_term

pytestmark = [
    pytest.mark.run,
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed"
    ),
]
STAGES = [2, 3]
RATE = 3e-3


def started(*args: object, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    line += ["--nproc_per_node", str(ranks)]
    return process(
        [*line, "-m", "tests.trainers.ranks.deepspeed_scripts", *args],
        DS_ACCELERATOR="cpu",
        ACCELERATE_USE_DEEPSPEED="true",
        # Two environments that share torch's folder build the same operator anew in turns, and one that is
        # killed over it leaves a lock on which the other waits for ever.
        TORCH_EXTENSIONS_DIR=Path(sys.prefix, "torch_extensions"),
    )


def launch(*args: object) -> None:
    done = started(*args)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("stage", STAGES)
def test_term_and_gradient_are_those_of_one_process_in_float64(tmp_path, tokenizer, stage):
    plain, guarded = (windows(tmp_path, stage, how) for how in ("plain", "guarded"))
    # The weights of the run are those of float32, the computation here is float64.
    model = tiny_model(tokenizer, seed=1, dtype=torch.float32).double()
    agree(plain, guarded, model, naive_kl_term(model, first_two(tokenizer), 0.7))


@pytest.mark.parametrize("stage", STAGES)
def test_so_they_are_on_an_adapter_also_against_the_model_below_it(tmp_path, tokenizer, stage):
    plain, stored, off = (
        windows(tmp_path, stage, how) for how in ("lora-plain", "lora-guarded", "lora-off-guarded")
    )
    model = get_peft_model(tiny_model(tokenizer, seed=1, dtype=torch.float32), ADAPTER)
    model.load_state_dict(torch.load(tmp_path / "lora-plain.pt"))
    model = model.double()
    samples = first_two(tokenizer)
    agree(plain, stored, model, naive_kl_term(model, samples, 0.7))
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for sample in samples.values():
        row = torch.tensor([[*sample.prompt, *sample.gold]])
        here = slice(len(sample.prompt) - 1, -1)
        q = torch.log_softmax(model(input_ids=row).logits[0, here], -1)
        with torch.no_grad(), model.disable_adapter():
            p = torch.log_softmax(model(input_ids=row).logits[0, here], -1)
        total = total + (p.exp() * (p - q)).sum()
        tokens += len(sample.gold)
    agree(plain, off, model, 0.7 * total / tokens)


def windows(folder: Path, stage: int, how: str) -> dict[str, Any]:
    """What `deepspeed_scripts gradient` found."""
    launch("gradient", stage, folder, how)
    found = dict(np.load(folder / f"{how}.npz"))
    assert str(found["distributed"]).endswith("DEEPSPEED")
    assert str(found["engine"]) == "DeepSpeedEngine"
    assert (int(found["stage"]), int(found["size"])) == (stage, 2)
    return found


def first_two(tokenizer: Any) -> dict[str, Any]:
    """The samples due in the window, one a rank."""
    samples = foreign_samples(tokenizer)
    return {name: samples[name] for name in rehearsal_order(sorted(samples), 0, 2, seed=0)}


def agree(plain: dict[str, Any], guarded: dict[str, Any], model: Any, term: torch.Tensor) -> None:
    """The term's value and what it adds to the gradient are those of the model here."""
    assert float(term.detach()) > 1e-3
    assert float(guarded["term"]) == pytest.approx(float(term.detach()), rel=1e-5)
    model.zero_grad()
    term.backward()
    expected = gradients(model)
    difference = guarded["gradient"] - plain["gradient"] - expected
    assert np.linalg.norm(difference) / np.linalg.norm(expected) < 1e-5


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A rate at which the guard cuts the rate at step 6 of 18; nothing is ever critical."""
    folder = tmp_path_factory.mktemp("recipe")
    margins = yaml.safe_load(shipped_recipes()["toy-sft"].read_text(encoding="utf-8"))["drift"][
        "margins"
    ]
    file = small_recipe(
        folder,
        items_an_ability=6,
        looks={"every_steps": 6, "tripwire_every_steps": 6},
        train=arguments(
            learning_rate=RATE, lr_scheduler_type="constant", warmup_steps=0, max_steps=18, save_steps=6,
        ),
        drift={"margins": {name: one | {"critical": 50.0} for name, one in margins.items()}},
    )  # fmt: skip
    made = guardrail("anchor", file, cwd=folder)
    assert made.returncode == 0, made.stderr
    return file


def rates(run: Path) -> list[dict[str, float]]:
    """What each rank's optimizer stepped with, by step."""
    files = sorted(run.glob("rates-*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


LORA = {"lora": True, "arguments": {"learning_rate": RATE * 10}}
# TRL checkpoints gradients on an adapter under ZeRO-3 in a way that the guard refuses.
LORA_UNDER_ZERO3 = LORA | {"arguments": LORA["arguments"] | {"gradient_checkpointing": False}}
OWN_OPTIMIZER = {
    "deepspeed": {
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "torch_adam": True}},
    }
}


@pytest.mark.parametrize(
    ("stage", "options"),
    [(2, {}), (3, {}), (2, LORA), (3, LORA_UNDER_ZERO3), (2, OWN_OPTIMIZER), (3, OWN_OPTIMIZER)],
    ids=["2", "3", "2-lora", "3-lora", "2-its-own-optimizer", "3-its-own-optimizer"],
)
def test_a_guarded_run_looks_cuts_the_rate_and_goes_on_where_it_was(
    recipe, tmp_path, stage, options
):
    run, killed = tmp_path / "run", tmp_path / "killed"
    rate = RATE * 10 if options.get("lora") else RATE
    launch("train", stage, recipe, run, json.dumps(options))
    one, two = facts(run)
    assert one["distributed"].endswith("DEEPSPEED")
    assert one["wrapped"] == "DeepSpeedEngine"
    assert {k: one[k] for k in one if k != "rank"} == {k: two[k] for k in two if k != "rank"}
    looks = records(run, "look")
    assert [r["step"] for r in looks] == [0, 6, 12, 18]
    cut = next(r for r in records(run, "action") if r["action"] == "cut_lr")
    assert cut["step"] == 6
    factor = cut["after"]["lr_factor"]
    assert factor < 1
    recorded = [r["learning_rate"] for r in records(run, "log")]
    assert recorded == pytest.approx([rate] * 3 + [rate * factor] * 6)
    stepped = {str(step): rate * (factor if step > 6 else 1) for step in range(1, 19)}
    assert rates(run) == [pytest.approx(stepped)] * 2
    assert any(r["rehearsal_kl"] for r in records(run, "log"))
    weights = weights_sha256(run / "checkpoint-18")
    assert weights != weights_sha256(run / "checkpoint-12")

    done = started("train", stage, recipe, killed, json.dumps(options | {"killed_after": 14}))
    assert "SIGKILL" in done.stderr
    assert records(killed, "log")[-1]["step"] == 12
    launch("train", stage, recipe, killed, json.dumps(options | {"resume": True}))
    assert records(killed, "rewound")[0]["checkpoint"] == "checkpoint-12"
    assert facts(killed) == [one, two]
    after = {step: rate for step, rate in stepped.items() if int(step) > 12}
    assert rates(killed) == [pytest.approx(after)] * 2
    assert weights_sha256(killed / "checkpoint-18") == weights
    assert told(killed) == told(run)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.filterwarnings("ignore")
def test_the_loss_on_held_out_rows_is_measured_before_and_after(recipe, tmp_path, stage):
    train = read_recipe(recipe).train
    one_step = {"max_steps": 1, "per_device_eval_batch_size": 1}
    held_out = 20 / len(read_training_rows(train.data).rows)
    changes = {"held_out": held_out, "arguments": train.arguments | one_step}
    file = changed(recipe, tmp_path, {"train": changes})
    run = tmp_path / "run"
    launch("whole", stage, file, run)
    losses = {r["step"]: r["held_out"] for r in records(run, "domain_loss")}
    assert list(losses) == [0, 1]
    # One process with the same batches: the Trainer weighs the rows of all ranks' batch by their tokens.
    whole = {"held_out": held_out, "arguments": train.arguments | {"per_device_eval_batch_size": 2}}
    checked = read_recipe(changed(recipe, tmp_path, {"train": whole}))
    alone = build_trainer(checked, read_training_rows(checked.train.data).rows, tmp_path / "alone")
    assert losses[0] == pytest.approx(alone.evaluate()["eval_loss"], rel=1e-5)
    assert 1.0 < losses[1] != losses[0]
    assert facts(run) == [{"before": losses[0], "after": losses[1]}] * 2


@pytest.mark.parametrize(
    ("stage", "changes", "options", "message"),
    [
        (3, {"rehearsal": {"reference": "frozen"}}, {},
         "`rehearsal.reference: frozen` does not go with ZeRO-3"),
        (3, {}, {"lora": True}, "gradient checkpointing with `use_reentrant`"),
        (2, {}, {"arguments": {"gradient_checkpointing_kwargs": {"use_reentrant": True}}},
         "gradient checkpointing with `use_reentrant`"),
        (2, {}, {"deepspeed": {"scheduler": {"type": "WarmupLR", "params": {}}}},
         "the DeepSpeed config has a `scheduler` (WarmupLR)"),
    ],
    ids=["frozen reference", "checkpointing on LoRA", "checkpointing", "scheduler"],
)  # fmt: skip
def test_what_cannot_be_guarded_is_refused(recipe, tmp_path, stage, changes, options, message):
    file = changed(recipe, tmp_path, changes)
    done = started("train", stage, file, tmp_path / "run", json.dumps(options))
    assert done.returncode != 0
    assert f"InputError: {message}" in done.stderr
    assert not (tmp_path / "run/ledger.jsonl").exists()


def test_anchors_are_not_made_under_zero3_even_by_one_process(recipe, tmp_path):
    file = changed(recipe, tmp_path, {"anchors": str(tmp_path / "absent")})
    done = started("train", 3, file, tmp_path / "run", "{}", ranks=1)
    assert done.returncode != 0
    assert "are absent, and they cannot be made under ZeRO-3" in done.stderr
    assert not (tmp_path / "absent").exists()


def test_a_run_goes_on_after_a_look_that_failed_under_zero3(recipe, tmp_path):
    train = read_recipe(recipe).train
    steps = {"max_steps": 4, "save_steps": 2}
    changes = {"on_error": "continue", "train": {"arguments": train.arguments | steps}}
    file, run = changed(recipe, tmp_path, changes), tmp_path / "run"
    launch("train", 3, file, run, json.dumps({"failing_rank": 1, "failing_step": 2}))
    assert [(r["step"], r["then"]) for r in records(run, "error")] == [
        (2, "continue"),
        (4, "continue"),
    ]
    assert [one["step"] for one in facts(run)] == [4, 4]


def changed(recipe: Path, folder: Path, changes: dict[str, Any]) -> Path:
    """The recipe with other values, merged one level deep."""
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    file = folder / "changed.yaml"
    file.write_text(as_yaml(content), encoding="utf-8")
    return file


def told(run: Path) -> list[dict[str, Any]]:
    """The ledger's live branch but for clocks, and what only a resumed run says."""
    return [
        {k: v for k, v in r.items() if k not in ("time", "seconds", "seq")}
        for kind in ("kl_self_test", "look", "tripwire", "action", "log", "checkpoint")
        for r in records(run, kind)
    ]
