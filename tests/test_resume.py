"""kill -9 at a random instant, then --resume: weights and verdicts of an unkilled run."""

import os
import random
import signal
import subprocess
import time

import pytest

from guardrail.anchors.fingerprint import weights_sha256
from guardrail.ledger import read_ledger
from tests.run_fixtures import arguments, command, guardrail, records, small_recipe

pytestmark = pytest.mark.run


def verdicts(run):
    kept = ("step", "trigger", "level", "streams")
    return [{k: r[k] for k in kept} for r in records(run, "look")]


def moves(run):
    kept = ("step", "action", "before", "after", "reason")
    return [{k: r[k] for k in kept} for r in records(run, "action")]


def kill_at_random(recipe, run, cwd, rng: random.Random) -> int:
    """Start a run, kill -9 it somewhere between its first save and its end; return its last step."""
    with subprocess.Popen(
        command("run", recipe, "--out", run), cwd=cwd, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 240
        while not (run / "checkpoints/checkpoint-4/guardrail_state.json").is_file():
            assert process.poll() is None, "the run ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 3.0))
        os.kill(process.pid, signal.SIGKILL)
    return max(r["step"] for r in read_ledger(run))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_and_resumed_run_equals_an_unkilled_one(tmp_path, seed):
    # A rate at which the guard acts, so that levers and history must survive too.
    recipe = small_recipe(tmp_path, items_an_ability=12, train=arguments(learning_rate=3e-3))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    first = guardrail("run", recipe, "--out", whole, cwd=tmp_path)
    assert first.returncode in (0, 1), first.stderr
    kill_at_random(recipe, killed, tmp_path, random.Random(seed))
    assert not any(r["kind"] == "ended" for r in read_ledger(killed)), "killed too late"
    resumed = guardrail("run", recipe, "--out", killed, "--resume", cwd=tmp_path)
    assert resumed.returncode == first.returncode, resumed.stderr
    assert any(r["kind"] == "rewound" for r in read_ledger(killed))
    assert moves(whole), "the run must have acted for this test to prove anything"
    assert moves(killed) == moves(whole)
    assert verdicts(killed) == verdicts(whole)
    last = max(int(p.name.split("-")[1]) for p in (whole / "checkpoints").glob("checkpoint-*"))
    assert weights_sha256(killed / f"checkpoints/checkpoint-{last}") == weights_sha256(
        whole / f"checkpoints/checkpoint-{last}"
    )


def test_a_run_killed_before_its_first_checkpoint_starts_over(tmp_path):
    recipe = small_recipe(tmp_path)
    run = tmp_path / "run"
    with subprocess.Popen(
        command("run", recipe, "--out", run), cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as process:
        while not (run / "ledger.jsonl").is_file():
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    done = guardrail("run", recipe, "--out", run, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [v["step"] for v in verdicts(run)] == [0, 4, 8, 12]


def test_resuming_nothing_is_refused(tmp_path):
    recipe = small_recipe(tmp_path)
    done = guardrail("run", recipe, "--out", tmp_path / "none", "--resume", cwd=tmp_path)
    assert done.returncode == 2
    assert "holds no run to resume" in done.stderr


@pytest.mark.trl1
def test_a_sigterm_ends_with_a_checkpoint_and_the_run_goes_on_as_if_nothing_had_been(tmp_path):
    recipe = small_recipe(tmp_path, items_an_ability=3)
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    assert guardrail("run", recipe, "--out", whole, cwd=tmp_path).returncode == 0
    with subprocess.Popen(
        command("run", recipe, "--out", ended), cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 240
        while not any(
            r["kind"] == "tripwire" and r["step"] >= 6
            for r in (read_ledger(ended) if (ended / "ledger.jsonl").is_file() else [])
        ):
            assert process.poll() is None, "the run ended before it could be terminated"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=120) == 143
    last = read_ledger(ended)[-1]
    assert (last["kind"], last["outcome"]) == ("ended", "terminated")
    assert 6 <= last["step"] < 12
    saved = ended / f"checkpoints/checkpoint-{last['step']}"
    assert (saved / "guardrail_state.json").is_file()
    resumed = guardrail("run", recipe, "--out", ended, "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    final = "checkpoints/checkpoint-12"
    assert weights_sha256(ended / final) == weights_sha256(whole / final)
    assert verdicts(ended) == verdicts(whole)
