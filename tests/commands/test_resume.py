"""kill -9 at random instants and inside saves, then --resume: weights and ledger of an unkilled run."""

import json
import os
import random
import re
import shutil
import time
from datetime import datetime
from pathlib import Path

import pytest

from guardrail.errors import InputError
from guardrail.guard.resume import last_complete_checkpoint, resumed_state
from guardrail.ledger.file import live_records, read_ledger
from guardrail.models.fingerprint import weights_sha256
from guardrail.read_back import sealed
from guardrail.recipe import read_recipe
from guardrail.report.run_data import read_run
from guardrail.run import run_recipe
from tests.run_fixtures import (
    anchored,
    arguments,
    command,
    guardrail,
    logged,
    records,
    small_recipe,
    wait,
)
from tests.warm import WarmProcess

pytestmark = pytest.mark.run

RANDOM = random.Random(20)
FILES = (
    "",
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
)
FILES += ("guardrail_state.json.*.partial",)
AFTER = [RANDOM.random() for _ in range(13)]
"""Instants by the clock, as shares of an unkilled run from its first record to its last."""
DURING = [(step, name) for name, step in zip(FILES, (2, 6, 4, 8, 6, 4, 8), strict=True)]
"""Instants inside a save: when this file of this checkpoint appears; with no name, the folder itself."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run nobody kills, in which the guard acts at two saves before its last; and its recipe."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = anchored(small_recipe(
        folder,
        items_an_ability=6,
        looks={"every_steps": 2},
        ladder={"cooldown_looks": 0},  # so that it acts more than once, whatever is drawn
        train=arguments(
            learning_rate=3e-3, warmup_steps=2, max_steps=8, save_steps=2, save_total_limit=2,
            logging_steps=1,
        ),
    ))  # fmt: skip
    done = guardrail("run", recipe, "--out", folder / "whole", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [r["step"] for r in read_ledger(folder / "whole") if r["kind"] == "action"][:2] == [4, 6]
    return recipe, folder / "whole"


def change_state(**changes):
    """Edit a saved state as somebody would who knows of no digest, or with `seal` of one who does."""

    def change(run: Path) -> str:
        path = run / "checkpoints/checkpoint-8/guardrail_state.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        seal = changes.get("seal", False)
        content |= {k: v for k, v in changes.items() if k != "seal"}
        path.write_text(
            json.dumps(sealed(unsealed_of(content)) if seal else content), encoding="utf-8"
        )
        return "guardrail_state.json"

    return change


def unsealed_of(content: dict[str, object]) -> dict[str, object]:
    return {k: v for k, v in content.items() if k != "digest"}


def refund(run: Path) -> str:
    path = run / "checkpoints/checkpoint-8/guardrail_state.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["rule"] |= {"spent": {}, "looks_used": 0, "share": 0.0}
    path.write_text(json.dumps(content), encoding="utf-8")
    return "guardrail_state.json"


def cut(name: str):
    def change(run: Path) -> str:
        path = run / name
        os.truncate(path, path.stat().st_size // 2)
        return Path(name).name

    return change


def flip(name: str):
    def change(run: Path) -> str:
        data = bytearray((run / name).read_bytes())
        data[len(data) // 3] ^= 4
        (run / name).write_bytes(data)
        return Path(name).name

    return change


def another_ledger(run: Path) -> str:
    """Of an unguarded run, beside a guarded checkpoint."""
    lines = (run / "ledger.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    header = json.loads(lines[0]) | {"mode": "watch"}
    (run / "ledger.jsonl").write_text(
        "".join([json.dumps(header) + "\n", *lines[1:]]), encoding="utf-8"
    )
    return "ledger.jsonl"


def foreign(run: Path) -> str:
    shutil.copy(
        run / "checkpoints/checkpoint-2/model.safetensors", run / "checkpoints/checkpoint-8"
    )
    return "model.safetensors"


LAST = "checkpoints/checkpoint-8"
TAMPERED = {
    "boost null": change_state(boost=None),
    "boost 1e9": change_state(boost=1e9),
    "boost null, sealed anew": change_state(boost=None, seal=True),
    "boost 1e9, sealed anew": change_state(boost=1e9, seal=True),
    "no field, sealed anew": change_state(rule={}, seal=True),
    "another kind, sealed anew": change_state(history="x", seal=True),
    "bound to nothing": change_state(bound=None, seal=True),
    "budget refunded": refund,
    "state cut": cut(f"{LAST}/guardrail_state.json"),
    "state flipped": flip(f"{LAST}/guardrail_state.json"),
    "ledger unguarded": another_ledger,
    "ledger cut": cut("ledger.jsonl"),
    "ledger flipped": flip("ledger.jsonl"),
    "weights of another step": foreign,
    "weights flipped": flip(f"{LAST}/model.safetensors"),
    "optimizer flipped": flip(f"{LAST}/optimizer.pt"),
    "scheduler cut": cut(f"{LAST}/scheduler.pt"),
    "step flipped": flip(f"{LAST}/trainer_state.json"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_changed_since_the_save_is_not_gone_on_from(tmp_path, whole, how):
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    assert resumed_state(run / "checkpoints", True, run)[1].boost > 1.0
    name = TAMPERED[how](run)
    with pytest.raises(InputError, match=re.escape(name)) as caught:
        resumed_state(run / "checkpoints", True, run)
    assert "\n" not in str(caught.value)


def test_a_state_without_a_digest_is_of_an_older_version(tmp_path, whole):
    run = tmp_path / "run"
    shutil.copytree(whole[1], run)
    path = run / LAST / "guardrail_state.json"
    path.write_text(
        json.dumps(unsealed_of(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8"
    )
    with pytest.raises(InputError, match="saved by an older version"):
        resumed_state(run / "checkpoints", True, run)


def test_a_changed_recipe_is_refused_until_somebody_says_that_it_is_meant(tmp_path, whole):
    recipe, finished = whole
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    resolved = (run / "recipe.resolved.json").read_text(encoding="utf-8")
    again = ("run", recipe, "--out", run, "--resume-from", "checkpoint-2")
    again = (*again, "--set", "rehearsal.weight=3.0")
    refused = guardrail(*again, cwd=tmp_path)
    assert refused.returncode == 2
    assert "`rehearsal.weight` was " in refused.stderr
    assert "--changed-recipe" in refused.stderr
    assert (run / "recipe.resolved.json").read_text(encoding="utf-8") == resolved
    assert "rewound" not in {r["kind"] for r in read_ledger(run)}
    done = guardrail(*again, "--changed-recipe", cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    (changed,) = records(run, "recipe_changed")
    assert [(c["key"], c["after"]) for c in changed["changes"]] == [("rehearsal.weight", 3.0)]
    assert read_run(run).recipe["rehearsal"]["weight"] == 3.0
    shown = json.loads((run / "recipe.resolved.json").read_text(encoding="utf-8"))
    assert shown["rehearsal"]["weight"] == 3.0


def verdicts(run):
    kept = ("step", "trigger", "level", "streams")
    return [{k: r[k] for k in kept} for r in records(run, "look")]


def told(run) -> list[dict[str, object]]:
    """Every live record without what the clock says; what a rewind brings along is no event of the run."""
    aside = ("seq", "time", "seconds", "steps")
    return [
        {k: v for k, v in r.items() if k not in aside}
        for r in live_records(read_ledger(run))
        if r["kind"] not in ("started", "rewound", "levers")
    ]


def state_of(checkpoint: Path) -> dict[str, object]:
    content = json.loads((checkpoint / "guardrail_state.json").read_text(encoding="utf-8"))
    return {k: v for k, v in content.items() if k not in ("seconds", "bound", "digest")}


def kill_after(process, run: Path, seconds: float) -> None:
    wait((run / "ledger.jsonl").is_file, process, 0.01)
    time.sleep(seconds)
    process.kill()


def kill_during_save(process, run: Path, step: int, name: str) -> None:
    folder = run / f"checkpoints/checkpoint-{step}"
    wait(lambda: any(folder.glob(name)) if name else folder.exists(), process, 0.0002)
    process.kill()


def same_end(run: Path, whole: Path) -> None:
    last = "checkpoints/checkpoint-8"
    assert weights_sha256(run / last) == weights_sha256(whole / last)
    assert state_of(run / last) == state_of(whole / last)
    kept = [sorted(p.name for p in (r / "checkpoints").glob("checkpoint-*")) for r in (run, whole)]
    assert kept[0] == kept[1]


def resume_and_compare(recipe: Path, killed: Path, whole: Path) -> None:
    expected = last_complete_checkpoint(killed / "checkpoints")
    resumed = guardrail("run", recipe, "--out", killed, "--resume", cwd=killed.parent)
    assert resumed.returncode == 0, resumed.stderr
    (rewound,) = [r for r in read_ledger(killed) if r["kind"] == "rewound"]
    assert rewound["checkpoint"] == (expected.name if expected else None)
    assert rewound["step"] == (int(expected.name.split("-")[1]) if expected else -1)
    events = told(killed)
    if events[-3]["kind"] == "domain_loss":  # killed after its end: measured again, to the same
        assert events.pop(-3) == events[-1]
    assert events == told(whole)
    same_end(killed, whole)


@pytest.mark.parametrize(
    "share",
    [pytest.param(s, marks=[pytest.mark.full] if n else []) for n, s in enumerate(AFTER)],
)
def test_a_run_killed_at_any_time_goes_on_as_if_nothing_had_been(tmp_path, whole, share):
    recipe, unkilled = whole
    times = [datetime.fromisoformat(r["time"]) for r in read_ledger(unkilled)]
    seconds = share * (times[-1] - times[0]).total_seconds()
    with WarmProcess(command("run", recipe, "--out", tmp_path / "run"), cwd=tmp_path) as process:
        kill_after(process, tmp_path / "run", seconds)
    resume_and_compare(recipe, tmp_path / "run", unkilled)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        pytest.param(*where, marks=[pytest.mark.full] if n != 2 else [])
        for n, where in enumerate(DURING)
    ],
)
def test_a_run_killed_while_it_saves_goes_on_from_the_last_complete_checkpoint(
    tmp_path, whole, step, name
):
    recipe, unkilled = whole
    with WarmProcess(command("run", recipe, "--out", tmp_path / "run"), cwd=tmp_path) as process:
        kill_during_save(process, tmp_path / "run", step, name)
    newest = tmp_path / f"run/checkpoints/checkpoint-{step}"
    assert newest.is_dir(), "killed before the save"
    cut = not (newest / "guardrail_state.json").exists()
    print("killed", "inside" if cut else "after", f"the save, {len(list(newest.iterdir()))} files")
    resume_and_compare(recipe, tmp_path / "run", unkilled)


def test_a_finished_run_that_is_resumed_trains_no_step_more(tmp_path, whole):
    recipe, unkilled = whole
    shutil.copytree(unkilled, tmp_path / "run")
    resume_and_compare(recipe, tmp_path / "run", unkilled)


def test_a_halted_run_that_is_resumed_stays_halted(tmp_path):
    recipe = anchored(
        small_recipe(
            tmp_path,
            items_an_ability=6,
            looks={"every_steps": 2, "tripwire_every_steps": 0},
            train=arguments(learning_rate=3e-3, warmup_steps=2, max_steps=8, save_steps=8),
            drift={"margins": {"passed": {"margin": 0.03, "critical": 0.1}}},
        )
    )
    run = tmp_path / "run"
    done = guardrail("run", recipe, "--out", run, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    before = told(run)
    assert 0 < before[-2]["step"] < 8
    ledger, kept = (run / "ledger.jsonl").read_bytes(), sorted(run.rglob("*"))
    for language, said in (("en", "a resume trains no further"), ("zh", "续跑也不会接着训练")):
        line = ("run", recipe, "--out", run, "--resume", "--lang", language)
        resumed = guardrail(*line, cwd=tmp_path)
        assert resumed.returncode == 3, resumed.stderr
        assert said in resumed.stderr
        assert f"guardrail run {run}/recipe.next.yaml --out {run}-next" in resumed.stderr
        assert (run / "ledger.jsonl").read_bytes() == ledger
        assert sorted(run.rglob("*")) == kept
    # So does one whose script attaches the guard itself.
    assert run_recipe(read_recipe(recipe), run, resume=True).halted
    after = told(run)
    assert after.pop(-3) == after[-1]  # the held-out loss is measured again, to the same
    assert after == before
    assert [r["outcome"] for r in read_ledger(run) if r["kind"] == "ended"] == ["halted"] * 2


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path, whole):
    recipe, unkilled = whole
    run = tmp_path / "run"
    with WarmProcess(command("run", recipe, "--out", run), cwd=tmp_path) as process:
        wait((run / "ledger.jsonl").is_file, process, 0.005)
        process.kill()
    done = guardrail("run", recipe, "--out", run, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [v["step"] for v in verdicts(run)] == [0, 2, 4, 6, 8]
    same_end(run, unkilled)


def test_resuming_nothing_is_refused(tmp_path):
    recipe = small_recipe(tmp_path)
    done = guardrail("run", recipe, "--out", tmp_path / "none", "--resume", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds no run to resume" in done.stderr


@pytest.mark.trl1
def test_a_sigterm_ends_with_a_checkpoint_and_the_run_goes_on_as_if_nothing_had_been(
    tmp_path, whole
):
    recipe, unkilled = whole
    ended = tmp_path / "ended"
    with WarmProcess(command("run", recipe, "--out", ended), cwd=tmp_path) as process:
        # Step 6 is in progress: its look falls out now and must be made up for.
        wait(lambda: logged(ended, 5), process, 0.01, seconds=240)
        assert process.poll() is None, "the run ended before it could be terminated"
        process.terminate()
        assert process.wait(timeout=120) == 143
    last = read_ledger(ended)[-1]
    assert (last["kind"], last["outcome"], last["step"]) == ("ended", "terminated", 6)
    assert [v["step"] for v in verdicts(ended)] == [0, 2, 4]
    saved = ended / "checkpoints/checkpoint-6"
    assert (saved / "guardrail_state.json").is_file()
    resumed = guardrail("run", recipe, "--out", ended, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert verdicts(ended) == verdicts(unkilled)
    same_end(ended, unkilled)
    recorded = [
        [r["level"] for r in read_ledger(run) if r["kind"] == "checkpoint" and r["step"] == 6]
        for run in (unkilled, ended)
    ]
    assert recorded[1] == ["untested", *recorded[0]]


def test_a_run_taken_back_to_an_earlier_checkpoint_and_killed_stays_on_its_branch(tmp_path, whole):
    """The ends of the branch that was left must not be taken for the newest of the new one."""
    recipe, finished = whole
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    back = ("run", recipe, "--out", run, "--resume-from", "checkpoint-2")
    assert (run / "checkpoints/checkpoint-8").is_dir()

    def past_step_3() -> bool:
        live = records(run, "log")
        return bool(live) and live[-1]["step"] == 3

    with WarmProcess(command(*back), cwd=tmp_path) as process:
        wait(past_step_3, process, 0.01)
        process.kill()
    aside = run / "checkpoints/undone-1/checkpoint-8"
    assert weights_sha256(aside) == weights_sha256(finished / "checkpoints/checkpoint-8")
    resumed = guardrail("run", recipe, "--out", run, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    rewound = [r for r in read_ledger(run) if r["kind"] == "rewound"]
    assert [r["checkpoint"] for r in rewound] == ["checkpoint-2"] * 2
    assert [r["set_aside"] for r in rewound] == [[str(aside)], []]
    assert told(run) == told(finished)
    same_end(run, finished)


def test_only_a_complete_checkpoint_of_the_run_is_gone_on_from(tmp_path, whole):
    recipe, finished = whole
    for wanted in ("checkpoint-7", tmp_path / "checkpoint-2"):
        done = guardrail("run", recipe, "--out", finished, "--resume-from", wanted, cwd=tmp_path)
        assert done.returncode == 2
        assert f"`{wanted}` is no checkpoint that this run can go on from" in done.stderr
        assert "those that do: checkpoint-2, checkpoint-8" in done.stderr
    assert "rewound" not in {r["kind"] for r in read_ledger(finished)}


@pytest.mark.trl1
@pytest.mark.parametrize(
    ("kind", "step", "looks"), [("kl_self_test", 0, []), ("tripwire", 4, [0, 2])]
)
def test_a_sigterm_cuts_off_a_look_which_is_taken_when_the_run_goes_on(
    tmp_path, whole, kind, step, looks
):
    """These records are the last before a look; a look may take minutes, a cluster gives half of one."""
    recipe, unkilled = whole
    run = tmp_path / "run"

    def looking() -> bool:
        there = (run / "ledger.jsonl").is_file() and read_ledger(run)
        return bool(there) and (there[-1]["kind"], there[-1]["step"]) == (kind, step)

    with WarmProcess(command("run", recipe, "--out", run), cwd=tmp_path) as process:
        wait(looking, process, 0.001)
        process.terminate()
        assert process.wait(timeout=120) == 143
    assert [v["step"] for v in verdicts(run)] == looks
    last = read_ledger(run)[-1]
    assert (last["kind"], last["outcome"], last["step"]) == ("ended", "terminated", step)
    assert not records(run, "error")
    saved = run / f"checkpoints/checkpoint-{step}"
    assert (saved / "guardrail_state.json").is_file() == bool(step)
    resumed = guardrail("run", recipe, "--out", run, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    (rewound,) = [r for r in read_ledger(run) if r["kind"] == "rewound"]
    assert rewound["checkpoint"] == (saved.name if step else None)
    # That checkpoint had no verdict at first, and the log of a step comes after its look otherwise.
    here, there = (
        [
            r
            for r in told(ledger)
            if (r["kind"], r["step"]) != ("log", step) and r.get("level") != "untested"
        ]
        for ledger in (run, unkilled)
    )
    assert here == there
    same_end(run, unkilled)
