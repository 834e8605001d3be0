"""Which training rows are let in, and what is said of the first that does not fit."""

import pytest

from guardrail.errors import InputError
from guardrail.sets.read.row_forms import check_row_forms, with_all_columns

ASKED = {"role": "user", "content": "欠多少来着？"}
SAID = {"role": "assistant", "content": "1286.40 元。"}
CHAT = {"messages": [ASKED, SAID]}


def places(rows):
    return [f"`rows.jsonl` line {number}" for number in range(1, len(rows) + 1)]


def refused(rows, trainer="trl-sft"):
    with pytest.raises(InputError) as caught:
        check_row_forms(rows, places(rows), trainer=trainer)
    return str(caught.value)


@pytest.mark.parametrize(
    ("rows", "trainer"),
    [
        ([CHAT], "trl-sft"),
        ([{"prompt": "问", "completion": "答"}], "trl-sft"),
        ([{"prompt": [ASKED], "completion": [SAID]}], "trl-sft"),
        ([{"text": "整段文字"}], "trl-sft"),
        ([{"prompt": [ASKED], "solution": "1286.40"}], "trl-grpo"),
        ([CHAT, CHAT | {"note": None}, CHAT | {"note": "催收"}], "trl-sft"),
        ([CHAT | {"weight": 1}, CHAT | {"weight": 0.5}], "trl-sft"),
        ([{"messages": [ASKED, {"role": "assistant", "tool_calls": [{}]}, SAID]}], "trl-sft"),
    ],
)
def test_what_trl_takes_is_let_in(rows, trainer):
    check_row_forms(rows, places(rows), trainer=trainer)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": []}, "line 2, column `messages` must be text or a list of turns"),
        ({"messages": [{"content": "问"}]}, "turn 1 must have a `role`"),
        ({"messages": [ASKED, SAID | {"content": None}]}, "turn 2 (assistant): `content` must be"),
        ({"messages": [ASKED]}, "ends with a turn of `user`"),
        (
            {"prompt": "问", "completion": "答"},
            "has prompt and completion, and `rows.jsonl` line 1 has messages",
        ),
        ({"messages": None}, "has the columns messages"),
    ],
)
def test_the_first_row_that_does_not_fit_is_named_with_its_column(row, message):
    said = refused([CHAT, row, CHAT])
    assert message in said
    assert "training data `rows.jsonl` line 2" in said


def test_prompt_and_completion_are_both_text_or_both_turns():
    said = refused([{"prompt": [ASKED], "completion": "答"}])
    assert "has text in one of `prompt` and `completion` and turns in the other" in said


def test_the_first_value_of_another_type_is_named_with_its_row_and_the_one_it_does_not_go_with():
    rows = [CHAT, CHAT | {"due": "1286.40"}, CHAT, CHAT | {"due": 1286.4}, CHAT | {"due": [1]}]
    said = refused(rows)
    assert "line 4, column `due` holds float 1286.4" in said
    assert '`rows.jsonl` line 2 holds str "1286.40"' in said


def test_a_column_that_the_first_row_lacks_is_kept():
    rows = with_all_columns([{"prompt": "a"}, {"prompt": "b", "solution": "c"}])
    assert rows == [{"prompt": "a", "solution": None}, {"prompt": "b", "solution": "c"}]
