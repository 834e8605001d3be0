"""The last ok checkpoint outlives rotation beside the user's best model and the newest."""

import json
import os
from pathlib import Path

import pytest

from guardrail.guard.checkpoints import rotate
from guardrail.guard.resume import last_complete_checkpoint
from guardrail.guard.state import STATE_FILE
from guardrail.ledger.file import read_ledger
from tests.run_fixtures import anchored, arguments, guardrail, small_recipe


def checkpoints(folder: Path, *steps: int, broken: tuple[int, ...] = ()) -> None:
    for age, step in enumerate(steps):
        path = folder / f"checkpoint-{step}"
        path.mkdir()
        if step not in broken:
            (path / STATE_FILE).write_text("{}", encoding="utf-8")
        os.utime(path, (age, age))


def left(folder: Path) -> list[str]:
    return sorted(p.name.removeprefix("checkpoint-") for p in folder.iterdir())


@pytest.mark.parametrize(
    ("limit", "spared", "kept"),
    [
        (3, [50], ["30", "40", "50"]),
        (2, [50, 10], ["10", "50"]),
        (2, [50, 10, 20], ["10", "20", "50"]),
        (3, [50, 10], ["10", "40", "50"]),
        (1, [50, 50, 50], ["50"]),
        (2, [50, 7], ["40", "50"]),
        (None, [50], ["10", "20", "30", "40", "50"]),
        (0, [50], ["10", "20", "30", "40", "50"]),
        (9, [50], ["10", "20", "30", "40", "50"]),
    ],
)
def test_the_oldest_go_and_what_is_spared_stays(tmp_path, limit, spared, kept):
    checkpoints(tmp_path, 10, 20, 30, 40, 50)
    rotate(tmp_path, limit, [tmp_path / f"checkpoint-{step}" for step in spared])
    assert left(tmp_path) == kept


def test_a_broken_checkpoint_goes_before_an_older_complete_one(tmp_path):
    checkpoints(tmp_path, 10, 20, 30, 40, broken=(30,))
    rotate(tmp_path, 2, [tmp_path / "checkpoint-40"])
    assert left(tmp_path) == ["20", "40"]


def test_age_is_when_it_was_saved_not_its_step(tmp_path):
    checkpoints(tmp_path, 30, 40, 10, 20)  # a run went back to step 10 and on
    rotate(tmp_path, 2, [tmp_path / "checkpoint-20"])
    assert left(tmp_path) == ["10", "20"]


def test_other_folders_are_nobodys_business(tmp_path):
    checkpoints(tmp_path, 10, 20)
    (tmp_path / "checkpoint-best").mkdir()
    rotate(tmp_path, 1, [tmp_path / "checkpoint-20"])
    assert left(tmp_path) == ["20", "best"]


@pytest.mark.run
@pytest.mark.parametrize("limit", [pytest.param(1, marks=pytest.mark.trl1), 2])
def test_the_users_best_model_and_the_last_ok_checkpoint_both_stay(tmp_path, limit):
    # The loss on held-out rows falls while abilities go: as the greater one counts as better here, the
    # user's best is an early checkpoint, the guard's last ok a later one, and neither the newest.
    train = arguments(
        learning_rate=3e-3, warmup_steps=4, max_steps=6, save_steps=1, save_total_limit=limit,
        eval_strategy="steps", eval_steps=1, load_best_model_at_end=True,
        metric_for_best_model="eval_loss", greater_is_better=True,
    )  # fmt: skip
    recipe = anchored(
        small_recipe(tmp_path, items_an_ability=6, train=train, looks={"tripwire_every_steps": 0})
    )
    run = tmp_path / "run"
    done = guardrail("run", recipe, "--out", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ended = next(r for r in read_ledger(run) if r["kind"] == "ended")
    newest = last_complete_checkpoint(run / "checkpoints")
    assert newest is not None
    state = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))
    names = {
        Path(state["best_model_checkpoint"]).name,
        Path(ended["last_ok_checkpoint"]).name,
        newest.name,
    }
    assert len(names) == 3, "the three must differ for this test to prove anything"
    assert {p.name for p in (run / "checkpoints").glob("checkpoint-*")} == names
    # What was evaluated at the end is the user's best, which the Trainer had loaded.
    losses = [r["held_out"] for r in read_ledger(run) if r["kind"] == "domain_loss"]
    assert losses[-1] == pytest.approx(state["best_metric"], rel=1e-6)
