"""What `guardrail check` refuses because a run would die of it: each mistake in one sentence, none a library's traceback."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.errors import InputError
from guardrail.preflight.check_recipe import FEW_ROWS, check_recipe
from guardrail.preflight.preflight import preflight
from guardrail.recipe import read_recipe
from guardrail.run import run_recipe
from tests.run_fixtures import small_recipe

pytestmark = [
    pytest.mark.trl1,
    # TRL 1.16 asks transformers 5.23 by the old name.
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning"),
]

CASES = Path(__file__).parents[1] / "data/cases/train"
GRPO = [
    "trainer=trl-grpo",
    "train.held_out=0",
    "train.arguments={num_generations: 4, beta: 0.02, use_cpu: true, bf16: false}",
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "rewards.py").write_text(
        "def plain(completions, **rows):\n    return [0.0 for _ in completions]\n"
        "def of_solution(completions, solution, **rows):\n    return [0.0 for _ in completions]\n"
        "def of_answer(completions, answer, **rows):\n    return [0.0 for _ in completions]\n"
        "def takes_no_more(completions):\n    return [0.0 for _ in completions]\n"
    )
    return small_recipe(folder, items_an_ability=1)


def read(recipe, data, *changes):
    if data is not None:
        changes = (f"train.data={data}", *changes)
    return read_recipe(recipe, changes=changes)


def refused(recipe, data, *changes):
    with pytest.raises(InputError) as caught:
        preflight(read(recipe, data, *changes))
    return str(caught.value)


@pytest.mark.parametrize("name", ["alpaca.jsonl", "array.json", "bom.jsonl", "parts.jsonl"])
@pytest.mark.parametrize("trainer", ["trl-sft", "trl-grpo"])
def test_every_shape_of_training_file_passes_the_check_with_its_counts(name, trainer, recipe):
    rewards = f"train.rewards=[{recipe.parent}/rewards.py:plain]"
    changes = [*GRPO, rewards] if trainer == "trl-grpo" else []
    facts = check_recipe(read(recipe, CASES / name, *changes))
    assert facts["training_rows"] + facts.get("held_out_rows", 0) == 96
    rewritten = {"alpaca.jsonl": {"alpaca": 96}, "parts.jsonl": {"messages": 48}}
    assert facts.get("training_rows_rewritten", {}) == rewritten.get(name, {})
    assert facts["warnings"] == []


def test_a_column_that_some_rows_lack_is_named_before_rewards_are_given_none(recipe):
    rewards = f"train.rewards=[{recipe.parent}/rewards.py:of_solution]"
    facts = check_recipe(read(recipe, CASES / "grpo_first_lacks.jsonl", *GRPO, rewards))
    (warning,) = facts["warnings"]
    assert "column `solution` is empty in 1 of 96 training rows, the first `" in warning
    assert "grpo_first_lacks.jsonl` line 1" in warning


def test_too_few_rows_to_learn_from_are_warned_of(recipe, tmp_path):
    lines = (CASES / "bom.jsonl").read_text(encoding="utf-8-sig").splitlines(keepends=True)
    few = tmp_path / "few.jsonl"
    batch = "train.arguments.per_device_train_batch_size=4"
    for rows, said in (
        (3, "3 training rows do not fill one optimizer step, which takes 4"),
        (FEW_ROWS - 1, f"{FEW_ROWS - 1} training rows are few"),
        (FEW_ROWS, None),
    ):
        few.write_text("".join(lines[:rows]), encoding="utf-8")
        found = check_recipe(read(recipe, few, batch, "train.held_out=0"))["warnings"]
        assert [warning.startswith(str(said)) for warning in found] == ([True] if said else [])


def test_rows_that_may_see_one_another_in_a_packed_sequence_are_warned_of(recipe):
    def warned(*changes):
        packed = ["train.arguments.max_length=64", *changes]
        return check_recipe(read(recipe, CASES / "bom.jsonl", *packed))["warnings"]

    (said,) = warned("train.arguments.packing=true")
    assert said.startswith("`packing` without flash attention: TRL says")
    (said,) = warned("train.arguments.padding_free=true")
    assert said.startswith("`padding_free` without flash attention")
    (said,) = warned("train.arguments.packing=true", "train.arguments.packing_strategy=wrapped")
    assert said.startswith("`packing_strategy: wrapped` cuts rows anywhere")
    flash = "train.arguments.model_init_kwargs={attn_implementation: flash_attention_2}"
    assert warned("train.arguments.packing=true", flash) == []
    assert warned() == []


def test_which_weights_train_is_said(recipe):
    facts = check_recipe(read(recipe, CASES / "bom.jsonl"))
    assert facts["trains"] == "all weights"
    facts = check_recipe(read(recipe, CASES / "bom.jsonl", "train.lora={r: 2}"))
    assert facts["trains"] == "an adapter (lora)"


def test_a_run_that_will_inject_nothing_is_warned_of(recipe):
    """A share of few samples is no sample: the guard would only look."""
    few = check_recipe(read(recipe, CASES / "bom.jsonl", "train.arguments.max_steps=2"))
    (said,) = [one for one in few["warnings"] if "rehearsal samples" in one]
    assert "nothing will hold the model" in said
    many = check_recipe(read(recipe, CASES / "bom.jsonl", "train.arguments.max_steps=200"))
    assert not [one for one in many["warnings"] if "rehearsal samples" in one]
    watched = read(recipe, CASES / "bom.jsonl", "train.arguments.max_steps=2", "mode=watch")
    assert not [one for one in check_recipe(watched)["warnings"] if "rehearsal samples" in one]


def test_minutes_are_told_for_gpus_alone(recipe):
    """What a GPU takes is wrong by a hundred times where processors train."""
    on_processors = check_recipe(read(recipe, CASES / "bom.jsonl"))
    assert "`guardrail rehearse` measures them" in on_processors["assumed"]
    assert not [name for name in on_processors if "minutes" in name or "second" in name]
    assert "share_of_the_run" not in on_processors
    elsewhere = check_recipe(read(recipe, CASES / "bom.jsonl", "train.arguments.use_cpu=false"))
    assert elsewhere["anchors_minutes"] > 0
    assert elsewhere["look_minutes"] > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("arguments.learning_rate='1e-4'", "`train.arguments.learning_rate` must be a number, got '1e-4'; a number stands without"),
        ("arguments.max_steps=ten", "must be a whole number, got 'ten'"),
        ("arguments.packing=2", "must be true or false, got 2"),
        ("arguments.gradient_accumulation_steps=0", "must be 1 or more, got 0"),
        ("arguments.num_train_epochs=0", "must be above 0, got 0"),
        ("arguments.lr_scheduler_type=cosinus", "cosinus is not a valid SchedulerType"),
        ("arguments.learning_rat=1", "has no `learning_rat` (did you mean `learning_rate`?)"),
        ("arguments.fsdp=full_shard", "runs under FSDP"),
        ("arguments.eos_token=<none>", "`train.arguments.eos_token` is `<none>`, which the tokenizer"),
        ("arguments.eos_token=<|endoftext|>", "ends sequences with '<|endoftext|>'"),
        ("arguments.completion_only_loss=true", "is for rows with prompt and completion, and these have messages"),
        ("arguments.model_init_kwargs={dtype: bfloat17}", "cannot be loaded so: module 'torch' has no attribute"),
        ("lora={rank: 8}", "LoraConfig refuses it"),
        ("lora={r: 8, target_modules: [q_prj]}", "`train.lora` does not fit the model"),
        ("lora={r: 0}", "`train.lora` does not fit the model"),
    ],
)  # fmt: skip
def test_a_mistake_in_arguments_or_adapter_is_named(change, said, recipe):
    assert said in refused(recipe, CASES / "alpaca.jsonl", f"train.{change}")


@pytest.mark.parametrize(
    "given",
    ["{dtype: auto}", "{torch_dtype: auto}", "{attn_implementation: flash_attention_2}"],
)
def test_how_a_model_is_usually_loaded_is_no_mistake(given, recipe):
    """A GPU that is not here is another matter."""
    preflight(read(recipe, CASES / "alpaca.jsonl", f"train.arguments.model_init_kwargs={given}"))


def test_every_unknown_argument_is_named_and_one_that_has_moved_with_what_to_write_now(recipe):
    arguments = "train.arguments={max_seq_length: 64, evaluation_strategy: steps, learning_rat: 1}"
    said = refused(recipe, CASES / "alpaca.jsonl", arguments)
    assert (
        "no `max_seq_length` (`max_length` is its name now); no `evaluation_strategy` (`eval_"
        in said
    )
    assert said.endswith("no `learning_rat` (did you mean `learning_rate`?)")
    grpo = ["train.rewards=[rewards.py:plain]", "train.arguments.max_prompt_length=64"]
    said = refused(recipe, CASES / "grpo_first_lacks.jsonl", *GRPO, *grpo)
    assert "TRL cuts no prompts any more" in said
    assert "did you mean" not in said


@pytest.mark.skipif(
    torch.accelerator.is_available(), reason="arguments for a GPU are refused without"
)
def test_arguments_for_a_gpu_pass_the_check_with_a_warning_and_end_a_run_before_its_anchors(
    recipe, tmp_path
):
    changes = ["train.arguments={max_steps: 2, bf16: true}", f"anchors={tmp_path / 'anchors'}"]
    facts = check_recipe(read(recipe, CASES / "alpaca.jsonl", *changes))
    (warning,) = [one for one in facts["warnings"] if "rehearsal samples" not in one]
    assert warning.startswith(
        "a run on this machine would be refused: `train.arguments`: SFTConfig"
    )
    assert warning.endswith(facts["refused_here"])
    asked = ["check", str(recipe), "--set", f"train.data={CASES / 'alpaca.jsonl'}"]
    for change in changes:
        asked += ["--set", change]
    for language, last in (
        ("en", "ok, but not on this machine"),
        ("zh", "配方检查通过，但在这台机器上跑不了"),
    ):
        done = CliRunner().invoke(app, [*asked, "--lang", language])
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines()[-1] == last
    with pytest.raises(InputError, match="No GPU is seen here: start it where there is one"):
        run_recipe(read(recipe, CASES / "alpaca.jsonl", *changes), tmp_path / "run")
    assert not (tmp_path / "anchors").exists()
    assert not (tmp_path / "run").exists()


def test_steps_are_counted_as_the_trainer_counts_them_and_from_packed_sequences(recipe):
    # 96 rows, a tenth held out: 29 batches of 3 and 15 steps an epoch, the last of one batch alone.
    batches = "use_cpu: true, bf16: false, num_train_epochs: 3, per_device_train_batch_size: 3, gradient_accumulation_steps: 2"
    data, held = CASES / "alpaca.jsonl", "train.held_out=0.1"
    plain = check_recipe(read(recipe, data, held, f"train.arguments={{{batches}}}"))
    assert (plain["training_rows"], plain["held_out_rows"]) == (86, 10)
    assert plain["optimizer_steps"] == 3 * 15
    packed = f"train.arguments={{{batches}, packing: true, max_length: 4096}}"
    assert check_recipe(read(recipe, data, held, packed))["optimizer_steps"] < 3 * 15


def test_adapters_that_are_computed_from_weights_are_let_in_without_any(recipe):
    lora = "train.lora={r: 4, init_lora_weights: pissa, target_modules: all-linear}"
    preflight(read(recipe, CASES / "alpaca.jsonl", lora))


def test_evaluation_without_rows_to_evaluate_on_is_refused(recipe):
    said = refused(recipe, CASES / "alpaca.jsonl", "train.held_out=0", "train.arguments.eval_strategy=steps")  # fmt: skip
    assert "`train.held_out` 0 of 96 holds none out" in said


@pytest.mark.parametrize(
    ("row", "change", "said"),
    [
        ({"text": "整段文字"}, "assistant_only_loss=true", "is for chats, and the rows have text as plain text"),
        ({"text": "整段文字"}, "dataset_text_field=body", "`train.arguments.dataset_text_field` is `body`"),
        ({"prompt": "问", "completion": "答"}, "dataloader_drop_last=true", "has 1 rows, a batch takes 4"),
        ({"prompt": "问"}, "max_steps=2", "holds no row to train on: 1 no answer"),
    ],
)  # fmt: skip
def test_rows_that_do_not_go_with_the_arguments_are_named(row, change, said, recipe, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    changes = ["train.held_out=0", "train.arguments.assistant_only_loss=false"]
    assert said in refused(recipe, file, *changes, f"train.arguments.{change}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.arguments.beta=abc", "`train.arguments.beta` must be a number"),
        ("train.arguments.beta=-1", "must be 0 or more, got -1"),
        ("train.arguments.num_generations=0", "must be 2 or more, got 0"),
        ("train.arguments.reward_weights=[1, 2]", "has 2 weights for 1 `train.rewards`"),
        ("train.arguments.auto_find_batch_size=true", "auto_find_batch_size"),
        ("train.arguments.eval_strategy=steps", "GRPO holds none out"),
        ("train.arguments.chat_template_kwargs={enable_thinking: true}", "have enable_thinking True"),
        ("train.arguments.per_device_train_batch_size=4000", "have 96 prompts, one generation batch takes 1000"),
        ("rehearsal={grpo: literal, loss: ce}", "`rehearsal.grpo: literal` has none"),
        ("train.rewards=[]", "`train.rewards` is empty"),
        ("train.rewards=[rewards.py:of_answer]", "missing a required argument: 'answer'. It is given prompts"),
        ("train.rewards=[rewards.py:takes_no_more]", "end its parameters with `**kwargs`"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_grpo_recipe_is_named(change, said, recipe):
    rewards = "train.rewards=[rewards.py:plain]"
    data = CASES / "grpo_first_lacks.jsonl"
    assert said in refused(recipe, data, *GRPO, rewards, change)


def test_beta_0_with_golds_cannot_be_raised(recipe):
    changes = ["train.rewards=[rewards.py:plain]", "train.arguments.beta=0", "rehearsal.grpo=anchored"]  # fmt: skip
    data = CASES / "grpo_first_lacks.jsonl"
    said = refused(recipe, data, *GRPO, *changes, "ladder.beta=raise")
    assert "`ladder.beta: raise` needs a `beta` above 0" in said


def test_a_folder_that_cannot_be_written_is_refused_and_none_is_made(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    data = CASES / "alpaca.jsonl"
    said = refused(recipe, data, f"anchors={tmp_path}/file/anchors")
    assert "the anchors' folder" in said
    assert f"`{tmp_path}/file` is no folder" in said
    with pytest.raises(InputError, match="give another with --out"):
        preflight(read(recipe, data), tmp_path / "file/run")
    preflight(read(recipe, data), tmp_path / "new/run")
    assert not (tmp_path / "new").exists()
