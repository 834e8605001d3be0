"""Real runs that `guardrail run` starts by a launcher, from a cold start as on a user's machine."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from guardrail.ledger.file import FILE_NAME
from guardrail.models.fingerprint import file_sha256
from tests.launchers.twins import twin
from tests.run_fixtures import ROOT, arguments, command, logged, process, records, small_recipe

pytestmark = pytest.mark.run


@pytest.mark.trl1
def test_accelerate_carries_a_run_to_its_end(tmp_path):
    """A recipe for Qwen3 on the toy base. Absent anchors are made before the ranks start."""
    name, run = "qwen3-8b-sft-lora", tmp_path / "run"
    settings = twin(name, tmp_path, launch__launcher="accelerate", launch__processes=2)
    done = process(command("run", name, "--out", run, *settings))
    assert records(run, "ended")[-1]["outcome"] == "finished", done.stderr[-3000:]
    assert records(run, "started")[0]["processes"] == 2
    assert (run / "report.html").is_file()
    assert done.returncode == (4 if records(run, "look")[-1]["level"] == "untested" else 0)


def test_what_is_refused_is_refused_before_a_launcher_starts(tmp_path):
    recipe, run = small_recipe(tmp_path, train=arguments(learning_rat=1e-3)), tmp_path / "run"
    line = command("run", recipe, "--out", run, "--lang", "zh", "--set", "launch.processes=2")
    done = process(line)
    assert done.returncode == 2
    assert "正在检查配方" in done.stderr
    assert "learning_rat" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / FILE_NAME).exists()
    assert not (tmp_path / "anchors").exists()


@pytest.mark.swift
def test_swift_is_started_from_the_recipe_told_to_end_and_goes_on_to_the_end(tmp_path):
    """The exit codes are the run's. Its rows are Alpaca's, which are written as messages."""
    name, run = "qwen3-8b-sft-lora-swift", tmp_path / "run"
    data = Path(__file__).parents[1] / "data/cases/train/alpaca.jsonl"
    changes = {"train__data": data, "train__arguments__max_steps": 8}
    line = command("run", name, "--out", run, *twin(name, tmp_path, **changes))
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
    started = records(run, "started")[0]
    assert "ms-swift" in started["versions"]
    written = run / "training.jsonl"
    assert started["training_rows_rewritten"] == {"alpaca": 96}
    assert started["training_written_sha256"] == file_sha256(written)
    assert started["training_sha256"] == file_sha256(data)
    rows = [json.loads(row) for row in written.read_text(encoding="utf-8").splitlines()]
    assert {tuple(row) for row in rows} == {("messages",)}
    assert started["training_rows"] <= len(rows) == 96

    done = process([*line, "--resume"])
    assert records(run, "ended")[-1]["outcome"] == "finished", done.stderr[-3000:]
    assert records(run, "rewound")[0]["checkpoint"] == f"checkpoint-{stopped['step']}"
    untested = records(run, "look")[-1]["level"] == "untested"
    assert done.returncode == (4 if untested else 0)
