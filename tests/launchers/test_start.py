"""Real runs that `guardrail run` starts by a launcher, from a cold start as on a user's machine."""

from pathlib import Path

import pytest

from guardrail.ledger.file import FILE_NAME
from tests.run_fixtures import ROOT, arguments, command, process, records, small_recipe

pytestmark = pytest.mark.run


def two_ranks(folder: Path, launcher: str, **changes: object) -> Path:
    launch = {"launcher": launcher, "processes": 2}
    greedy = {"decoding": {"mode": "greedy", "max_new_tokens": 32}, "every_steps": 4}
    return small_recipe(
        folder, items_an_ability=6, launch=launch, looks=greedy, train=arguments(**changes)
    )


@pytest.mark.trl1
def test_accelerate_carries_a_run_to_its_end(tmp_path):
    """Absent anchors are made before the ranks start. For torchrun, and what a SIGTERM does: test_slurm.py."""
    recipe, run = two_ranks(tmp_path, "accelerate", max_steps=2, save_steps=2), tmp_path / "run"
    done = process(command("run", recipe, "--out", run))
    assert records(run, "ended")[-1]["outcome"] == "finished", done.stderr[-3000:]
    assert records(run, "started")[0]["processes"] == 2
    assert (run / "report.html").is_file()
    assert done.returncode == (4 if records(run, "look")[-1]["level"] == "untested" else 0)


def test_what_is_refused_is_refused_before_a_launcher_starts(tmp_path):
    recipe, run = two_ranks(tmp_path, "torchrun", learning_rat=1e-3), tmp_path / "run"
    done = process(command("run", recipe, "--out", run))
    assert done.returncode == 2
    assert "learning_rat" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / FILE_NAME).exists()
    assert not (tmp_path / "anchors").exists()


@pytest.mark.swift
def test_swift_is_started_from_the_recipe_and_the_exit_code_is_the_runs(tmp_path):
    """The shipped recipe on the toy base; what is set is what a CPU and no hub need."""
    small_recipe(tmp_path, items_an_ability=5)  # for its sets
    run = tmp_path / "run"
    base = ROOT / "recipes/toy/base"
    on_a_cpu = {
        "gold_base": base,
        "hub": "null",
        "train.data": ROOT / "recipes/toy/collections.jsonl",
        "sets.red_line": tmp_path / "red_line.jsonl",
        "sets.rehearsal": tmp_path / "rehearsal.jsonl",
        "anchors": tmp_path / "anchors",
        "looks.decoding": "{mode: greedy, max_new_tokens: 32}",
        "train.arguments.torch_dtype": "float32",
        "train.arguments.use_cpu": "true",
        "train.arguments.bf16": "false",
        "train.arguments.fp16": "false",
        "train.arguments.check_model": "false",
        "train.arguments.use_hf": "true",
        "train.arguments.report_to": "none",
        "train.arguments.dataloader_num_workers": "0",
        "train.arguments.gradient_accumulation_steps": "2",
        "train.arguments.max_steps": "2",
    }
    settings = [part for k, v in on_a_cpu.items() for part in ("--set", f"{k}={v}")]
    done = process(command("run", "qwen3-8b-sft-lora-swift", "--out", run, *settings))
    assert records(run, "ended")[-1]["outcome"] == "finished", done.stderr[-3000:]
    assert "ms-swift" in records(run, "started")[0]["versions"]
    untested = records(run, "look")[-1]["level"] == "untested"
    assert done.returncode == (4 if untested else 0)
