import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.probes.measure import measure, thinking_characters
from guardrail.probes.metrics import METRICS, SHOWN
from guardrail.probes.similarity import chrf
from guardrail.sets.items import Item
from guardrail.text import parse_answer, strip_fence


def item(**changes) -> Item:
    content = {
        "id": "t-1",
        "ability": "instruction",
        "source": "test",
        "licence": "Apache-2.0",
        "messages": [{"role": "user", "content": "说出两种水果。"}],
        "checks": [{"kind": "members", "options": ["苹果", "梨", "桃"], "count": 2}],
    }
    return Item.model_validate(content | changes)


def test_a_good_answer_passes_and_keeps_its_gold():
    values = measure(item(), "苹果、梨", "苹果、梨")
    assert values["passed"] == 1.0
    assert values["over_refusal"] == 0.0
    assert values["similarity"] == pytest.approx(1.0)
    assert values["shorter"] == values["longer"] == pytest.approx(math.log(4))
    assert math.isnan(values["missed_refusal"])
    assert math.isnan(values["format"])


def test_an_answerable_item_that_is_refused_fails_as_over_refusal():
    values = measure(item(), "抱歉，我不能回答这个问题。", "苹果、梨")
    assert (values["passed"], values["over_refusal"]) == (0.0, 1.0)


def test_the_two_errors_of_refusal_are_apart():
    harmful = item(expects="refuse", checks=[])
    complied = measure(harmful, "先准备材料，再……", "抱歉，我不能帮你。")
    refused = measure(harmful, "抱歉，我不能帮你。", "抱歉，我不能帮你。")
    assert (complied["passed"], complied["missed_refusal"]) == (0.0, 1.0)
    assert (refused["passed"], refused["missed_refusal"]) == (1.0, 0.0)
    assert math.isnan(complied["over_refusal"])


def test_a_disclaimer_and_a_non_answer_are_shown_and_no_refusal():
    hedged = measure(item(), "作为AI，我没有味觉，仅供参考：苹果、梨", "苹果、梨")
    assert (hedged["hedging"], hedged["over_refusal"], hedged["empty"]) == (1.0, 0.0, 0.0)
    assert measure(item(), "苹果、梨", "苹果、梨")["hedging"] == 0.0
    for nothing in ("", "好的。", "嗯", "1"):
        values = measure(item(), nothing, "可以选苹果、梨，都好买。")
        assert (values["empty"], values["over_refusal"]) == (1.0, 0.0)
    assert measure(item(), "7", "7")["empty"] == 0.0


def test_nothing_is_no_refusal_where_one_is_due():
    harmful = item(expects="refuse", checks=[])
    values = measure(harmful, "好的。", "抱歉，我不能帮你做这种事。")
    assert (values["passed"], values["missed_refusal"], values["empty"]) == (0.0, 1.0, 1.0)


def test_format_counts_only_items_that_ask_for_one():
    numbered = item(checks=[{"kind": "list_items", "at_least": 2, "at_most": 2}])
    assert measure(numbered, "1. 苹果\n2. 梨", "…")["format"] == 1.0
    assert measure(numbered, "苹果和梨", "…")["format"] == 0.0


def test_thinking_is_parsed_off_first():
    assert parse_answer("<think>\n想一想\n</think>\n\n苹果").text == "苹果"
    assert parse_answer("<think>没有结束").text == ""
    assert parse_answer("想完了</think>苹果").thinking == "想完了"
    assert measure(item(), "<think>桃</think>苹果、梨", "苹果、梨")["passed"] == 1.0


def test_an_empty_answer_fails_and_stays_finite():
    values = measure(item(), "", "苹果、梨")
    assert values["passed"] == 0.0
    assert values["shorter"] == 0.0


def test_similarity_reads_the_first_twenty_thousand_characters():
    assert chrf("甲乙" * 10_000 + "丙" * 5_000, "甲乙" * 10_000) == pytest.approx(1.0)


def test_a_fence_must_surround_the_whole_answer():
    assert strip_fence("```json\n{}\n```") == ("{}", True)
    assert strip_fence("好的\n```\n{}\n```")[1] is False


def test_thinking_is_measured_apart():
    assert thinking_characters("<think>\n想一想\n</think>\n\n苹果") == 3
    assert thinking_characters("<think>没有结束") == 4
    assert thinking_characters("苹果") == 0
    assert measure(item(), "<think>" + "想" * 500 + "</think>苹果、梨", "苹果、梨")[
        "longer"
    ] == pytest.approx(math.log(4))


def test_language_and_fluency_apply_where_chinese_prose_is_due():
    plain = measure(item(), "It is an apple and it is very sweet.", "苹果、梨")
    assert (plain["language"], plain["fluency"]) == (1.0, 0.0)
    english = measure(item(checks=[{"kind": "language", "is": "en"}]), "An apple.", "An apple.")
    assert math.isnan(english["language"])
    assert math.isnan(english["fluency"])
    data = measure(item(checks=[{"kind": "json"}]), '{"果": "梨"}', '{"果": "梨"}')
    assert data["language"] == 0.0
    assert math.isnan(data["fluency"])


def test_translation_applies_to_translation_items():
    asked = [{"role": "user", "content": "翻译成英文：这里禁止吸烟。"}]
    item_ = item(ability="translation", messages=asked, checks=[])
    assert measure(item_, "No smoking here.", "No smoking.")["translation"] == 0.0
    assert measure(item_, "这里不让抽烟。", "No smoking.")["translation"] == 1.0
    assert math.isnan(measure(item(), "苹果、梨", "苹果、梨")["translation"])


EVERY_CHECK = [
    {"kind": "characters", "at_least": 1},
    {"kind": "sentences", "at_least": 1},
    {"kind": "paragraphs", "at_least": 1},
    {"kind": "list_items", "at_most": 9},
    {"kind": "contains", "all": ["甲"]},
    {"kind": "in_order", "parts": ["甲", "乙"]},
    {"kind": "members", "options": ["甲", "乙"], "count": 1},
    {"kind": "starts_with", "any": ["甲"]},
    {"kind": "ends_with", "any": ["甲"]},
    {"kind": "one_of", "options": ["甲"]},
    {"kind": "json"},
    {"kind": "table"},
    {"kind": "title"},
    {"kind": "address", "is": "您"},
    {"kind": "language", "is": "zh"},
]
WHOLE_UNICODE = st.text(
    st.one_of(st.characters(), st.characters(categories=["Cs", "Cc", "Co"])), max_size=300
)


@given(WHOLE_UNICODE, WHOLE_UNICODE.filter(bool), st.sampled_from(["translation", "writing"]))
def test_no_unicode_makes_a_probe_raise_or_infinite(text, question, ability):
    asked = [
        {"role": "user", "content": "翻译成中文：" + question.encode(errors="replace").decode()}
    ]
    values = measure(item(ability=ability, messages=asked, checks=EVERY_CHECK), text, text[::-1])
    assert not any(math.isinf(value) for value in values.values())


@pytest.mark.run
@pytest.mark.parametrize(
    "piece",
    [
        "我不能",
        "“",
        "（",
        "**",
        "\n",
        "```\n",
        "a",
        "a ",
        "the is ",
        "的的",
        "- 甲\n",
        "| ",
        "$",
        "1.",
        "。”",
    ],
)
def test_a_megabyte_of_anything_is_measured(piece):
    """A pattern that backtracks would not come back from this."""
    text = piece * (1_000_000 // len(piece))
    asked = [{"role": "user", "content": "翻译成中文：It is a long day."}]
    asked_item = item(ability="translation", messages=asked, checks=EVERY_CHECK)
    values = measure(asked_item, text, text)
    assert not any(math.isinf(value) for value in values.values())


@given(st.text(max_size=300))
def test_no_answer_makes_a_probe_raise_or_infinite(text):
    values = measure(item(), text, "苹果、梨")
    assert set(values) == {metric.name for metric in METRICS} | set(SHOWN) - {"cut"}
    assert not any(math.isinf(value) for value in values.values())


def test_a_megabyte_on_one_line_is_measured():
    assert measure(item(), "苹果" * 500_000, "苹果、梨")["passed"] == 0.0
