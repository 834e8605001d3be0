"""Real runs that `guardrail run` starts by a launcher, from a cold start as on a user's machine."""

import subprocess
import time
from pathlib import Path

import pytest

from guardrail.ledger.file import FILE_NAME
from tests.run_fixtures import ROOT, arguments, command, logged, process, records, small_recipe

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
def test_swift_is_started_from_the_recipe_told_to_end_and_goes_on_to_the_end(tmp_path):
    """The shipped recipe on the toy base; what is set is what a CPU and no hub need. The exit codes are the run's."""
    small_recipe(tmp_path, items_an_ability=5)  # for its sets
    run, base = tmp_path / "run", ROOT / "recipes/toy/base"
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
        "train.arguments.logging_steps": "1",
        "train.arguments.max_steps": "8",
    }
    settings = [part for k, v in on_a_cpu.items() for part in ("--set", f"{k}={v}")]
    line = command("run", "qwen3-8b-sft-lora-swift", "--out", run, *settings)
    with (tmp_path / "output.txt").open("w+", encoding="utf-8") as output:
        going = subprocess.Popen(line, cwd=ROOT, stdout=output, stderr=output)
        while not logged(run):
            assert going.poll() is None, (tmp_path / "output.txt").read_text(encoding="utf-8")
            time.sleep(0.02)
        going.terminate()
        assert going.wait(300) == 143
    stopped = records(run, "ended")[-1]
    assert stopped["outcome"] == "terminated"
    assert 1 <= stopped["step"] < 8
    assert "ms-swift" in records(run, "started")[0]["versions"]

    done = process([*line, "--resume"])
    assert records(run, "ended")[-1]["outcome"] == "finished", done.stderr[-3000:]
    assert records(run, "rewound")[0]["checkpoint"] == f"checkpoint-{stopped['step']}"
    untested = records(run, "look")[-1]["level"] == "untested"
    assert done.returncode == (4 if untested else 0)
