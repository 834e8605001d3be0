"""`guardrail rehearse`: a real one on the toy, and its parts."""

import json
import re
import sys
import time
from pathlib import Path

import psutil
import pytest

from guardrail.errors import InputError
from guardrail.ledger.file import read_ledger
from guardrail.models.fingerprint import weights_sha256
from guardrail.recipe import read_recipe
from guardrail.rehearse.command import failure_reason, run_command
from guardrail.rehearse.estimate import Timings, estimate
from guardrail.rehearse.small_run import (
    own_folder,
    spread,
    swift_options,
    training_line,
    write_small_recipe,
)
from guardrail.rehearse.stage_results import STAGES
from guardrail.sets.items import read_items
from tests.run_fixtures import arguments, guardrail, small_recipe


@pytest.mark.run
def test_a_rehearsal_goes_through_a_whole_run_and_says_what_it_saw(tmp_path):
    recipe = small_recipe(
        tmp_path, train=arguments(max_steps=90, report_to="tensorboard", save_steps=30)
    )
    done = guardrail("rehearse", recipe, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [s["name"] for s in told["stages"] if s["passed"]] == list(STAGES)
    assert told["profile"]["answers_end_at"] == ["<|im_end|> (2)"]
    assert told["profile"]["precision"]["forwards"] == "float32"
    assert (told["estimate"]["steps"], told["estimate"]["looks"]) == (90, 25)
    assert told["estimate"]["look_items"] == 70

    folder = tmp_path / "runs/short-rehearsal"
    assert json.loads((folder / "rehearsal.json").read_text(encoding="utf-8")) == told
    ledger = read_ledger(folder / "run")
    (rewound,) = [r for r in ledger if r["kind"] == "rewound"]
    assert rewound["checkpoint"] == "checkpoint-2"
    assert "ended" not in {r["kind"] for r in ledger[: rewound["seq"]]}, "it was killed, not ended"
    assert (ledger[-1]["kind"], ledger[-1]["outcome"], ledger[-1]["step"]) == ("ended", "halted", 4)
    injected = [r["rehearsal_samples"] for r in ledger if r["kind"] == "log"]
    assert injected[-1] > 0, "no KL-only sample went through a backward pass"
    weights = [weights_sha256(folder / f"run/checkpoints/checkpoint-{k}") for k in (2, 4)]
    assert weights[0] != weights[1]
    assert not (tmp_path / "anchors").exists(), "the run's own anchors are not the rehearsal's"


SLOW_TO_DIE = """
import subprocess, sys, time
child = [sys.executable, "-c", "import time; time.sleep(60)"]
print(subprocess.Popen(child, start_new_session=True).pid, flush=True)
time.sleep(60)
"""


def test_a_kill_takes_workers_in_sessions_of_their_own_along(tmp_path):
    """As torchrun and accelerate start them: alive they would train on in the folder of the resumed run."""
    log = tmp_path / "log"
    result = run_command(
        [sys.executable, "-c", SLOW_TO_DIE],
        log,
        limit_s=30,
        kill_when=lambda: log.read_text(encoding="utf-8").rstrip().rpartition("\n")[2].isdigit(),
    )
    assert (result.killed, result.code) == (2, -9)
    worker = int(result.output)
    deadline = time.monotonic() + 5
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.01)


def test_a_leg_that_hangs_is_ended_and_said_to(tmp_path):
    result = run_command(
        [sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", limit_s=0.3
    )
    assert result.timed_out
    assert result.killed == 0
    assert "nothing came of it within" in failure_reason(result, verbose=False)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; print('error: no such key; remove it'); sys.exit(2)", "code 2: no such key; remove it"),
        (
            "from guardrail.errors import InputError; raise InputError('mend this')",
            "code 1: mend this",
        ),
        ("raise MemoryError('CUDA out of memory')", "code 1: MemoryError: CUDA out of memory"),
        ("print('one'); print('two'); raise SystemExit(7)", "code 7: two"),
    ],
)  # fmt: skip
def test_of_a_failed_command_one_line_is_shown_and_no_traceback(tmp_path, code, said):
    result = run_command([sys.executable, "-c", code], tmp_path / "log", limit_s=30)
    assert failure_reason(result, verbose=False) == f"exit {said}"
    assert ("Traceback" in failure_reason(result, verbose=True)) == (
        "raise" in code and "SystemExit" not in code
    )


def test_only_what_makes_a_run_long_is_cut(tmp_path):
    given = arguments(
        learning_rate=1e-3, gradient_accumulation_steps=2, push_to_hub=True, report_to="wandb"
    )
    given["lora"] = {"r": 4}
    recipe = read_recipe(small_recipe(tmp_path, train=given, mode="watch"))
    folder = tmp_path / "rehearsal"
    folder.mkdir()
    small = read_recipe(write_small_recipe(recipe, folder))
    assert [len(read_items(p)) for p in (small.sets.red_line, small.sets.rehearsal)] == [8, 8]
    assert small.anchors == str(folder / "anchors")
    assert small.on_error == "halt"
    assert small.drift.min_items > 8, "eight items must neither halt the run nor move a lever"
    kept = ("trainer", "mode", "gold_base", "start_model", "kl_reference", "thinking", "seed")
    assert [getattr(small, key) for key in kept] == [getattr(recipe, key) for key in kept]
    assert small.train.lora == {"r": 4}
    assert small.looks.decoding == recipe.looks.decoding
    cut = {"max_steps", "save_strategy", "save_steps", "logging_strategy", "logging_steps"}
    cut |= {"eval_strategy", "report_to", "push_to_hub"}
    before, after = recipe.train.arguments, small.train.arguments
    assert {k: v for k, v in after.items() if k not in cut} == {
        k: v for k, v in before.items() if k not in cut
    }
    assert "push_to_hub" not in after


def test_items_are_spread_over_the_abilities(tmp_path):
    items = read_items(read_recipe(small_recipe(tmp_path)).sets.red_line)
    chosen = spread(items, 8)
    assert len({item.ability for item in chosen}) == len({item.ability for item in items}) == 7
    assert len({item.id for item in chosen}) == 8
    assert spread(chosen, 20) == chosen


def test_a_rehearsal_replaces_an_earlier_one_and_nothing_else(tmp_path):
    folder = tmp_path / "rehearsal"
    own_folder(folder)
    (folder / "rehearsal.yaml").write_text("", encoding="utf-8")
    (folder / "run").mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    own_folder(folder)
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match="is no rehearsal's and not empty"):
        own_folder(folder)
    (folder / "rehearsal.yaml").write_text("", encoding="utf-8")
    (folder / "ledger.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="holds a guarded run"):
        own_folder(folder)
    assert (folder / "notes.txt").exists()


def test_a_launcher_stands_before_the_command_and_swift_keeps_its_own_options():
    recipe, run = Path("r.yaml"), Path("out")
    line = training_line(recipe, run, launcher="torchrun --nproc_per_node 2 -m", resume=Path("c"))
    assert " ".join(line) == (
        "torchrun --nproc_per_node 2 -m guardrail run r.yaml --out out --resume"
    )
    command = ["swift", "sft", "--external_plugins", "reward.py", "--max_steps=500", "--model", "m"]
    line = training_line(recipe, run, command=command, resume=Path("out/checkpoint-2"))
    at = line.index("--external_plugins")
    plugins = [Path(p).name for p in line[at + 1 : at + 3]]
    assert plugins == ["swift_guardrail.py", "reward.py"]
    options = swift_options(line)
    assert (options["max_steps"], options["save_steps"], options["callbacks"]) == (
        6,
        2,
        "guardrail",
    )
    assert options["resume_from_checkpoint"] == "out/checkpoint-2"
    again = training_line(recipe, run, command=line)
    assert again.count("--callbacks") == again.count("--external_plugins") == 1
    assert swift_options(command)["max_steps"] == 500


def test_seconds_of_the_run_follow_from_those_of_the_rehearsal(tmp_path):
    recipe = read_recipe(
        small_recipe(
            tmp_path,
            looks={
                "every_steps": 50,
                "batch_size": 35,
                "tripwire_every_steps": 20,
                "replicates": 4,
            },
        )
    )  # 70 red-line items, 70 rehearsal items: two batches, or 8.75 times as many as in the rehearsal
    found = Timings(
        items=8, pass_s=2.0, look_s=4.0, tripwire_s=1.0, step_s=0.5, processes=1, steps_an_epoch=50
    )
    told = estimate(recipe, {"num_train_epochs": 2, "save_strategy": "no"}, found)
    assert (told["steps"], told["looks"], told["tripwires"]) == (100, 3, 6)
    assert told["look_s"] == [8.0, 35.0]
    assert told["anchor_answers"] == 5 * 70 + 70
    assert told["anchors_s"] == [6 * 4.0, 6 * 17.5]
    assert told["tripwire_s"] == [0.8, 3.5]  # at most a tenth of a look
    seconds = [50 + (4 + 2) * 8 + 6 * 0.8, 50 + (4 + 2) * 35 + 6 * 3.5]  # look 0 answers four times
    assert told["hours"] == [round(s / 3600, 6) for s in seconds]
    assert told["share_on_looks"] == [round(48 / 102.8, 3), round(210 / 281, 3)]
    halved = estimate(
        recipe, {"max_steps": 100, "save_strategy": "no"}, found_by(found, processes=2)
    )
    assert halved["look_s"] == [4.0, 35.0]


def found_by(found: Timings, *, processes: int) -> Timings:
    values = {name: getattr(found, name) for name in found.__slots__}
    return Timings(**values | {"processes": processes})


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({}, ["--", "swift", "sft"], "is rehearsed with its command"),
        ({"trainer": "ms-swift", "train": None}, [], "is rehearsed with its command"),
    ],
)
def test_command_and_trainer_must_agree(tmp_path, changes, options, said):
    from typer.testing import CliRunner

    from guardrail.cli.main import app

    recipe = small_recipe(tmp_path, **changes)
    done = CliRunner().invoke(app, ["rehearse", str(recipe), *options])
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_a_rehearsal_speaks_the_recipes_language(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from guardrail.cli.main import app
    from guardrail.rehearse.stage_results import StageResult

    seen = (
        "3 rounds of up to 8 answers, 1.2 s each; with loading 12 s",
        "KL self-test: 1e-08 nats a token at the start (rounding explains 1e-07), 0.2 when perturbed",
        "8 answers in 1.1 s, 8 of them ended by themselves",
        "loss 2.1, 2.0; KL-only samples so far: 3, KL 1.0e-05 nats a token",
        "checkpoint-2, 4.3 MB, and its look in 0.4 s",
        "SIGKILL to 1 process(es) at step 2; checkpoint-2 is complete",
        "went on from checkpoint-2: loss 2, 1; KL-only samples so far: 4",
        "a look that failed halted the run at step 4: checkpoint-4 is complete, exit code 3, report written",
    )
    precision = {
        "trained": "float32",
        "forwards": "float32",
        "autocast": False,
        "updates_lost": False,
        "quantised": None,
        "adapter": None,
        "weights": "float32",
    }
    profile = {
        "answers_end_at": ["<|im_end|> (2)"],
        "pad": "<|endoftext|> (0)",
        "template_opens_thinking": None,
        "thinking_pinned": False,
        "template_heeds_thinking": False,
        "precision": precision,
        "engine": "in-process",
        "processes": 1,
        "device": "cpu",
    }
    figures = {
        "anchors_there": False,
        "anchor_answers": 90,
        "anchors_s": [3.0, 200.0],
        "look_items": 70,
        "looks": 5,
        "look_s": [4.0, 30.0],
        "tripwires": None,
        "tripwire_s": [0.5, 0.5],
        "steps": 90,
        "step_s": 0.2,
        "share_on_looks": [0.1, 0.4],
        "hours": [0.02, 2.0],
    }

    def rehearsed(*_, on_begin, on_result, **__):
        on_begin("base answers both small sets")
        for name, said in zip(STAGES, seen, strict=True):
            on_result(StageResult(name, True, said))
        return {"folder": "/r", "passed": True, "profile": profile, "estimate": figures}

    monkeypatch.setattr("guardrail.rehearse.rehearsal.rehearse", rehearsed)
    monkeypatch.setattr("guardrail.live.terminal.precision_words", lambda *_: "float32")
    recipe = small_recipe(tmp_path, language="zh")
    told = CliRunner().invoke(app, ["rehearse", str(recipe)])
    assert told.exit_code == 0, told.output
    words = set(
        re.findall(r"[A-Za-z]{2,}", re.sub(r"checkpoint-\d|<\|\w+\|>|/\S+", "", told.output))
    )
    assert words <= {"KL", "MB", "SIGKILL", "kill", "cpu", "float"}
    assert "每次 4 秒到 30 秒" in told.output
