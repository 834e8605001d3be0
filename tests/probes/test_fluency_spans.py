"""Where machine flavour stands: spans that agree with the score and never change it."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from guardrail.probes.fluency import machine_flavour
from guardrail.probes.fluency_spans import flavour_spans

PAIRS = Path(__file__).parents[1] / "data/fluency.pairs.jsonl"
WORDED = ("opening", "closing", "stock", "grand", "translated", "vague", "skeleton", "antithesis")


def spans(question: str, text: str) -> list[tuple[str, str]]:
    found = flavour_spans(question, text, machine_flavour(question, text))
    return [(text[s.start : s.end], s.part) for s in found]


def test_words_are_found_where_they_stand() -> None:
    text = "随着城市的快速发展，公园越来越多。值得注意的是，它们至关重要。希望对您有所帮助！"
    found = spans("公园多吗？", text)
    assert ("值得注意的是", "stock") in found
    assert ("至关重要", "stock") in found
    assert any(part == "opening" and words.startswith("随着城市") for words, part in found)
    assert any(part == "closing" and words.startswith("希望对您有") for words, part in found)


def test_what_the_probe_does_not_read_has_no_spans() -> None:
    text = (
        "他说：“值得注意的是，这至关重要。”\n```\n值得注意的是\n```\n至关重要，不可忽视，众所周知。"
    )
    quoted = text.index("```\n至关重要")
    found = flavour_spans("", text, machine_flavour("", text))
    assert found
    assert all(s.start > quoted for s in found)


def test_words_of_the_question_are_not_grand() -> None:
    text = "灯塔在海边，灯塔很高，灯塔照着船，守护水手，见证岁月。"
    assert ("灯塔", "grand") not in spans("写一写灯塔", text)
    assert ("灯塔", "grand") in spans("写一段话", text)


def test_a_clause_said_again_is_marked_from_its_second_time() -> None:
    text = "公园里有很多树，湖边有几条船。公园里有很多树，风很大。"
    assert spans("", text) == [("公园里有很多树", "repeated")]


def test_plain_text_has_none() -> None:
    assert spans("公园多吗？", "不算多，老城就两个，周末人挤人。") == []


@pytest.mark.parametrize("row", [json.loads(k) for k in PAIRS.read_text("utf-8").splitlines()][:60])
def test_spans_lie_apart_inside_the_text_and_belong_to_scored_parts(row: dict) -> None:
    for text in [v for k, v in row.items() if isinstance(v, str) and len(v) > 30]:
        flavour = machine_flavour("", text)
        found = flavour_spans("", text, flavour)
        assert all(0 <= s.start < s.end <= len(text) for s in found)
        assert all(a.end <= b.start for a, b in pairwise(found))
        assert {s.part for s in found} <= {part for part, v in flavour.parts.items() if v > 0}
        if max(flavour.parts[part] for part in WORDED) > 0:
            assert found
