"""The Slurm scripts, with a `srun` and `scontrol` that do on this machine what Slurm's do."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guardrail.shipped import shipped_root
from tests.launchers.twins import twin
from tests.run_fixtures import logged, records

SLURM = shipped_root() / "launch/slurm"
SRUN = """#!/bin/bash
export SLURM_NODEID=0
exec "$@"
"""
SCONTROL = """#!/bin/bash
case $1 in
  show) echo 127.0.0.1 ;;
  requeue) echo "$2" >> "$REQUEUED" ;;
esac
"""


@pytest.fixture
def cluster(tmp_path) -> dict[str, str]:
    """An environment as a job's, on one node with two GPUs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    guardrail = f'#!/bin/bash\nexec {sys.executable} -m guardrail "$@"\n'
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("guardrail", guardrail)):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "REQUEUED": str(tmp_path / "requeued"),
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "node[1]",
        "SLURM_NNODES": "1",
        "SLURM_GPUS_ON_NODE": "2",
    }


def sbatch(name: str, *args: object, **options: object) -> "subprocess.Popen[str]":
    line = ["bash", str(SLURM / name), *map(str, args)]
    return subprocess.Popen(line, text=True, stderr=subprocess.PIPE, **options)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    subprocess.run(["shellcheck", *map(str, SLURM.glob("*.sbatch"))], check=True)


@pytest.mark.parametrize("name", ["anchors.sbatch", "sidecar.sbatch", "train.sbatch"])
def test_without_arguments_a_script_says_how_it_is_used(name, cluster):
    job = sbatch(name, env=cluster)
    assert "usage: sbatch" in job.communicate(timeout=60)[1]
    assert job.returncode == 2


@pytest.mark.run
def test_a_preempted_job_saves_queues_again_and_goes_on(cluster, tmp_path):
    """A recipe for Qwen3 on the toy base under torchrun, which would make 1 of the exit code and kill after 30 seconds: the ranks are told instead."""
    recipe, run = "qwen3-8b-sft-full", tmp_path / "run"
    settings = twin(recipe, tmp_path, train__arguments__max_steps=12)
    job = sbatch("train.sbatch", recipe, run, *settings, env=cluster)
    while not logged(run):
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.02)
    os.kill(job.pid, signal.SIGTERM)  # of the batch shell alone: --signal=B:TERM@600
    job.communicate(timeout=300)  # torchrun has its own words for a rank that ended so
    assert job.returncode == 143
    assert Path(cluster["REQUEUED"]).read_text() == "4711\n"
    assert records(run, "started")[0]["processes"] == 2
    stopped = records(run, "ended")[-1]
    assert stopped["outcome"] == "terminated"
    assert (run / f"checkpoints/checkpoint-{stopped['step']}/guardrail_state.json").is_file()

    again = sbatch("train.sbatch", recipe, run, *settings, env=cluster)
    said = again.communicate(timeout=600)[1]
    assert again.returncode in (0, 4), said
    assert records(run, "rewound")[0]["checkpoint"] == f"checkpoint-{stopped['step']}"
    assert records(run, "ended")[-1]["outcome"] == "finished"
    assert Path(cluster["REQUEUED"]).read_text() == "4711\n", "a finished job was queued again"
