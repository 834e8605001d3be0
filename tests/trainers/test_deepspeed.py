"""DeepSpeed ZeRO-2 and ZeRO-3 on two gloo ranks: the term, looks, a rate that is cut, and a resume.

Needs `pip install deepspeed` (with DS_BUILD_OPS=0 where there is no GPU), so it is marked `full`.
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

from guardrail.anchors.fingerprint import weights_sha256
from guardrail.kl.schedule import rehearsal_order
from guardrail.shipped import shipped_recipes
from tests.run_fixtures import arguments, guardrail, process, records, small_recipe
from tests.trainers.conftest import foreign_samples, tiny_model
from tests.trainers.test_several_ranks import facts
from tests.trainers.test_trl_sft import gradients, naive_kl_term

pytestmark = [
    pytest.mark.run,
    pytest.mark.full,
    pytest.mark.skipif(
        importlib.util.find_spec("deepspeed") is None, reason="deepspeed is not installed"
    ),
]
STAGES = [2, 3]


def started(*args: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    return process(
        [*line, "-m", "tests.trainers.deepspeed_scripts", *args],
        DS_ACCELERATOR="cpu",
        ACCELERATE_USE_DEEPSPEED="true",
    )


def launch(*args: object) -> None:
    done = started(*args)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.parametrize("stage", STAGES)
def test_term_and_gradient_are_those_of_one_process_in_float64(tmp_path, tokenizer, stage):
    for how in ("plain", "guarded"):
        launch("gradient", stage, tmp_path, how)
    plain, guarded = (np.load(tmp_path / f"{how}.npz") for how in ("plain", "guarded"))
    for run in (plain, guarded):
        assert str(run["distributed"]).endswith("DEEPSPEED")
        assert str(run["engine"]) == "DeepSpeedEngine"
        assert (int(run["stage"]), int(run["size"])) == (stage, 2)
    # The weights of the run are those of float32, the computation here is float64.
    model = tiny_model(tokenizer, seed=1, dtype=torch.float32).double()
    samples = foreign_samples(tokenizer)
    due = rehearsal_order(sorted(samples), 0, 2, seed=0)
    term = naive_kl_term(model, {name: samples[name] for name in due}, 0.7)
    assert float(term.detach()) > 0.1
    assert float(guarded["term"]) == pytest.approx(float(term.detach()), rel=1e-5)
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
            learning_rate=3e-3, lr_scheduler_type="constant", warmup_steps=0, max_steps=18, save_steps=6,
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


@pytest.mark.parametrize("stage", STAGES)
def test_a_guarded_run_looks_cuts_the_rate_and_goes_on_where_it_was(recipe, tmp_path, stage):
    run, killed = tmp_path / "run", tmp_path / "killed"
    launch("train", stage, recipe, run, "{}")
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
    assert recorded == pytest.approx([3e-3] * 3 + [3e-3 * factor] * 6)
    stepped = {str(step): 3e-3 * (factor if step > 6 else 1) for step in range(1, 19)}
    assert rates(run) == [pytest.approx(stepped)] * 2
    assert any(r["rehearsal_kl"] for r in records(run, "log"))
    weights = weights_sha256(run / "checkpoint-18")
    assert weights != weights_sha256(run / "checkpoint-12")

    done = started("train", stage, recipe, killed, json.dumps({"killed_after": 14}))
    assert "SIGKILL" in done.stderr
    assert records(killed, "log")[-1]["step"] == 12
    launch("train", stage, recipe, killed, json.dumps({"resume": True}))
    assert records(killed, "rewound")[0]["checkpoint"] == "checkpoint-12"
    assert facts(killed) == [one, two]
    after = {step: rate for step, rate in stepped.items() if int(step) > 12}
    assert rates(killed) == [pytest.approx(after)] * 2
    assert weights_sha256(killed / "checkpoint-18") == weights
    assert told(killed) == told(run)


def told(run: Path) -> list[dict[str, Any]]:
    """The ledger's live branch but for clocks, and what only a resumed run says."""
    return [
        {k: v for k, v in r.items() if k not in ("time", "seconds", "seq")}
        for kind in ("kl_self_test", "look", "tripwire", "action", "log", "checkpoint")
        for r in records(run, kind)
    ]
