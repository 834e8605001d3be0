"""Prompts of a trainer against the anchors': every kind of difference is refused with its cause."""

from types import SimpleNamespace

import datasets
import pytest
from transformers import AutoTokenizer

from guardrail.errors import InputError
from guardrail.models.end_of_turn import resolve_profile
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root
from guardrail.trainers.checks.rendering import check_rendering, rows_opened_as_looks

pytestmark = pytest.mark.trl1
BASE = shipped_root() / "recipes/toy/base"
ITEMS = read_items(shipped_root() / "eval_sets/toy-redline-300/items.jsonl")[::30]


def fresh():
    return AutoTokenizer.from_pretrained(BASE)


def check(tokenizer, others=None, thinking=False):
    recipe = SimpleNamespace(gold_base=str(BASE), thinking=thinking)
    profile = resolve_profile(BASE, fresh(), thinking=thinking)
    check_rendering(recipe, ITEMS, profile, tokenizer, others or {})


def rendered(tokenizer, **options):
    def render(chat):
        return tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=False, **options
        )

    return render


def test_the_base_s_own_tokenizer_passes_also_with_a_template_that_only_marks_what_is_trained():
    tokenizer = fresh()
    check(tokenizer)
    tokenizer.chat_template = "{# trained on answers #}" + tokenizer.chat_template
    check(tokenizer, {"mine": rendered(tokenizer, enable_thinking=False)})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda t: setattr(t, "chat_template", t.chat_template.replace("<|im_start|>", "##")),
            "the trainer's chat template does not write prompts as the gold base",
        ),
        (lambda t: t.add_tokens(["您好", "请"]), "the trainer's tokenizer does not write prompts"),
        (
            lambda t: setattr(t, "eos_token", "<|im_start|>"),
            r"ends sequences with '<\|im_start\|>', with which no answer of the gold base",
        ),
        (
            lambda t: setattr(t, "chat_template", "{{ raise_exception('no chats here') }}"),
            "it refuses one .*no chats here",
        ),
    ],
)
def test_another_template_tokenizer_or_end_of_turn_is_refused_with_its_cause(change, named):
    tokenizer = fresh()
    change(tokenizer)
    with pytest.raises(InputError, match=named):
        check(tokenizer)


def test_what_else_renders_in_the_trainer_is_held_to_the_same_and_shown_beside():
    tokenizer = fresh()
    with pytest.raises(InputError, match="`--enable_thinking` does not write") as caught:
        check(tokenizer, {"`--enable_thinking`": rendered(tokenizer, enable_thinking=True)})
    assert r"gold base 'assistant\n<think>" in str(caught.value) or "<think>" in str(caught.value)
    check(tokenizer, {"mine": rendered(tokenizer, enable_thinking=True)}, thinking=True)


def test_training_rows_that_answer_without_the_thinking_block_of_looks_are_counted():
    tokenizer = fresh()
    chat = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "您好"}]
    whole = tokenizer.apply_chat_template(chat, tokenize=False)
    rows = [
        whole,
        whole.replace("<think>\n\n</think>\n\n", ""),
        "没有对话的文字",
    ]
    data = datasets.Dataset.from_list([{"input_ids": tokenizer(text).input_ids} for text in rows])
    found = rows_opened_as_looks(data, tokenizer, thinking=False)
    assert found == {"opened": 2, "as_looks": 1}
