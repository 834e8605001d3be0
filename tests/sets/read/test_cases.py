"""Files that once failed, each with its right value: rows read, how the first kept one begins, its answer, what was lost."""

from pathlib import Path

import pytest

from guardrail.sets.items import read_items
from guardrail.sets.lint.overlap import training_texts
from guardrail.sets.read.filters import opens_with_template
from guardrail.sets.read.formats import read_conversation
from guardrail.sets.read.importer import import_files
from guardrail.sets.read.readers import read_rows

CASES = Path(__file__).parents[2] / "data" / "cases"
VALUES = {
    "agieval.jsonl": (1, "春雨贵如油", "B", {}),
    "chatglm3_tool.jsonl": (2, "如何保养", "洗净晾干即可。", {"tool calls": 1}),
    "cqia.jsonl": (2, "阳台上的薄荷", "多半是浇水过多，盆土长期潮湿导致烂根。", {}),
    "csv.tar.gz": (1, "下列哪一项是", "A", {}),
    "dolly_zh.jsonl": (2, "这趟列车几点到达终点站？\nK9999次", "下午三点二十分。", {}),
    "gpt_first.jsonl": (4, None, None, {"turn order": 4}),
    "history_forms.jsonl": (2, "介绍一下中华田园犬", "多为黄色。", {}),
    "mac.zip": (1, "写一句关于秋天", "叶落知秋。", {}),
    "msg_reasoning.jsonl": (1, "为什么冬天车窗", "因为车内湿气遇冷凝结。", {}),
    "nan.jsonl": (1, "写一句关于大海的短句子吧", "潮起潮落。", {}),
    "nested_json_string.jsonl": (1, "用一句话介绍", "约六千三百公里。", {}),
    "parquet_inside.zip": (2, "写一句关于秋天", "叶落知秋。", {}),
    "swift_images.jsonl": (3, None, None, {"image, sound or video": 3}),
    "train_escaped.jsonl": (1, "电脑上有个程序卡死了", None, {}),
    "two_sheets.xlsx": (3, "一月的账单", "在我的账单里。", {}),
    "utf16.jsonl": (2, "写一句关于秋天", "叶落知秋。", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_a_file_that_once_failed_gives_its_right_value(tmp_path: Path, name: str) -> None:
    read, begins, answer, lost = VALUES[name]
    funnel = import_files([CASES / name], tmp_path / "out.jsonl")
    assert (funnel.read, {k: v for k, v in funnel.lost.items() if v}) == (read, lost)
    if begins is not None:
        first = read_items(tmp_path / "out.jsonl")[0]
        assert first.prompt.startswith(begins)
        assert "nan" not in first.prompt
        assert first.answer == answer


def test_every_case_has_a_value() -> None:
    assert {path.name for path in CASES.iterdir() if path.is_file()} == set(VALUES)


def test_turns_that_are_encoded_as_text_are_decoded_before_overlap_is_looked_for() -> None:
    rows = [row.value for row in read_rows(CASES / "train_escaped.jsonl")]
    assert any("电脑上有个程序卡死了" in text for _, text in training_texts(rows))


Q, A = "豆汁儿怎么喝？", "配焦圈和咸菜丝。"
QA = (("user", Q), ("assistant", A))


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"input": Q, "content": A, "reasoning_content": "想想", "repo_name": "x"}, (QA[0], ("assistant", f"<think>\n想想\n</think>\n\n{A}"))),
        ({"question": Q, "human_answers": ["不知道"], "chatgpt_answers": [A]}, QA),
        ({"id": "1", "data": [Q, A]}, QA),
        ({"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": "x"}, QA),
        ({"message_tree_id": "t", "prompt": {"text": Q, "role": "prompter", "replies": [{"text": "不知道", "role": "assistant", "rank": 1}, {"text": A, "role": "assistant", "rank": 0}]}}, QA),
        ({"Question": Q, "Complex_CoT": "", "Response": A}, QA),
        ({"问题": Q, "答案": A}, QA),
        ({"chat": {"turn_1": {"Human": f"<|Human|>: {Q}<eoh>\n", "MOSS": f"<|MOSS|>: {A}<eom>\n", "Commands": "<|Commands|>: None<eoc>\n"}}}, QA),
        ({"prompt": Q, "response_chosen": A}, QA),
    ],
    ids=["R1 distilled", "HC3", "UltraChat", "HH-RLHF", "OpenAssistant", "medical o1", "Chinese headings", "MOSS", "response_chosen"],
)  # fmt: skip
def test_shapes_of_public_sets_are_read(row: dict[str, object], turns: object) -> None:
    said = read_conversation(row)
    assert (said.turns, said.lost) == (turns, None)


def test_annotations_are_kept() -> None:
    row = {"prompt": Q, "chosen": A, "annotation_metrics": {"accuracy": 5, "note": "x"}}
    assert read_conversation(row).annotations == {"accuracy": 5}


def test_praise_of_the_question_is_told_from_its_kin() -> None:
    for praise in ("您的问题很有意义。", "真是个好问题！", "这是一个非常有趣且重要的问题。"):
        assert opens_with_template(praise + A)
    assert not opens_with_template("好问题清单如下：一、二、三。")
