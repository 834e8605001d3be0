"""Which training rows are let in, and what is said of the first that does not fit."""

import json

import pytest

from guardrail.errors import InputError
from guardrail.sets.read.row_forms import check_row_forms, with_all_columns
from guardrail.sets.read.training_rows import read_training_rows

ASKED = {"role": "user", "content": "欠多少来着？"}
SAID = {"role": "assistant", "content": "1286.40 元。"}
CHAT = {"messages": [ASKED, SAID]}


def refused(rows, trainer="trl-sft"):
    with pytest.raises(InputError) as caught:
        check_row_forms(rows, trainer=trainer, source="rows.jsonl")
    return str(caught.value)


@pytest.mark.parametrize(
    ("rows", "trainer"),
    [
        ([CHAT], "trl-sft"),
        ([{"prompt": "问", "completion": "答"}], "trl-sft"),
        ([{"prompt": [ASKED], "completion": [SAID]}], "trl-sft"),
        ([{"text": "整段文字"}], "trl-sft"),
        ([{"prompt": [ASKED], "solution": "1286.40"}], "trl-grpo"),
        ([CHAT], "trl-grpo"),
        ([{"messages": [ASKED, {"role": "assistant", "tool_calls": [{}]}, SAID]}], "trl-sft"),
    ],
)
def test_what_trl_takes_is_let_in(rows, trainer):
    check_row_forms(rows, trainer=trainer, source="rows.jsonl")


def test_alpaca_rows_are_named_with_their_columns_and_the_form_to_take():
    said = refused([{"instruction": "问", "input": "", "output": "答"}])
    assert "rows.jsonl row 1 has the columns instruction, input, output" in said
    assert '"messages"' in said


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": []}, "row 2, column `messages` must be text or a list of turns"),
        ({"messages": [{"content": "问"}]}, "turn 1 must have a `role`"),
        ({"messages": [ASKED, SAID | {"content": None}]}, "turn 2 (assistant): `content` must be"),
        (
            {"messages": [ASKED, SAID | {"content": [{"type": "text", "text": "答"}]}]},
            "join its text parts to one text",
        ),
        ({"messages": [ASKED]}, "ends with a turn of `user`"),
        ({"prompt": "问", "completion": "答"}, "has prompt and completion, and row 1 has messages"),
        ({"messages": None}, "has the columns messages"),
    ],
)
def test_the_first_row_that_does_not_fit_is_named_with_its_column(row, message):
    said = refused([CHAT, row, CHAT])
    assert message in said
    assert "row 2" in said


def test_a_column_that_the_first_row_lacks_is_kept():
    rows = with_all_columns([{"prompt": "a"}, {"prompt": "b", "solution": "c"}])
    assert rows == [{"prompt": "a", "solution": None}, {"prompt": "b", "solution": "c"}]


def test_an_array_and_a_byte_order_mark_are_read(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([CHAT, CHAT], ensure_ascii=False, indent=1), encoding="utf-8")
    assert read_training_rows(file) == [CHAT, CHAT]
    file.write_text(json.dumps(CHAT, ensure_ascii=False) + "\n", encoding="utf-8-sig")
    assert read_training_rows(file) == [CHAT]


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "entry 1 must be an object"), ("[{]", "no valid JSON"), ("[]", "is empty")],
)
def test_a_broken_array_is_named(tmp_path, text, message):
    file = tmp_path / "rows.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_training_rows(file)
