"""Rounds trained for real on the toy: the project's own SFT path, the model asked in this process, nothing trained twice."""

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from guardrail.build_trainer import build_trainer
from guardrail.data.chat_endpoint import ChatRequest
from guardrail.data.generate.data_distillation import data_distillation
from guardrail.data.rows import made_row, read_data_rows, write_rows
from guardrail.data.trained_model import LocalAnswerer, train_on
from guardrail.errors import InputError
from guardrail.recipe import read_recipe
from guardrail.sets.read.row_forms import check_row_forms
from guardrail.sets.read.training_rows import read_training_rows
from guardrail.shipped import shipped_root

pytestmark = [
    pytest.mark.run,
    pytest.mark.trl1,
    # TRL 1.16 asks transformers 5.23 by the old name.
    pytest.mark.filterwarnings("ignore:.gradient_checkpointing. is deprecated:FutureWarning"),
]

BASE = shipped_root() / "recipes/toy/base"


@pytest.fixture(scope="module")
def rows():
    return read_data_rows(shipped_root() / "recipes/toy/collections.jsonl")[:24]


@pytest.fixture(scope="module")
def recipe():
    changes = [
        "train.arguments.max_steps=2",
        "train.arguments.warmup_steps=0",
        "train.arguments.save_steps=100",
    ]
    return read_recipe("toy-sft", changes=changes)


@pytest.fixture(scope="module")
def distilled(rows, recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilled")
    asked = []

    def train(some, name):
        asked.append((name, len(some)))
        return LocalAnswerer(train_on(recipe, some, folder / name), thinking=False)

    made = data_distillation(
        train, rows[:12], rows[12:], least_confidence=0.0, rounds=1, max_tokens=24
    )
    return folder, asked, made


def test_a_teacher_is_trained_labels_and_is_trained_again_on_both(distilled):
    folder, asked, made = distilled
    assert asked[0] == ("teacher-0", 12)
    assert asked[1] == ("teacher-1", 12 + len(made.rows))
    assert len(made.rows) + len(made.dropped) == 12
    weights = [
        load_file(path / "model.safetensors")
        for path in (BASE, folder / "teacher-0", folder / "teacher-1")
    ]
    name = next(iter(weights[0]))
    assert not torch.equal(weights[0][name].float(), weights[1][name].float())
    assert not torch.equal(weights[1][name], weights[2][name])


def test_a_finished_model_is_not_trained_again_and_other_rows_are_refused(distilled, rows, recipe):
    folder = distilled[0] / "teacher-0"
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert train_on(recipe, rows[:12], folder) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="trained on other rows"):
        train_on(recipe, rows[:3], folder)


def test_confidence_is_the_geometric_mean_of_the_answers_probabilities(distilled, rows):
    folder = distilled[0] / "teacher-0"
    answerer = LocalAnswerer(folder, thinking=False)
    chat = tuple(rows[0].messages[:-1])
    (reply,) = answerer([ChatRequest(chat, "a", temperature=0.0, max_tokens=12)])
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    prompt = tokenizer.apply_chat_template(
        list(chat), add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    ids, told = list(prompt), []
    for _ in range(reply.completion_tokens):
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, -1].double()
        told.append(torch.log_softmax(logits, -1).max().item())
        ids.append(int(logits.argmax()))
    assert reply.confidence == pytest.approx(math.exp(sum(told) / len(told)), abs=1e-4)
    assert answerer.costs.as_dict()["completion_tokens"] == reply.completion_tokens


def test_a_recipe_of_another_trainer_is_refused(rows, recipe, tmp_path):
    other = recipe.model_copy(update={"trainer": "ms-swift"})
    with pytest.raises(InputError, match="need `trl-sft`"):
        train_on(other, rows, tmp_path)


def test_rows_of_different_stages_train_as_they_stand(recipe, tmp_path):
    made = [
        made_row(
            "三加四", "七。", method="self-instruct", cell={"task": "qa"}, classification=None
        ).scored(ifd=0.3),
        made_row("二加四", "六。", method="people-and-model", annotation_metrics={"accuracy": 5}),
        made_row("一加四", "五。", method="evol-instruct", parents=["x"], round=2),
    ]
    write_rows(tmp_path / "rows.jsonl", made)
    read = read_training_rows(tmp_path / "rows.jsonl")
    check_row_forms(read.rows, read.where, trainer="trl-sft")
    whole = recipe.model_copy(update={"train": recipe.train.model_copy(update={"held_out": 0.0})})
    trainer = build_trainer(whole, read.rows, tmp_path / "out")
    trainer.train()
    assert trainer.state.global_step == 2
