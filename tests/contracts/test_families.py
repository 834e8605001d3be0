"""Every family in every precision under SFT and GRPO: a run from attach to report, and who is let in.

CI has a cell of every family in every precision, both trainers in turn; `make test-full` has the others, and
`make test-qlora`, a part of it, those of QLoRA.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers

from guardrail.build_trainer import build_trainer
from guardrail.errors import InputError
from guardrail.preflight.preflight import preflight
from guardrail.recipe import Recipe
from guardrail.report.report import build_report
from guardrail.run import run_recipe
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.text import parse_answer
from guardrail.trainers.attach import Guardrail
from tests.conftest import installed
from tests.contracts.cells import ALL, KINDS, PRECISIONS, Cell, write_base, write_recipe
from tests.contracts.families import FAMILIES
from tests.contracts.tiny_models import make_tokenizer
from tests.run_fixtures import records

transformers.utils.logging.disable_progress_bar()
datasets.disable_progress_bars()

pytestmark = [pytest.mark.run, pytest.mark.filterwarnings("ignore")]

OTHER_TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def in_ci(cell: Cell) -> bool:
    """Every family meets every precision, every precision both trainers, every family both; QLoRA is left out."""
    if cell.precision == "qlora":
        return False
    family = list(FAMILIES).index(cell.family.name)
    return KINDS.index(cell.kind) == (family + PRECISIONS.index(cell.precision)) % 2


TRL1 = (
    "qwen3-thinking-bf16-lora-grpo",
    "qwen3-moe-autocast-grpo",
    "gemma3-float32-sft",
    "llama3-autocast-sft",
)
"""CI's cells that TRL 1.16 repeats: between them all precisions, both trainers, and its router loss in GRPO."""


def marks(cell: Cell) -> list[pytest.MarkDecorator]:
    found = [pytest.mark.trl1] * (str(cell) in TRL1) + [pytest.mark.full] * (not in_ci(cell))
    if cell.precision == "qlora":
        lacking = not installed("bitsandbytes")
        found.append(pytest.mark.skipif(lacking, reason="bitsandbytes is not installed"))
    return found


CELLS = [pytest.param(cell, id=str(cell), marks=marks(cell)) for cell in ALL]
in_each_cell = pytest.mark.parametrize("made", CELLS, indirect=True)


@pytest.fixture(scope="module")
def made(request, tmp_path_factory) -> tuple[Cell, Path, Recipe]:
    """The cell, its folder with base and anchors, and its recipe."""
    cell = request.param
    folder = tmp_path_factory.mktemp(str(cell))
    recipe = write_recipe(folder, cell, write_base(folder / "base", cell))
    Guardrail.from_recipe(recipe).anchors()
    return cell, folder, recipe


def train(recipe: Recipe, trainer: Any, run: Path) -> None:
    """Guard a trainer of one's own, as a script does, and train."""
    guardrail = preflight(recipe).guardrail
    guardrail.attach(trainer, run=run)
    trainer.train()


def on_another(recipe: Recipe, folder: Path, model: Path, **arguments: Any) -> Any:
    """A trainer whose model and tokenizer come from another folder than the recipe's."""
    train = recipe.train.model_copy(update={"arguments": recipe.train.arguments | arguments})
    other = recipe.model_copy(update={"start_model": str(model), "train": train})
    read = read_training_rows(str(recipe.train.data), recipe.trainer)
    return build_trainer(other, read.rows, folder)


@in_each_cell
def test_runs_from_attach_to_report(made):
    _cell, folder, recipe = made
    run_recipe(recipe, folder / "run")
    run = folder / "run"
    assert [r["step"] for r in records(run, "look")] == [0, 2]
    assert [r["step"] for r in records(run, "tripwire")] == [0, 2]
    assert records(run, "kl_self_test")
    assert records(run, "ended")[0]["outcome"] == "finished"
    log = records(run, "log")[-1]
    assert log["rehearsal_samples"] >= 1
    assert log["loss"] is not None
    assert build_report(run).is_file()


@in_each_cell
def test_answers_end_with_the_familys_end_of_turn(made):
    cell, folder, _recipe = made
    tokenizer = make_tokenizer(cell.family)
    stops = {tokenizer.convert_tokens_to_ids(name) for name in cell.family.stops}
    answers = [json.loads(line) for line in (folder / "anchors/answers.jsonl").open()]
    ended = [a for a in answers if a["finish_reason"] == "stop"]
    assert len(ended) > 2
    assert {a["token_ids"][-1] for a in ended} <= stops
    assert not any(stops & set(a["token_ids"][:-1]) for a in answers)
    assert not any(name in a["text"] for name in cell.family.stops for a in answers)
    if cell.family.thinking == "opens":  # a thought that was cut off is no answer
        cut = [a["text"] for a in answers if "</think>" not in a["text"]]
        assert cut
        assert {parse_answer(text).text for text in cut} == {""}


@in_each_cell
def test_another_model_is_refused_by_its_weights(made):
    cell, folder, recipe = made
    other = write_base(folder / "other", cell, seed=2)
    with pytest.raises(InputError, match=r"gold_base\.weights"):
        run_recipe(recipe.model_copy(update={"gold_base": str(other)}), folder / "refused")
    trainer = on_another(recipe, folder / "other-out", other)
    with pytest.raises(InputError, match="the trainer's model is not the recipe's `start_model`"):
        train(recipe, trainer, folder / "other-run")


@in_each_cell
def test_another_template_is_refused_by_name(made):
    _cell, folder, recipe = made
    other = folder / "template"
    shutil.copytree(folder / "base", other)
    (other / "chat_template.jinja").write_text(OTHER_TEMPLATE, encoding="utf-8")
    with pytest.raises(InputError, match="template"):
        train(recipe, on_another(recipe, folder / "template-out", other), folder / "t-run")


@in_each_cell
def test_another_tokenizer_is_refused_by_name(made):
    cell, folder, recipe = made
    other = folder / "tokenizer"
    shutil.copytree(folder / "base", other)
    make_tokenizer(cell.family, swapped=True).save_pretrained(other)
    with pytest.raises(InputError, match="tokenizer"):
        train(recipe, on_another(recipe, folder / "tokenizer-out", other), folder / "k-run")


@in_each_cell
def test_another_thinking_mode_is_refused_by_name(made):
    cell, folder, recipe = made
    cause = "thinking: anchors have False, the recipe True"
    if cell.family.thinking == "opens":
        cause = "opens a thinking block"
    with pytest.raises(InputError, match=cause):
        run_recipe(recipe.model_copy(update={"thinking": not recipe.thinking}), folder / "refused")


def trained_so(cell: Cell) -> bool:
    """Of every family one precision, the next family's the next one."""
    family = list(FAMILIES).index(cell.family.name)
    precisions = [p for p in PRECISIONS if p != "qlora"]
    return precisions[family % len(precisions)] == cell.precision


@in_each_cell
def test_the_same_model_in_another_dtype_and_batch_size_is_let_in(made):
    cell, folder, recipe = made
    trainer = on_another(recipe, folder / "dtype-out", folder / "base", max_steps=1)
    dtype = torch.float32 if cell.precision == "bf16-lora" else torch.bfloat16
    if cell.precision != "qlora":  # 4-bit weights cannot be cast
        trainer.model.to(dtype)
    if getattr(trainer, "ref_model", None) is not None:
        trainer.ref_model.to(dtype)
    looks = recipe.looks.model_copy(update={"batch_size": 3})
    other, run = recipe.model_copy(update={"looks": looks}), folder / "dtype-run"
    if not trained_so(cell):  # who is let in is settled when the guard is attached
        Guardrail.from_recipe(other).attach(trainer, run=run)
        assert records(run, "started")
        return
    train(other, trainer, run)
    assert records(run, "ended")[0]["outcome"] == "finished"
