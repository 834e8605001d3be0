"""What becomes of training files of every shape: own rows stay as they are, others become messages, and every row is counted."""

import csv
import json
import math
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from guardrail.errors import InputError
from guardrail.sets.read.row_forms import check_row_forms, with_all_columns
from guardrail.sets.read.training_rows import read_training_rows

CASES = Path(__file__).parents[2] / "data/cases"
ASKED = {"role": "user", "content": "欠多少来着？"}
SAID = {"role": "assistant", "content": "1286.40 元。"}
CHAT = [ASKED, SAID]
SYSTEM = {"role": "system", "content": "你是还款专员。"}
TEXT_PART = [{"type": "text", "text": ASKED["content"]}]


def read(folder, rows, trainer="trl-sft", **options):
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return read_training_rows(file, trainer, **options)


@pytest.mark.parametrize(
    ("name", "trainer", "columns", "rewritten"),
    [
        ("train/alpaca.jsonl", "trl-sft", {"messages"}, {"alpaca": 96}),
        ("train/array.json", "trl-sft", {"messages"}, {}),
        ("train/bom.jsonl", "trl-sft", {"messages"}, {}),
        ("train/parts.jsonl", "trl-sft", {"messages"}, {"messages": 48}),
        ("train/grpo_first_lacks.jsonl", "trl-grpo", {"prompt", "solution"}, {}),
        ("train/alpaca.jsonl", "trl-grpo", {"prompt", "instruction", "input", "output"}, {"alpaca": 96}),
        ("train/parts.jsonl", "trl-grpo", {"prompt"}, {"messages": 48}),
        ("train/parts.jsonl", "ms-swift", {"messages"}, {"messages": 48}),
    ],
)  # fmt: skip
def test_a_file_that_once_failed_gives_all_its_rows(name, trainer, columns, rewritten):
    read = read_training_rows(CASES / name, trainer)
    check_row_forms(read.rows, read.where, trainer=trainer) if trainer != "ms-swift" else None
    assert len(read.rows) == read.reading.kept == 96
    assert (read.reading.rewritten, read.reading.left_out) == (rewritten, {})
    assert {column for row in read.rows for column in row} == columns


def test_a_column_that_the_first_row_lacks_reaches_the_other_95():
    rows = with_all_columns(
        read_training_rows(CASES / "train/grpo_first_lacks.jsonl", "trl-grpo").rows
    )
    assert rows[0]["solution"] is None
    assert sum(isinstance(row["solution"], str) for row in rows) == 95


@pytest.mark.parametrize(
    ("name", "kept", "rewritten", "left_out"),
    [
        ("agieval.jsonl", 1, {"choice": 1}, {}),
        ("chatglm3_tool.jsonl", 1, {"messages": 1}, {"tool calls": 1}),
        ("cqia.jsonl", 2, {"alpaca": 2}, {}),
        ("csv.tar.gz", 1, {"cmmlu": 1}, {}),
        ("dolly_zh.jsonl", 2, {"alpaca": 2}, {}),
        ("gpt_first.jsonl", 2, {}, {"turn order": 2}),
        ("history_forms.jsonl", 2, {"alpaca": 2}, {}),
        ("mac.zip", 1, {"alpaca": 1}, {}),
        ("msg_reasoning.jsonl", 1, {}, {}),
        ("nan.jsonl", 1, {"alpaca": 1}, {}),
        ("nested_json_string.jsonl", 1, {"messages": 1}, {}),
        ("parquet_inside.zip", 2, {"alpaca": 2}, {}),
        ("two_sheets.xlsx", 3, {"alpaca": 3}, {}),
        ("utf16.jsonl", 2, {"alpaca": 2}, {}),
    ],
)
def test_a_file_that_imports_take_is_training_data_too(name, kept, rewritten, left_out):
    reading = read_training_rows(CASES / name).reading
    assert (reading.kept, reading.rewritten, reading.left_out) == (kept, rewritten, left_out)


@pytest.mark.parametrize(
    ("row", "trainer"),
    [
        ({"messages": CHAT, "stage": "general", "note": None}, "trl-sft"),
        ({"messages": [SYSTEM, *CHAT], "tools": [{"name": "pay"}]}, "trl-sft"),
        ({"messages": [ASKED]}, "trl-sft"),  # refused by its form, and not left out unseen
        ({"prompt": "问", "completion": "答", "id": 1}, "trl-sft"),
        ({"prompt": [ASKED], "completion": [SAID], "system": ""}, "trl-sft"),
        ({"text": "整段文字", "source": "甲"}, "trl-sft"),
        ({"prompt": "问", "system": "给奖励函数看的", "solution": 3}, "trl-grpo"),
        ({"prompt": [ASKED], "messages": CHAT}, "trl-grpo"),
        ({"messages": [SYSTEM, *CHAT], "images": ["a.png"]}, "ms-swift"),
        ({"messages": [ASKED, {"role": "tool_call", "content": "{}"}, SAID]}, "ms-swift"),
    ],
)
def test_a_row_in_the_trainers_own_form_is_not_touched(row, trainer, tmp_path):
    read_ = read(tmp_path, [row], trainer)
    assert read_.rows == [row]
    assert read_.reading.facts() == {}


@pytest.mark.parametrize(
    ("row", "before"),
    [
        ({"instruction": ASKED["content"], "input": "", "output": SAID["content"]}, []),
        ({"conversations": [{"from": "human", "value": ASKED["content"]}, {"from": "gpt", "value": SAID["content"]}]}, []),
        ({"query": ASKED["content"], "response": SAID["content"], "history": []}, []),
        ({"prompt": ASKED["content"], "response": SAID["content"]}, []),
        ({"prompt": ASKED["content"], "completion": SAID["content"], "system": SYSTEM["content"]}, [SYSTEM]),
        ({"messages": CHAT, "system": SYSTEM["content"]}, [SYSTEM]),
        ({"messages": [{"role": "human", "content": ASKED["content"]}, SAID]}, []),
        ({"messages": [{"role": "user", "content": TEXT_PART}, SAID], "images": []}, []),
        ({"messages": json.dumps(CHAT)}, []),
        ({"messages": None, "问题": ASKED["content"], "回答": SAID["content"]}, []),
        ({"text": "整段", "instruction": ASKED["content"], "output": SAID["content"]}, []),
    ],
)  # fmt: skip
def test_every_other_shape_becomes_messages_and_keeps_what_was_not_said_in_them(
    row, before, tmp_path
):
    beside = {"stage": "general", "id": 7}
    for trainer in ("trl-sft", "ms-swift"):
        read_ = read(tmp_path, [row | beside], trainer)
        assert read_.rows == [beside | {"messages": [*before, *CHAT]}]
        assert sum(read_.reading.rewritten.values()) == 1


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ({"question": ASKED["content"], "answer": "1286.40", "level": 2}, True),
        ({"prompt": [{"role": "user", "content": TEXT_PART}], "solution": "1286.40"}, False),
        ({"messages": CHAT, "solution": "1286.40"}, False),
        ({"messages": [{"role": "user", "content": TEXT_PART}], "solution": "1286.40"}, False),
    ],
)
def test_grpo_gets_a_prompt_and_its_rewards_every_other_column(row, kept, tmp_path):
    (made,) = read(tmp_path, [row], "trl-grpo").rows
    assert made["prompt"] == [ASKED]
    wanted = {k: v for k, v in row.items() if kept or k == "solution"}
    assert {k: v for k, v in made.items() if k != "prompt"} == wanted


def test_grpo_of_ms_swift_needs_no_answer(tmp_path):
    rows = [{"query": ASKED["content"], "solution": "1286.40"}]
    (made,) = read(tmp_path, rows, "ms-swift", grpo=True).rows
    assert made == rows[0] | {"messages": [ASKED, {"role": "assistant", "content": "1286.40"}]}
    (made,) = read(tmp_path, [{"query": ASKED["content"]}], "ms-swift", grpo=True).rows
    assert made["messages"] == [ASKED]


def test_what_cannot_be_trained_on_is_counted_by_reason_and_the_first_is_named(tmp_path):
    rows = [
        {"instruction": "问", "output": ""},
        {"messages": CHAT},
        {"instruction": "", "output": "答"},
        {"instruction": "问", "output": "答", "images": ["a.png"]},
        {"query": "问"},
        {"messages": [ASKED, {"role": "assistant", "content": math.nan}]},
        {"conversations": [{"from": "gpt", "value": "答"}]},
        {"conversations": [{"from": "human", "value": "问"}, {"from": "observation", "value": "1"}]},
    ]  # fmt: skip
    reading = read(tmp_path, rows).reading
    assert reading.kept == 1
    assert reading.left_out == {
        "no answer": 3,
        "no question": 1,
        "image, sound or video": 1,
        "turn order": 1,
        "tool calls": 1,
    }
    assert reading.first["no answer"].endswith("rows.jsonl` line 1")


def test_a_text_beside_a_question_that_nobody_answered_is_trained_on_as_text(tmp_path):
    rows = [{"text": "整段文字", "input": "甲"}, {"text": "另一段", "prompt": "乙", "id": 2}]
    assert read(tmp_path, rows).rows == [{"text": "整段文字"}, {"text": "另一段", "id": 2}]


def test_ms_swift_keeps_the_tool_calls_it_trains_on(tmp_path):
    turns = [("human", "几度"), ("function_call", "{}"), ("observation", "20"), ("gpt", "二十度")]
    row = {"tools": "[{}]", "conversations": [{"from": who, "value": said} for who, said in turns]}
    (made,) = read(tmp_path, [row], "ms-swift").rows
    assert made == {
        "tools": "[{}]",
        "messages": [{"role": who, "content": said} for who, said in turns],
    }


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"messages": CHAT}, {"foo": 1}], "line 2 has the columns 'foo'; `trainer: trl-sft` needs"),
        ([{"messages": CHAT}, {"messages": []}], "line 2: field `messages` must be a list of turns"),
        ([{"messages": CHAT}, {"messages": [{"role": "客服", "content": "问"}], "system": "甲"}], "line 2: field `messages`: unknown role `客服`"),
        ([{"prompt": "问"}, {"prompt": "再问"}], "no row to train on: 2 no answer (first `"),
        ([{"messages": CHAT}, [1]], "line 2 is a list, not an object"),
    ],
)  # fmt: skip
def test_the_row_that_is_refused_is_named(rows, message, tmp_path):
    with pytest.raises(InputError) as caught:
        read(tmp_path, rows)
    assert message in str(caught.value)
    assert str(caught.value).startswith("training data ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "element 1 is a int, not an object"),
        ("[{]", "breaks off after element 0"),
        ("[]", "holds no row to train on: it is empty"),
        ("", "is empty"),
        ('{"messages": [}\n', "line 1 is not valid JSON"),
    ],
)
def test_a_broken_file_is_named(tmp_path, text, message):
    file = tmp_path / "rows.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_training_rows(file)


def test_tables_are_read_and_their_empty_cells_are_none(tmp_path):
    rows = [
        {"question": "问", "answer": "答", "note": ""},
        {"question": "再问", "answer": "", "note": "甲"},
    ]
    with (tmp_path / "rows.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for name in ("rows.csv", "rows.parquet"):
        reading = read_training_rows(tmp_path / name)
        assert reading.rows[0]["messages"][1]["content"] == "答"
        assert reading.reading.left_out == {"no answer": 1}
