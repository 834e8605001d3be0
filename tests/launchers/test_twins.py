"""Every recipe for Qwen3 trained to its end on the toy base, all its keys kept (twins.py).

By a launcher from a cold start: qwen3-8b-sft-lora through accelerate and -sft-lora-swift through `swift sft` in
test_start.py, qwen3-8b-sft-full through torchrun in test_slurm.py, and here one through `swift rlhf` on two ranks.
"""

from contextlib import ExitStack
from pathlib import Path

import pytest

from guardrail.launchers.launch_command import LAUNCHED, launch_command
from guardrail.recipe import read_recipe
from guardrail.trainers.attach import Guardrail
from tests.launchers.twins import twin
from tests.run_fixtures import ROOT, command, places_of, process, records, warm
from tests.warm import SWIFT, WarmProcess

pytestmark = pytest.mark.run


def reached_its_end(run: Path, *, ranks: int = 1) -> bool:
    """Whether a run began with as many processes, looked at its end and was not halted."""
    (started,), looks = records(run, "started"), records(run, "look")
    assert started["processes"] == ranks
    assert [look["step"] for look in looks] == [0, 2]
    assert records(run, "gradient_check") or records(run, "kl_self_test")
    return records(run, "ended")[-1]["outcome"] == "finished" and (run / "report.html").is_file()


@pytest.mark.trl1
@pytest.mark.parametrize("name", ["qwen3-8b-grpo-colocate"])
def test_a_trl_recipe_runs_in_one_process(name, tmp_path):
    run = tmp_path / "run"
    done = warm(command("run", name, "--out", run, *twin(name, tmp_path, launch__processes=1)))
    assert reached_its_end(run), done.stderr[-3000:]


@pytest.mark.trl1
def test_a_trl_recipe_runs_as_two_ranks(tmp_path):
    """Told what torchrun tells them; absent anchors are those of one process before them."""
    name, run = "qwen3-8b-grpo-server", tmp_path / "run"
    settings = twin(name, tmp_path, launch__processes=2)
    made = warm(command("anchor", "make", name, *settings))
    assert made.returncode == 0, made.stderr[-3000:]
    line = command("run", name, "--out", run, *settings)
    with ExitStack() as ended:
        ranks = [
            ended.enter_context(WarmProcess(line, cwd=ROOT, **{LAUNCHED: 1}, **place))
            for place in places_of(2)
        ]
        assert all(rank.wait(300) in (0, 4) for rank in ranks), ranks[0].output("stderr")[-3000:]
    assert reached_its_end(run, ranks=2)


@pytest.mark.swift
@pytest.mark.parametrize(
    "name",
    [
        "qwen3-8b-sft-full-swift",
        "qwen3-8b-grpo-colocate-swift",
        "qwen3-30b-a3b-sft-lora-swift",
        "qwen3-30b-a3b-grpo-swift",
    ],
)
def test_a_swift_recipe_runs_in_one_process(name, tmp_path):
    """The command that `guardrail run` starts, without the launcher, whose one job is to start that module."""
    run = tmp_path / "run"
    changes = twin(name, tmp_path, launch__processes=1)[1::2]
    recipe = read_recipe(name, changes=changes)
    Guardrail.from_recipe(recipe).anchors()
    starts = launch_command(recipe, name, run, changes=changes)
    python, module, _, kind, *flags = starts.line
    done = warm(
        [python, module, f"swift.cli.{kind}", *flags],
        cwd=tmp_path, loaded=SWIFT, **starts.environment,
    )  # fmt: skip
    assert reached_its_end(run), done.stderr[-3000:]


@pytest.mark.swift
def test_swift_rlhf_is_started_as_two_ranks(tmp_path):
    name, run = "qwen3-8b-grpo-server-swift", tmp_path / "run"
    settings = twin(name, tmp_path, launch__processes=2)
    done = process(command("run", name, "--out", run, *settings))
    assert reached_its_end(run, ranks=2), done.stderr[-3000:]
    assert done.returncode == (4 if records(run, "look")[-1]["level"] == "untested" else 0)
