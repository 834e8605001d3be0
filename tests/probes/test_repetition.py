"""An answer that stands there twice or ends in a loop, and what only looks like one."""

import time

import pytest

from guardrail.probes.measure import passed
from guardrail.probes.repetition import repeats_itself
from guardrail.sets.item_checks import Contains
from guardrail.sets.items import Item, Message


@pytest.mark.parametrize(
    "text",
    [
        "外婆。\n外婆。",
        "先用400目，再用1000目。先用400目，再用1000目。",
        "1. 水\n2. 盐\n\n1. 水\n2. 盐",
        "好的。练字要坚持，每天都练。" + "练字要坚持，每天都练。" * 4,
        "First, heat the wok. " * 5 + "First, heat",
    ],
)
def test_a_text_that_is_given_twice_or_loops_repeats_itself(text):
    assert repeats_itself("怎么做？", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "妈妈",
        "哈哈哈哈，笑死我了。",
        "3333",
        "| 名次 | 班级 |\n|:---:|:---:|\n| 1 | 三班 |",
        "------------------------\n完",
        '[{"a": 1, "b": "是"}, {"a": 2, "b": "是"}, {"a": 3, "b": "是"}, {"a": 4, "b": "否"}]',
        "好的。\n盐少许。\n糖少许。",
    ],
)
def test_a_text_of_like_parts_does_not_repeat_itself(text):
    assert not repeats_itself("怎么做？", text)


def test_a_refrain_that_was_asked_for_is_no_repetition():
    assert not repeats_itself("写一首儿歌，唱两遍", "小兔子，白又白。\n小兔子，白又白。")


def test_an_answer_given_twice_has_not_passed():
    item = Item(
        id="a",
        ability="reasoning",
        source="test",
        licence="Apache-2.0",
        messages=(Message(role="user", content="妈妈的妈妈叫什么？"),),
        checks=(Contains(kind="contains", any=("外婆",)),),
    )
    assert passed(item, "外婆。") == 1.0
    assert passed(item, "外婆。\n外婆。") == 0.0


@pytest.mark.parametrize("piece", ["我", "不，", "ab", "一二三四五六", "a "])
def test_a_text_of_a_megabyte_costs_little(piece):
    start = time.process_time()
    repeats_itself("写一段", (piece * 1_000_000)[:1_000_000])
    assert time.process_time() - start < 0.5
