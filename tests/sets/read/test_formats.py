"""One row of each shape, written here in the form of the published files."""

from typing import Any

import pytest

from guardrail.sets.read.conversation import WrongRow
from guardrail.sets.read.formats import read_conversation, recognise

QA = (("user", "豆汁儿怎么喝？"), ("assistant", "配焦圈和咸菜丝。"))
Q, A = QA[0][1], QA[1][1]


@pytest.mark.parametrize(
    ("row", "name", "turns", "task"),
    [
        ({"question": Q, "std_answer": A, "class": "closed\u00a0qa"}, "belle", QA, "closed qa"),
        ({"question": Q, "std_answer": "", "class": "open qa"}, "belle", QA[:1], "open qa"),
        ({"id": "s", "instruction": Q, "instances": [{"input": "", "output": A}]}, "belle", QA, None),
        (
            {"instruction": f"Human:你好\nAssistant:你好。\nHuman：{Q}\nAssistant:", "input": "", "output": A},
            "belle",
            (("user", "你好"), ("assistant", "你好。"), *QA),
            None,
        ),
        ({"id": "1", "conversations": [{"from": "human", "value": Q}, {"from": "assistant", "value": A}]}, "belle", QA, None),
        ({"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]}, "sharegpt", QA, None),
        ({"instruction": Q, "input": "<无输入>", "output": "\n" + A}, "alpaca", QA, None),
        ({"instruction": Q, "input": "&lt;无输入&gt;", "output": A}, "alpaca", QA, None),
        ({"instruction": Q, "input": "豆汁儿", "output": A}, "alpaca", QA, None),
        ({"instruction": "怎么喝？", "input": "豆汁儿", "output": A}, "alpaca", (("user", "怎么喝？\n豆汁儿"), QA[1]), None),
        ({"instruction": Q, "output": A, "history": [["你好", "你好。"]]}, "alpaca", (("user", "你好"), ("assistant", "你好。"), *QA), None),
        ({"instruction": Q, "input": "", "output": A, "task_type": "code", "program_lang": "c"}, "coig", QA, "code"),
        ({"instruction": "x", "input": "", "output": "y", "trans_instruction": Q, "trans_input": "", "trans_output": A}, "coig", QA, "translated"),
        ({"textbox_q_instruction": "", "textbox_q_context": "", "textbox_question": Q, "textbox_answer": A, "textbox_answer_analysis": ""}, "coig", QA, "exam"),
        ({"round_0": {"response": f'```json\n{{"Q": "{Q}", "A": "{A}"}}\n```'}, "round_1": {"response": "{"}}, "coig", QA, "counterfactual correction"),
        ({"kind": "Couplet", "input": Q, "target": A}, "firefly", QA, "Couplet"),
        ({"conversation": [{"human": Q, "assistant": A}], "category": "Brainstorming"}, "firefly", QA, "Brainstorming"),
        ({"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]}, "messages", QA, None),
        ({"messages": [{"role": "usr", "content": Q}, {"role": "sys", "content": A}], "type": "单领域"}, "messages", QA, "单领域"),
        ({"messages": [{"message": Q}, {"message": A}], "name": "豆汁"}, "messages", QA, None),
        ({"messages": [{"role": "user", "content": [{"type": "text", "value": Q}]}]}, "messages", QA[:1], None),
        ({"messages": f"[{{'role': 'user', 'content': '{Q}'}}]"}, "messages", QA[:1], None),
        ({"query": Q, "response": A, "history": []}, "messages", QA, None),
        ({"system": "你是老北京。", "query": Q, "response": A}, "messages", (("system", "你是老北京。"), *QA), None),
        ({"prompt": Q, "chosen": A, "rejected": "不知道", "annotation_metrics": {"help": 3}}, "messages", QA, None),
        ({"prompt": [{"role": "user", "content": Q}], "chosen": [{"role": "assistant", "content": A}]}, "messages", QA, None),
        ({"conversations": [{"from": "human", "value": Q}], "chosen": {"from": "gpt", "value": A}}, "messages", QA, None),
        ({"input": [Q], "output": [A]}, "messages", QA, None),
        ({"input": [Q], "output": []}, "messages", QA[:1], None),
        ({"department": "内科", "title": Q, "ask": "无", "answer": A}, "messages", QA, "内科"),
    ],
)  # fmt: skip
def test_every_published_shape_is_recognised_and_read(
    row: dict[str, Any], name: str, turns: tuple[tuple[str, str], ...], task: str | None
) -> None:
    assert recognise(row) == name
    said = read_conversation(row)
    assert said.turns == turns
    assert said.task == task


def test_a_choice_question_carries_its_options() -> None:
    row = {"": "0", "Question": "豆汁儿配什么？", "A": "焦圈", "B": "面包", "C": "粽子", "D": "月饼", "Answer": "A"}  # fmt: skip
    assert recognise(row) == "cmmlu"
    (_, prompt), (_, answer) = read_conversation(row).turns
    assert prompt.splitlines()[1:5] == ["A. 焦圈", "B. 面包", "C. 粽子", "D. 月饼"]
    assert answer == "A"


def test_markers_inside_a_line_are_content() -> None:
    row = {"instruction": "解释 Human: 这个标记的意思", "input": "", "output": A}
    assert recognise(row) == "alpaca"
    assert read_conversation(row).turns[0] == ("user", row["instruction"])


def test_tool_turns_keep_their_role_and_variants_their_cluster() -> None:
    row = {
        "conversations": [{"from": "human", "value": Q}, {"from": "function_call", "value": "{}"}]
    }
    assert [role for role, _ in read_conversation(row).turns] == ["user", "tool"]
    row = {"example_id": 3, "category": "style", "instruction": Q, "target": ""}
    assert read_conversation(row).cluster == "style-3"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"foo": 1}, "fit no known format"),
        ({"instruction": ["x"], "output": A}, "field `instruction` must be text, got list"),
        ({"messages": "not a list"}, "field `messages` must be a list of turns"),
        ({"messages": []}, "field `messages` must be a list of turns"),
        ({"messages": [{"role": "alien", "content": "x"}]}, "unknown role `alien`"),
        ({"messages": [{"role": "user"}]}, "none of `content`"),
        ({"instruction": Q, "output": A, "history": [["x"]]}, "field `history`"),
        ({"instruction": Q, "instances": []}, "field `instances`"),
        ({"round_0": {"response": "{"}}, "no round holds readable JSON"),
        ({"input": [Q], "output": [A, A]}, "equally long lists"),
    ],
)
def test_a_wrong_row_names_field_and_value(row: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongRow, match=said):
        read_conversation(row)
