"""Two processes on one machine: the same schedule, verdicts and levers, and one ledger."""

import json
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from guardrail.engines.in_process import InProcessEngine
from guardrail.guard.measure_look import SEED_STRIDE
from guardrail.kl.schedule import rehearsal_order
from guardrail.ledger.file import read_ledger
from guardrail.models.end_of_turn import resolve_profile
from guardrail.models.load import load_model
from guardrail.recipe import read_recipe
from guardrail.sets.items import read_items
from tests.run_fixtures import (
    ROOT,
    anchored,
    logged,
    places_of,
    records,
    script,
    script_line,
    small_recipe,
    wait,
)
from tests.trainers.conftest import foreign_samples, tiny_model
from tests.trainers.test_trl_sft import gradients, naive_kl_term
from tests.warm import WarmProcess

pytestmark = pytest.mark.run


def launch(*args: object, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    return script("trainers.ranks.ranks_scripts", *args, ranks=ranks)


def facts(run: Path) -> list[dict[str, object]]:
    files = sorted(run.glob("rank-*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


@pytest.mark.trl1
def test_the_kl_gradient_of_two_ranks_is_that_of_one_process(tmp_path, tokenizer):
    for how in ("plain", "guarded"):
        done = launch("gradient", tmp_path, how)
        assert done.returncode == 0, done.stderr[-3000:]
    plain, guarded = (np.load(tmp_path / f"{how}.npz") for how in ("plain", "guarded"))
    assert str(plain["wrapped"]) == "DistributedDataParallel"
    assert str(plain["distributed"]).endswith("MULTI_CPU")
    model = tiny_model(tokenizer, seed=1)
    samples = foreign_samples(tokenizer)
    due = rehearsal_order(sorted(samples), 0, 4, seed=0)
    term = naive_kl_term(model, {n: samples[name] for n, name in enumerate(due)}, 0.7)
    assert float(term.detach()) > 0.1
    term.backward()
    expected = gradients(model)
    difference = guarded["gradient"] - plain["gradient"] - expected
    assert np.linalg.norm(difference) / np.linalg.norm(expected) < 1e-5


def test_the_kl_gradient_on_an_fsdp2_model_is_that_of_one_process(tmp_path, tokenizer):
    done = launch("sharded", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.load(tmp_path / "sharded.npz")
    assert found["kinds"].tolist() == ["DTensor"]
    assert str(found["wrapped"]).startswith("FSDP")
    assert 0.4 < float(found["share"]) < 0.6, "each of two ranks holds half of the weights"
    model = tiny_model(tokenizer, seed=1)
    samples = foreign_samples(tokenizer)
    due = rehearsal_order(sorted(samples), 0, 4, seed=0)
    term = naive_kl_term(model, {n: samples[name] for n, name in enumerate(due)}, 0.7)
    assert float(found["term"]) == pytest.approx(float(term.detach()), rel=1e-5)
    term.backward()
    expected = gradients(model)
    assert np.linalg.norm(found["gradient"] - expected) / np.linalg.norm(expected) < 1e-5


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    """A short recipe whose anchors are made, as several processes demand."""
    folder = tmp_path_factory.mktemp("recipe")
    return anchored(small_recipe(folder, items_an_ability=4))


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory) -> Path:
    """A run of two ranks that nobody interrupts."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done = launch("train", recipe, run, "{}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("  look 0 ") == 1  # one rank speaks
    return run


@pytest.mark.trl1
def test_two_ranks_share_looks_and_agree(whole):
    one, two = facts(whole)
    assert one["wrapped"] == "DistributedDataParallel"
    same = one.keys() - {"rank"}
    assert {k: one[k] for k in same} == {k: two[k] for k in same}
    assert (one["step"], one["task_samples"], one["rehearsal_seen"]) == (12, 96, 4)
    looks = records(whole, "look")
    assert [r["step"] for r in looks] == [0, 4, 8, 12]
    assert len(records(whole, "started")) == 1
    answers = whole / looks[1]["answers"]
    assert (
        len(answers.read_text(encoding="utf-8").splitlines())
        == records(whole, "started")[0]["red_line_items"]
    )
    sequence = [r["seq"] for r in read_ledger(whole)]
    assert sequence == list(range(len(sequence)))


def test_two_ranks_answer_a_look_as_one_would(recipe, whole):
    checked = read_recipe(recipe)
    base = load_model(checked.gold_base)
    profile = resolve_profile(checked.gold_base, base[1], thinking=False)
    engine = InProcessEngine(*base, checked.looks.decoding, profile, 8)
    items = read_items(checked.sets.red_line)
    alone = engine.answer(items, seed=checked.seed + SEED_STRIDE)
    look = whole / records(whole, "look")[0]["answers"]
    rows = [json.loads(line) for line in look.read_text(encoding="utf-8").splitlines()]
    shared = {row["item"]: row["text"] for row in rows if row["replicate"] == 0}
    assert [shared[item.id] for item in items] == [answer.text for answer in alone]


def test_a_sigterm_ends_both_ranks_at_one_step_and_the_run_goes_on(recipe, whole, tmp_path):
    """What torchrun does with it: tests/launchers/test_start.py."""
    run = tmp_path / "run"
    line = script_line("trainers.ranks.ranks_scripts", "train", recipe, run, "{}")
    with ExitStack() as ended_well:
        ranks = [
            ended_well.enter_context(
                WarmProcess(line, cwd=ROOT, ACCELERATE_USE_CPU="true", **place)
            )
            for place in places_of(2)
        ]
        wait(lambda: logged(run), ranks[0], 0.02, seconds=240)
        assert ranks[0].poll() is None, "the run ended before it was told to"
        for rank in ranks:
            rank.terminate()
    (ended,) = records(run, "ended")
    assert ended["outcome"] == "terminated"
    assert 1 <= ended["step"] < 12
    one, two = facts(run)
    assert one["step"] == two["step"] == ended["step"]
    assert (run / f"checkpoint-{ended['step']}/guardrail_state.json").is_file()
    again = launch("train", recipe, run, json.dumps({"resume": True}))
    assert again.returncode == 0, again.stderr[-3000:]
    assert facts(run) == facts(whole)


@pytest.mark.parametrize(
    ("trainer", "rank", "step"), [("train", 0, 8), ("train", 1, 8), ("train_grpo", 1, 4)]
)
def test_a_look_that_fails_on_one_rank_stops_all_with_a_checkpoint(
    recipe, tmp_path, trainer, rank, step
):
    run = tmp_path / "run"
    options = json.dumps({"failing_rank": rank, "failing_step": step})
    done = launch(trainer, recipe, run, options)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = facts(run)
    assert one["wrapped"] == "DistributedDataParallel"
    assert one["halted"]
    assert two["halted"]
    assert one["step"] == two["step"] == step
    assert one["weights"] == two["weights"]
    (error,) = records(run, "error")
    assert f"rank {rank} failed: OSError: no room left" in error["error"]
    assert (run / f"checkpoint-{step}/guardrail_state.json").is_file()
    assert records(run, "ended")[0]["outcome"] == "halted"


def test_packed_batches_of_unequal_counts_keep_the_ranks_together(recipe, tmp_path):
    arguments = {"arguments": {"packing": True, "max_length": 256, "max_steps": 6}}
    done = launch("train", recipe, tmp_path / "run", json.dumps(arguments))
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = facts(tmp_path / "run")
    assert one["task_samples"] == two["task_samples"] > 2 * 6 * 4
    assert one["rehearsal_seen"] == two["rehearsal_seen"] > 0
    assert one["weights"] == two["weights"]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(recipe, tmp_path, before, after):
    run = tmp_path / "run"
    # Ten samples a step by any number of ranks: at step 8 one rank has seen 3 rehearsal samples, an odd
    # number, two have seen 2.
    sizes = {ranks: {"per_device_train_batch_size": 10 // ranks} for ranks in (1, 2)}
    first = launch("train", recipe, run, json.dumps({"arguments": sizes[before]}), ranks=before)
    assert first.returncode == 0, first.stderr[-3000:]
    whole = facts(run)[0]
    looks = records(run, "look")
    shutil.rmtree(run / "checkpoint-12")  # as if killed while it was being saved
    options = json.dumps({"arguments": sizes[after], "resume": True})
    second = launch("train", recipe, run, options, ranks=after)
    assert second.returncode == 0, second.stderr[-3000:]
    told = facts(run)[0]
    assert told["wrapped"] == ("DistributedDataParallel" if after == 2 else "Qwen3ForCausalLM")
    for name in ("step", "task_samples", "learning_rate", "boost"):
        assert told[name] == whole[name], name
    # What is due is shared evenly, so two ranks may owe one sample that one rank would have seen.
    assert abs(told["rehearsal_seen"] - whole["rehearsal_seen"]) <= 1
    rewound = records(run, "rewound")[0]
    assert rewound["checkpoint"] == "checkpoint-8"
    assert [r["step"] for r in records(run, "look")] == [0, 4, 8, 12]
    spent = [[r["look"], r["trigger"]] for r in looks]
    assert [[r["look"], r["trigger"]] for r in records(run, "look")] == spent


def test_absent_anchors_are_refused_before_the_launch_hangs(tmp_path):
    file = small_recipe(tmp_path, items_an_ability=2)
    done = launch("train", file, tmp_path / "run", "{}")
    assert done.returncode != 0
    assert "run `guardrail anchor RECIPE` before the launch" in done.stderr
