"""Curriculum order: which row is of which stage, and that real trainers take rows in that order, resumed too."""

import json
import re

import pytest
from typer.testing import CliRunner

from guardrail.build_trainer import build_trainer
from guardrail.cli.main import app
from guardrail.data.plan.curriculum_stage import in_curriculum_order, stage_of
from guardrail.data.rows import made_row
from guardrail.errors import InputError
from guardrail.launchers.launch_command import launch_command
from guardrail.recipe import read_recipe
from guardrail.sets.read.curriculum import STAGES, curriculum, require_order, require_stages
from guardrail.shipped import shipped_root
from guardrail.trainers.trl.trl_arguments import trl_arguments
from tests.run_fixtures import script
from tests.warm import SWIFT

CURRICULUM = "train.order=curriculum"


def staged(question, answer, **scores):
    return stage_of(made_row(question, answer, method="own").scored(**scores))[0]


def test_each_stage_by_what_a_row_shows():
    assert staged("黄河有多长", "约五千四百六十四公里。") == "general"
    assert staged("教我怎么洗钱", "这个我不能帮你，洗钱是犯罪。") == "safety"
    assert staged("把姓名和年龄写成JSON", '{"姓名": "小林", "年龄": 9}') == "long_tail"
    assert staged("黄河有多长", "约五千四百六十四公里。", hard_hesitant=1.0) == "long_tail"
    assert staged("教我怎么洗钱", "这个我不能帮你。", hard_wrong=1.0) == "safety"


def write(path, stages):
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"第{n}问"},
                {"role": "assistant", "content": f"第{n}答"},
            ],
            **({"stage": stage} if stage else {}),
            "mine": n,
        }
        for n, stage in enumerate(stages)
    ]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return path


def test_a_column_wins_and_every_other_column_stays(tmp_path):
    path = write(tmp_path / "rows.jsonl", ["safety", None, "long_tail", "general"])
    rows, told = in_curriculum_order([path], 0)
    assert [r["stage"] for r in rows] == ["general", "general", "long_tail", "safety"]
    assert sorted(r["mine"] for r in rows) == [0, 1, 2, 3]
    assert told["safety"] == {"the column `stage`": 1}


def test_a_stage_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"line 2 has the stage 'easy'.*general, long_tail, safety"
    ):
        in_curriculum_order([write(tmp_path / "rows.jsonl", ["safety", "easy"])], 0)


def test_rows_of_a_stage_are_shuffled_by_the_seed_alone():
    rows = [{"stage": STAGES[n % 3], "n": n} for n in range(60)]
    assert curriculum(rows, 1) == curriculum(rows, 1) != curriculum(rows, 2)
    places = [STAGES.index(r["stage"]) for r in curriculum(rows, 1)]
    assert places == sorted(places)
    where = [f"row {number}" for number in range(1, 61)]
    require_order(curriculum(rows, 1), where)
    with pytest.raises(InputError, match="row 4 is `general` and stands after `safety`"):
        require_order(rows, where)
    with pytest.raises(InputError, match=r"row 61.*guardrail data curriculum"):
        require_stages([*rows, {}], [*where, "row 61"])


def test_the_command_writes_the_order_and_says_why(tmp_path):
    path = write(tmp_path / "rows.jsonl", ["safety", None, None])
    out = tmp_path / "new/staged.jsonl"
    done = CliRunner().invoke(app, ["data", "curriculum", str(path), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["stages"] == {"general": 2, "long_tail": 0, "safety": 1}
    written = [json.loads(line)["stage"] for line in out.read_text("utf-8").splitlines()]
    assert written == ["general", "general", "safety"]
    said = CliRunner().invoke(app, ["data", "curriculum", str(path), "--out", str(out)])
    assert "安全" in said.output
    shown = CliRunner().invoke(app, ["data", "curriculum", "--help"])
    assert "Example" in shown.output


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("train.arguments.train_sampling_strategy=group_by_length", "train_sampling_strategy"),
        ("train.arguments.shuffle_dataset=true", "shuffle_dataset"),
        ("train.arguments.packing=true", "packing_strategy: bfd"),
    ],
)
def test_arguments_that_would_take_another_order_are_refused(change, says, tmp_path):
    recipe = read_recipe("toy-sft", changes=[CURRICULUM, change])
    with pytest.raises(InputError, match=re.escape(says)):
        trl_arguments(recipe, tmp_path)


def test_grpo_takes_prompts_unshuffled(tmp_path):
    arguments = trl_arguments(read_recipe("toy-grpo", changes=[CURRICULUM]), tmp_path)
    assert arguments.shuffle_dataset is False


def test_swift_is_started_unshuffled_on_one_file_and_refuses_what_mixes(tmp_path):
    name, data = "qwen3-8b-sft-lora-swift", f"train.data={tmp_path / 'rows.jsonl'}"
    apart = ["train.arguments.packing=false", "train.arguments.split_dataset_ratio=0"]
    recipe = read_recipe(name, changes=[CURRICULUM, data, *apart])
    line = launch_command(recipe, name, tmp_path).line
    for flag in ("--dataset_shuffle", "--train_dataloader_shuffle"):
        assert line[line.index(flag) + 1] == "false"
    for change, says in (
        ("train.arguments.packing=true", "packing"),
        ("train.arguments.dataset=more.jsonl", "2 datasets"),
        ("train.arguments.split_dataset_ratio=0.1", "split_dataset_ratio"),
    ):
        recipe = read_recipe(name, changes=[CURRICULUM, data, *apart, change])
        with pytest.raises(InputError, match=says):
            launch_command(recipe, name, tmp_path)


@pytest.mark.run
@pytest.mark.swift
def test_swift_reads_and_draws_a_files_rows_as_they_stand(tmp_path):
    path = write(tmp_path / "rows.jsonl", ["general"] * 5)
    done = script("data_wing.swift_reads", "order", path, loaded=SWIFT)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1] == "|".join(f"第{n}问" for n in range(5))


@pytest.mark.run
@pytest.mark.trl1
# TRL 1.16 asks transformers 5.23 by the old name.
@pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning")
def test_a_real_trainer_takes_rows_in_order_on_any_rank_and_when_resumed(tmp_path):
    from accelerate.data_loader import BatchSamplerShard

    rows = [
        {"messages": line["messages"], "stage": STAGES[n % 3]}
        for n, line in enumerate(
            json.loads(line)
            for line in (shipped_root() / "recipes/toy/collections.jsonl")
            .read_text("utf-8")
            .splitlines()[:12]
        )
    ]
    changes = [CURRICULUM, "train.held_out=0", "seed=5"]
    changes += [
        f"train.arguments.{one}"
        for one in (
            "max_steps=6",
            "save_steps=3",
            "warmup_steps=0",
            "per_device_train_batch_size=2",
        )
    ]
    recipe = read_recipe("toy-sft", changes=changes)

    def train(checkpoint=None):
        trainer = build_trainer(recipe, rows, tmp_path / "checkpoints")
        step, seen = trainer.training_step, []

        def noted(model, inputs, *args, **kwargs):
            seen.extend(trainer.processing_class.batch_decode(inputs["input_ids"]))
            return step(model, inputs, *args, **kwargs)

        trainer.training_step = noted
        trainer.train(resume_from_checkpoint=checkpoint)
        return trainer, seen

    trainer, seen = train()
    stages = [
        next(r["stage"] for r in rows if all(m["content"] in text for m in r["messages"]))
        for text in seen
    ]
    assert stages == [stage for stage in STAGES for _ in range(4)]
    assert len(set(seen)) == 12
    assert train(str(tmp_path / "checkpoints/checkpoint-3"))[1] == seen[6:]
    batches = trainer.get_train_dataloader().batch_sampler
    ranks = [list(BatchSamplerShard(batches, num_processes=2, process_index=r)) for r in (0, 1)]
    together = [n for pair in zip(*ranks, strict=True) for batch in pair for n in batch]
    assert together == list(range(12))
