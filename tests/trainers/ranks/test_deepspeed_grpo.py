"""TRL's GRPO under DeepSpeed ZeRO-2 and ZeRO-3 on two gloo ranks: both forms' terms, guarded runs, a kill.

`make test-deepspeed` installs DeepSpeed and runs them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from peft import get_peft_model

from guardrail.models.fingerprint import weights_sha256
from guardrail.shipped import shipped_recipes
from guardrail.trainers.trl.grpo_mixing import KL_ONLY
from tests.run_fixtures import guardrail, records, small_recipe
from tests.trainers.conftest import ADAPTER, naive_kl_term, tiny_model
from tests.trainers.grpo.grpo_fixtures import gradient_of, naive_k3, perturb
from tests.trainers.ranks import test_deepspeed
from tests.trainers.ranks.test_deepspeed import (
    STAGES,
    changed,
    first_two,
    launch,
    rates,
    started,
    told,
)
from tests.trainers.ranks.test_several_ranks import facts

pytestmark = test_deepspeed.pytestmark
KEYS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", KL_ONLY)


@pytest.mark.parametrize("stage", STAGES)
def test_terms_and_gradients_are_those_of_one_process_in_float64(tmp_path, base, tokenizer, stage):
    launch("grpo_gradients", stage, base, tmp_path)
    # The weights of the run are those of float32, the computation here is float64.
    policy, below = (tiny_model(tokenizer, seed=1, dtype=torch.float32) for _ in range(2))
    perturb(policy)
    adapted = get_peft_model(tiny_model(tokenizer, seed=1, dtype=torch.float32), ADAPTER)
    adapted.load_state_dict(torch.load(tmp_path / "lora.pt"))
    for how, model in (("literal", policy.double()), ("lora-literal", adapted.double())):
        plain, guarded = (ranks(tmp_path, stage, how, weight) for weight in (0.0, 0.7))
        batches = [
            {key: torch.from_numpy(rank[f"{key}/{number}"]) for key in KEYS}
            for rank in guarded
            for number in (0, 1)
        ]
        general = [int(batch[KL_ONLY].sum()) for batch in batches]
        assert sorted([sum(general[:2]), sum(general[2:])]) == [0, 2], "one rank has them all"
        kl_only, task = (
            mean_gradient(model, below.double(), batches, kl_only=kind) for kind in (True, False)
        )
        agree(guarded[0]["gradient"] - plain[0]["gradient"], 0.7 * kl_only)
        agree(plain[0]["gradient"], 0.3 * task)  # beta acts on the task rows alone
        assert [rank["counts"][:2].tolist() for rank in guarded] == [[3, 1]] * 2
        assert sorted(int(rank["counts"][2]) for rank in guarded) == [2, 4]
    plain, guarded = (ranks(tmp_path, stage, "anchored", weight) for weight in (0.0, 0.7))
    term = naive_kl_term(policy, first_two(tokenizer), 0.7)
    agree(guarded[0]["gradient"] - plain[0]["gradient"], gradient_of(policy, term))


def ranks(folder: Path, stage: int, how: str, weight: float) -> list[dict[str, Any]]:
    """What `deepspeed_scripts grpo_gradients` found, by rank."""
    found = [dict(np.load(folder / f"{how}-{weight}-rank{rank}.npz")) for rank in (0, 1)]
    for one in found:
        assert (str(one["engine"]), int(one["stage"])) == ("DeepSpeedEngine", stage)
    return found


def mean_gradient(model: Any, below: Any, batches: list[Any], *, kl_only: bool) -> np.ndarray:
    """The gradient of the mean k3 a token of one kind of rows of all ranks."""

    def without_adapter(input_ids: torch.Tensor) -> Any:
        with model.disable_adapter():
            return model(input_ids=input_ids)

    reference = without_adapter if hasattr(model, "peft_config") else below
    sums = [naive_k3(model, reference, batch, kl_only=kl_only) for batch in batches]
    return gradient_of(model, sum(total for total, _ in sums) / sum(n for _, n in sums))


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.linalg.norm(expected) > 1e-3, "nothing to compare with"
    assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 1e-5


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """Six steps with looks at which nothing is ever critical."""
    folder = tmp_path_factory.mktemp("recipe")
    toy = yaml.safe_load(shipped_recipes()["toy-sft"].read_text(encoding="utf-8"))
    margins = toy["drift"]["margins"]
    file = small_recipe(
        folder,
        items_an_ability=6,
        looks={"every_steps": 2, "tripwire_every_steps": 2},
        trainer="trl-grpo",
        train={"held_out": 0.0, "arguments": {}},
        drift={"margins": {name: one | {"critical": 50.0} for name, one in margins.items()}},
    )
    made = guardrail("anchor", file, cwd=folder)
    assert made.returncode == 0, made.stderr
    return file


RECKLESS = {"learning_rate": 3e-3, "lr_scheduler_type": "constant"}
"""The guard cuts the rate before the last look."""


def check_run(run: Path, *, task_samples: int, rehearsal_seen: int, rate: float = 3e-3) -> None:
    """Both ranks agree, the cut was in force, and a look fell on every checkpoint."""
    one, two = facts(run)
    assert one["wrapped"] == "DeepSpeedEngine"
    assert {k: one[k] for k in one if k != "rank"} == {k: two[k] for k in two if k != "rank"}
    assert (one["task_samples"], one["rehearsal_seen"]) == (task_samples, rehearsal_seen)
    assert [r["step"] for r in records(run, "look")] == [0, 2, 4, 6]
    assert [r["step"] for r in records(run, "checkpoint")] == [2, 4, 6]
    (cut,) = (r for r in records(run, "action") if r["action"] == "cut_lr")
    assert cut["step"] < 6
    factor = cut["after"]["lr_factor"]
    assert factor < 1
    stepped = {str(step): rate * (factor if step > cut["step"] else 1) for step in range(1, 7)}
    first = 7 - len(rates(run)[0])  # a resumed run knows its own steps alone
    expected = {step: rate for step, rate in stepped.items() if int(step) >= first}
    assert rates(run) == [pytest.approx(expected)] * 2
    assert any(r["rehearsal_kl"] for r in records(run, "log"))
    weights = [weights_sha256(run / f"checkpoint-{step}") for step in (2, 4, 6)]
    assert len(set(weights)) == 3


@pytest.mark.parametrize("stage", STAGES)
def test_a_guarded_run_looks_cuts_the_rate_and_goes_on_where_it_was(recipe, tmp_path, stage):
    run, killed = tmp_path / "run", tmp_path / "killed"
    launch("grpo", stage, recipe, run, json.dumps({"arguments": RECKLESS}))
    # Four prompts a step, of which 5 % are general.
    check_run(run, task_samples=23, rehearsal_seen=1)
    options = {"arguments": RECKLESS, "killed_after": 5}
    done = started("grpo", stage, recipe, killed, json.dumps(options))
    assert "SIGKILL" in done.stderr
    launch("grpo", stage, recipe, killed, json.dumps({"arguments": RECKLESS, "resume": True}))
    assert records(killed, "rewound")[0]["checkpoint"] == "checkpoint-4"
    check_run(killed, task_samples=23, rehearsal_seen=1)
    assert sorted(rates(killed)[0]) == ["5", "6"]
    assert facts(killed) == facts(run)
    last = "checkpoint-6"
    assert weights_sha256(killed / last) == weights_sha256(run / last)
    assert told(killed) == told(run)


@pytest.mark.parametrize(
    ("stage", "form", "lora"),
    [(2, "anchored", False), (3, "anchored", False), (3, "literal", True)],
    ids=["2-golds", "3-golds", "3-lora"],
)
def test_so_it_does_with_golds_beside_the_loss_and_on_an_adapter(
    recipe, tmp_path, stage, form, lora
):
    file, run = changed(recipe, tmp_path, {"rehearsal": {"grpo": form}}), tmp_path / "run"
    rate = 0.1 if lora else 3e-3
    options = {"arguments": RECKLESS | {"learning_rate": rate}, "lora": lora}
    launch("grpo", stage, file, run, json.dumps(options))
    # Golds are due by the completions, 16 a step.
    seen = (23, 1) if form == "literal" else (96, 4)
    check_run(run, task_samples=seen[0], rehearsal_seen=seen[1], rate=rate)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_a_rollout_engine_is_handed_weights_that_lie_in_pieces(recipe, tmp_path, lora):
    """DeepSpeed refuses to gather what is gathered already, and forgets what is written into gathered weights."""
    run = tmp_path / "run"
    options = {"arguments": RECKLESS | {"max_steps": 2}, "lora": lora}
    launch("rollout", 3, recipe, run, json.dumps(options))
    (handover,) = records(run, "handover_test")
    first, last = records(run, "look")
    for proof in (handover, first["proof"]):
        assert proof["share"] == pytest.approx(1, abs=0.01)
    assert last["proof"]["off"] <= 3 * last["proof"]["noise"]
    assert first["failed_pipeline_check"] == []
