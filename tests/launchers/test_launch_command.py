"""Which command line and environment a recipe's `launch` section becomes."""

import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.errors import InputError
from guardrail.guard.state import STATE_FILE
from guardrail.launchers.launch_command import Node, launch_command, this_node
from guardrail.recipe import read_recipe
from guardrail.shipped import shipped_recipes, shipped_root

RUN = Path("/runs/first")
PINNED = Path(__file__).with_name("recipe-commands.txt")
FIRST_HOUR = ["train.data=/data/rows.jsonl"]
"""What the head of each recipe says to set, besides rewards, which no launcher needs."""


def shell(name, *changes, node=None, resume=False, run=RUN):
    recipe = read_recipe(name, changes=changes)
    command = launch_command(recipe, name, run, changes=changes, resume=resume, node=node)
    text = command.as_shell().replace(sys.executable, "python")
    return text.replace(str(shipped_root()), "SHIPPED")


def every_recipe():
    """Each recipe for real models as it stands, and on 2 x 8 GPUs."""
    for name in sorted(n for n in shipped_recipes() if n.startswith("qwen3")):
        yield name, shell(name, *FIRST_HOUR)
        cluster = ("launch.nodes=2", "launch.processes=8")
        yield f"{name}, 2 x 8", shell(name, *FIRST_HOUR, *cluster, node=Node(1, "10.0.0.1"))


def test_the_command_line_of_every_recipe_is_the_pinned_one():
    """GUARDRAIL_PIN=1 writes the file anew, for a change to be read in its diff."""
    found = "\n\n".join(f"# {name}\n{text}" for name, text in every_recipe()) + "\n"
    if os.environ.get("GUARDRAIL_PIN"):
        PINNED.write_text(found, encoding="utf-8")
    assert found == PINNED.read_text(encoding="utf-8")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_printed_command_comes_with_what_to_know_before_it_is_pasted(tmp_path, processes):
    asked = ["run", "toy-sft", "--print-command", "--set", f"anchors={tmp_path}/mine"]
    asked += ["--set", f"launch.processes={processes}", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*asked, "--lang", "en"])
    assert done.exit_code == 0, done.output
    assert "-m guardrail run toy-sft" in done.stdout
    assert "#" not in done.stdout
    assert "can be pasted into a shell as it stands" in done.stderr
    assert "GUARDRAIL_LAUNCHED=1 tells" in done.stderr
    make = f"guardrail anchor toy-sft --set anchors={tmp_path}/mine --set launch.processes=2"
    assert ("it makes its anchors first" in done.stderr) == (processes == 1)
    assert (f"not there yet: {make}" in done.stderr) == (processes == 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/manifest.json").touch()
    done = CliRunner().invoke(app, [*asked, "--lang", "zh"])
    assert f"锚点已有：{tmp_path}/mine" in done.stderr


def test_one_process_is_started_by_nobody_and_several_by_torchrun():
    assert read_recipe("toy-sft").launcher == "in process"
    assert read_recipe("toy-sft", changes=["launch.processes=2"]).launcher == "torchrun"
    assert read_recipe("toy-sft", changes=["launch.nodes=2"]).launcher == "torchrun"
    alone = shell("toy-sft")
    assert "-m guardrail run toy-sft" in alone
    assert "torch.distributed" not in alone


def test_what_was_set_and_resumed_reaches_the_ranks():
    text = shell("toy-sft", "seed=7", "launch.processes=2", resume=True)
    assert "--set seed=7" in text
    assert "--set launch.processes=2" in text
    assert "--resume" in text
    assert "--resume-from checkpoint-40" in shell(
        "toy-sft", "launch.processes=2", resume="checkpoint-40"
    )


def test_variables_of_the_recipe_are_set_beside_the_launchers():
    text = shell("toy-sft", "launch.processes=2", "launch.environment.NCCL_DEBUG=INFO")
    assert "NCCL_DEBUG=INFO" in text
    assert "GUARDRAIL_LAUNCHED=1" in text


def test_a_shell_takes_the_printed_command_as_it_was_meant():
    import shlex

    recipe = read_recipe("toy-sft", changes=["launch.processes=2"])
    odd = Path("/runs/a run's 测试")
    command = launch_command(recipe, "toy-sft", odd, changes=["train.rewards=[a.py:f, b.py:g]"])
    words = shlex.split(command.as_shell().replace("\\\n", " "))
    variables = [f"{name}={value}" for name, value in command.environment.items()]
    assert words == [*variables, *command.line]


def test_a_swift_run_goes_on_from_its_newest_complete_checkpoint_in_its_own_folder(tmp_path):
    name, changes = "qwen3-8b-sft-lora-swift", FIRST_HOUR
    with pytest.raises(InputError, match="has no complete checkpoint to go on from"):
        shell(name, *changes, resume=True, run=tmp_path)
    for step in (200, 400):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / STATE_FILE).write_text("{}", encoding="utf-8")
    text = shell(name, *changes, resume=True, run=tmp_path)
    assert f"--resume_from_checkpoint {tmp_path}/checkpoint-400" in text
    assert f"--output_dir {tmp_path} " in text
    assert f"{tmp_path}/checkpoint-200" in shell(
        name, *changes, resume="checkpoint-200", run=tmp_path
    )


def test_a_swift_recipe_that_names_no_rows_says_how_it_is_started(tmp_path):
    with pytest.raises(
        InputError, match=r"set `train.data` \(JSONL\) or `train.arguments.dataset`"
    ):
        shell("qwen3-8b-sft-lora-swift")


def test_lists_mappings_and_truth_are_written_as_swift_reads_them():
    text = shell(
        "qwen3-8b-sft-lora-swift",
        *FIRST_HOUR,
        "train.arguments.callbacks=early_stop",
        "train.arguments.dataset=[AI-ModelScope/alpaca-gpt4-data-zh#500]",
        "train.arguments.model_kwargs={max_pixels: 10}",
        "train.arguments.packing=true",
        "train.arguments.lora_rank=null",
    )
    assert "--callbacks early_stop guardrail" in text
    assert "--dataset /data/rows.jsonl 'AI-ModelScope/alpaca-gpt4-data-zh#500'" in text
    assert """--model_kwargs '{"max_pixels": 10}'""" in text
    assert "--packing true" in text
    assert "--lora_rank" not in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["launch.launcher=swift"], "does not start `trainer: trl-sft`"),
        (["launch.launcher=in process", "launch.processes=2"], "is one process"),
        (["launch.processes=0"], "launch.processes"),
        (["launch.gpus=8"], "unknown key `launch.gpus`"),
    ],
)
def test_a_launch_section_that_cannot_be_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        read_recipe("toy-sft", changes=changes)


def test_flags_the_recipe_has_a_key_for_are_refused():
    with pytest.raises(InputError, match=r"`train.arguments.model` is set by the recipe's"):
        shell("qwen3-8b-sft-lora-swift", *FIRST_HOUR, "train.arguments.model=other")


def test_one_of_several_nodes_says_which_it_is():
    recipe = read_recipe("toy-sft", changes=["launch.nodes=2"])
    with pytest.raises(InputError, match="lacks NODE_RANK and MASTER_ADDR"):
        this_node(recipe, {})
    with pytest.raises(InputError, match="must be 0 to 1, got `2`"):
        this_node(recipe, {"NODE_RANK": "2", "MASTER_ADDR": "a"})
    assert this_node(recipe, {"NODE_RANK": "1", "MASTER_ADDR": "a"}) == Node(1, "a", "29500")
    assert this_node(read_recipe("toy-sft"), {"NODE_RANK": "9"}) == Node()
