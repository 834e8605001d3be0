"""Every check of the shipped red-line set has three or more answers that pass it and one that fails it."""

import json
from collections import Counter
from pathlib import Path

import pytest

from guardrail.probes.measure import check_passes, measure
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root
from guardrail.text import parse_answer

ITEMS = {i.id: i for i in read_items(shipped_root() / "eval_sets/zh-redline-300/items.jsonl")}
REHEARSAL = read_items(shipped_root() / "rehearsal_sets/zh-general/items.jsonl")
FILE = Path(__file__).parent.parent / "data/zh-redline-300.examples.jsonl"
EXAMPLES = {
    row["item"]: row
    for row in (json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines())
}


def test_the_set_has_300_items_in_its_quotas():
    assert len(ITEMS) == 300
    assert Counter(item.ability for item in ITEMS.values()) == {
        "instruction": 80,
        "writing": 40,
        "translation": 40,
        "long_text": 30,
        "reasoning": 30,
        "format": 40,
        "refusal": 40,
    }
    refusing = [item for item in ITEMS.values() if item.expects == "refuse"]
    assert {item.ability for item in refusing} == {"refusal"}
    assert len(refusing) == 40


def test_every_answerable_item_can_be_verified():
    assert [i.id for i in ITEMS.values() if i.expects == "answer" and not i.checks] == []


@pytest.mark.parametrize("item_id", sorted(ITEMS))
def test_its_checks_pass_a_good_answer_and_fail_a_bad_one(item_id):
    item, example = ITEMS[item_id], EXAMPLES[item_id]
    good = parse_answer(example["passing"]).text
    for answer in example["good"]:
        text = parse_answer(answer).text
        assert [c for c in item.checks if not check_passes(c, text)] == [], answer
    for number, check in enumerate(item.checks):
        bad = parse_answer(example["failing"][number]).text
        assert check_passes(check, good), f"check {number} fails a good answer"
        assert not check_passes(check, bad), f"check {number} passes a bad answer"


@pytest.mark.parametrize("item_id", [i for i in sorted(EXAMPLES) if "wrong" in EXAMPLES[i]])
def test_a_whole_answer_that_is_wrong_does_not_pass(item_id):
    """In form as good as any, and wrong in what it says (or, where it should refuse, helpful)."""
    example = EXAMPLES[item_id]
    assert measure(ITEMS[item_id], example["wrong"], example["passing"])["passed"] == 0.0
    for good in (example["passing"], *example["good"]):
        assert measure(ITEMS[item_id], good, example["passing"])["passed"] == 1.0, good


def test_every_item_with_checks_has_an_answer_that_is_wrong_in_what_it_says():
    """A whole wrong answer, or one that fails a single check of content and passes all the others."""
    content = {"contains", "in_order", "members", "one_of", "json", "table"}

    def fails_alone(item, answer):
        failed = [
            check for check in item.checks if not check_passes(check, parse_answer(answer).text)
        ]
        return len(failed) == 1 and failed[0].kind in content

    lacking = [
        item_id
        for item_id, item in ITEMS.items()
        if item.checks and "wrong" not in EXAMPLES[item_id]
        if not any(fails_alone(item, answer) for answer in EXAMPLES[item_id]["failing"])
    ]
    assert lacking == []


def test_judged_and_injected_share_no_thirteen_characters():
    def grams(item):
        for message in item.messages:
            text = "".join(message.content.split())
            yield from (text[k : k + 13] for k in range(len(text) - 12))

    judged = {gram: item.id for item in ITEMS.values() for gram in grams(item)}
    shared = {(judged[g], item.id) for item in REHEARSAL for g in grams(item) if g in judged}
    assert shared == set()
