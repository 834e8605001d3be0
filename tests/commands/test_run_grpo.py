"""`guardrail run` with a GRPO recipe on the toy base: rewards, looks, kill and resume; and ms-swift recipes."""

import json
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.errors import InputError
from guardrail.ledger.file import read_ledger
from guardrail.models.fingerprint import weights_sha256
from guardrail.recipe import read_recipe
from guardrail.run import run_recipe
from guardrail.shipped import shipped_recipes, shipped_root
from guardrail.trainers.grpo.reward_functions import load_reward
from tests.run_fixtures import anchored, as_yaml, command, guardrail, records, small_recipe
from tests.warm import WarmProcess


def grpo_recipe(folder, **changes):
    """A short version of the shipped toy-grpo."""
    content = yaml.safe_load(shipped_recipes()["toy-grpo"].read_text(encoding="utf-8"))
    train = content["train"] | {"held_out": 0.0}
    train["rewards"] += changes.pop("rewards", [])
    train["data"] = changes.pop("data", train["data"])
    train["arguments"] |= {
        "max_steps": 8,
        "save_steps": 4,
        "logging_steps": 1,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 16,
    } | changes.pop("arguments", {})
    looks = {"every_steps": 4, "tripwire_every_steps": 4, "decoding": content["looks"]["decoding"]}
    given = {"trainer": "trl-grpo", "train": train, "looks": looks} | changes
    return small_recipe(folder, **given)


CAPPED = [
    "passed",
    "format",
    "missed_refusal",
    "over_refusal",
    "shorter",
    "longer",
    "similarity",
    "language",
    "translation",
]
UNCAPPED = {"fluency": {"margin": 0.25, "critical": 99.0}}


def killed_after_its_first_save(recipe, run, cwd):
    """Start a run and kill -9 it somewhere in the steps after its first checkpoint."""
    with WarmProcess(command("run", recipe, "--out", run), cwd=cwd) as process:
        while not (run / "checkpoints/checkpoint-4/guardrail_state.json").is_file():
            assert process.poll() is None, "the run ended before its first checkpoint"
            time.sleep(0.02)
        while not any(r["step"] > 4 for r in records(run, "log")):
            assert process.poll() is None, "the run ended before it was killed"
            time.sleep(0.02)
        process.kill()


def verdicts(run):
    kept = ("step", "trigger", "level", "streams")
    return [{k: r[k] for k in kept} for r in records(run, "look")]


@pytest.mark.run
@pytest.mark.trl1
def test_a_killed_and_resumed_grpo_run_equals_an_unkilled_one(tmp_path):
    """Its first training row lacks the column that a reward asks for, which the others have."""
    (tmp_path / "known.py").write_text(
        "def known(completions, solution, **rows):\n"
        f"    with open({str(tmp_path / 'seen')!r}, 'a') as file:\n"
        "        file.write(''.join('0' if one is None else '1' for one in solution))\n"
        "    return [float(one is not None) for one in solution]\n"
    )
    # A rate at which the guard acts and never halts, so that levers, beta among them, must survive too.
    recipe = anchored(
        grpo_recipe(
            tmp_path,
            items_an_ability=8,
            data=str(Path(__file__).parents[1] / "data/cases/train/grpo_first_lacks.jsonl"),
            rewards=[f"{tmp_path}/known.py:known"],
            rehearsal={"grpo": "both", "fraction": 0.1, "allow_large_fraction": True},
            ladder={"beta": "raise"},
            drift={
                "margins": {name: {"margin": 0.03, "critical": 1.0} for name in CAPPED} | UNCAPPED
            },
            arguments={"learning_rate": 5e-3},
        )
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = guardrail("run", recipe, "--out", whole, cwd=tmp_path)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "KL-only samples: general prompts among the rollouts and golds" in first.stderr
    assert [r["step"] for r in records(whole, "look")] == [0, 4, 8]
    logs = records(whole, "log")
    assert all(0 <= log["reward"] <= 4 for log in logs)
    seen = (tmp_path / "seen").read_text()
    assert seen.count("1") > len(seen) / 2, "the reward was given None"
    action = records(whole, "action")[0]
    assert (action["step"], action["before"]) == (4, {"boost": 1, "lr_factor": 1, "beta": 0.02})
    assert action["after"]["boost"] == 1.5
    assert action["after"]["beta"] == pytest.approx(0.03)
    # Two prompts a step of which every tenth is general; a gold for nine completions seen before the step.
    assert (logs[-1]["task_samples"], logs[-1]["rehearsal_samples"]) == (15, 1)
    golds = logs[-1]["golds"]
    assert golds["task_samples"] == 60
    assert golds["rehearsal_samples"] == (60 - 8) // 9
    assert any(log["golds"]["rehearsal_kl"] for log in logs)
    assert records(whole, "tripwire")[-1]["task_kl"] is not None
    assert (whole / "report.html").is_file()
    killed_after_its_first_save(recipe, killed, tmp_path)
    assert not records(killed, "ended"), "killed too late"
    resumed = guardrail("run", recipe, "--out", killed, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert any(r["kind"] == "rewound" for r in read_ledger(killed))
    assert verdicts(killed) == verdicts(whole)
    for run in (whole, killed):
        betas = {log["step"]: log["beta"] for log in records(run, "log")}
        assert (betas[3], betas[5]) == (0.02, pytest.approx(0.03))
    last = "checkpoints/checkpoint-8"
    assert weights_sha256(killed / last) == weights_sha256(whole / last)


def test_reward_functions_come_from_files_and_modules(tmp_path):
    (tmp_path / "mine.py").write_text("def one(**rows):\n    return [1.0]\n\nlimit = 3\n")
    assert load_reward(f"{tmp_path}/mine.py:one")() == [1.0]
    assert load_reward("math:sqrt")(4) == 2
    for spec, said in (
        (f"{tmp_path}/absent.py:one", "`.*absent.py` does not exist"),
        (f"{tmp_path}/mine.py:two", "holds no function `two`; it holds one"),
        (f"{tmp_path}/mine.py:limit", "holds no function `limit`"),
        ("no_such_module_here:one", "cannot be read .ModuleNotFoundError"),
    ):
        with pytest.raises(InputError, match=said):
            load_reward(spec)
    (tmp_path / "broken.py").write_text("raise OSError('no licence')\n")
    with pytest.raises(InputError, match=r"cannot be read \(OSError: no licence\)"):
        load_reward(f"{tmp_path}/broken.py:one")


def test_the_shipped_rewards_are_between_0_and_1():
    said = ["您好，请在App里还款。", "", "好" * 90]
    completions = [[{"role": "assistant", "content": text}] for text in said]
    expected = [[1, 0, 0], [1, 0, 0], [1, 0.6, 0]]
    for spec, rewards in zip(read_recipe("toy-grpo").train.rewards, expected, strict=True):
        assert load_reward(spec)(completions=completions, prompts=said) == rewards


GRPO = {"data": "data.jsonl", "rewards": ["mine.py:one"]}
REFUSED = [
    (
        {"trainer": "trl-grpo", "train": GRPO | {"held_out": 0.1}},
        "`train.held_out` measures a loss",
    ),
    ({"trainer": "trl-grpo", "train": GRPO | {"rewards": ["mine.py"]}}, "got `mine.py`"),
    ({"train": GRPO}, "`train.rewards` is for GRPO"),
    ({"rehearsal": {"grpo": "literal"}}, "`rehearsal.grpo` is for GRPO; SFT injects golds"),
    ({"ladder": {"beta": "raise"}}, "`ladder.beta: raise` is for GRPO"),
    (
        {"trainer": "ms-swift", "train": {"rewards": ["mine.py:one"]}},
        "`train.rewards` is not used with `trainer: ms-swift`",
    ),
    ({"trainer": "ms-swift", "train": {"lora": {"r": 8}}}, "`train.lora` is not used"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=[said[:30] for _, said in REFUSED])
def test_keys_that_do_not_fit_the_trainer_are_refused(tmp_path, changes, said):
    content = {
        "name": "mine",
        "gold_base": "shipped:recipes/toy/base",
        "sets": {"red_line": "red.jsonl", "rehearsal": "reh.jsonl"},
        "train": {"data": "data.jsonl"},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(as_yaml(content | changes), encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_recipe(path)


def test_reward_files_are_looked_up_beside_the_recipe(tmp_path):
    file = grpo_recipe(tmp_path, items_an_ability=1)
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["train"]["rewards"] = ["mine.py:one", "package.module:two"]
    file.write_text(as_yaml(content), encoding="utf-8")
    assert read_recipe(file).train.rewards == (f"{tmp_path}/mine.py:one", "package.module:two")


def test_a_grpo_recipe_without_rewards_is_refused_before_anything_is_made(tmp_path):
    recipe = grpo_recipe(tmp_path, items_an_ability=1)
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    content["train"].pop("rewards")
    recipe.write_text(as_yaml(content), encoding="utf-8")
    with pytest.raises(InputError, match=r"`train\.rewards` is empty"):
        run_recipe(read_recipe(recipe), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("beta", "lora", "said"),
    [
        (0.02, None, "(`literal`): at beta 0.02 the trainer's own reference is the KL reference"),
        (0.0, {"r": 4}, "(`literal`): the model with its adapter off is the KL reference"),
        (0.0, None, "(`anchored`): full fine-tuning at beta 0 has no reference model"),
    ],
)
def test_check_says_which_kl_only_samples_a_grpo_run_will_get(tmp_path, beta, lora, said):
    file = grpo_recipe(tmp_path, items_an_ability=1, rehearsal={"grpo": None})
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["train"]["arguments"]["beta"] = beta
    content["train"]["lora"] = lora
    file.write_text(as_yaml(content), encoding="utf-8")
    done = CliRunner().invoke(app, ["check", str(file)])
    assert done.exit_code == 0, done.output
    assert said in done.stdout


def test_a_recipe_for_ms_swift_is_checked_and_not_run(tmp_path):
    recipe = small_recipe(tmp_path, items_an_ability=2, trainer="ms-swift")
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    content["train"] = {"allow_overlap": ["toy-red-001"]}
    recipe.write_text(as_yaml(content), encoding="utf-8")
    done = CliRunner().invoke(app, ["check", str(recipe), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["red_line_items"] == 14
    assert "training_rows" not in facts
    with pytest.raises(InputError, match="is launched by swift: GUARDRAIL_RECIPE="):
        run_recipe(read_recipe(recipe), tmp_path / "run")


def test_the_toy_grpo_recipe_ships_its_rewards():
    specs = yaml.safe_load(shipped_recipes()["toy-grpo"].read_text(encoding="utf-8"))["train"]
    for spec in specs["rewards"]:
        assert (shipped_root() / spec.removeprefix("shipped:").partition(":")[0]).is_file()
