"""What a look makes of answers nobody hoped for: never ok by silence."""

import functools
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.judge.look_values import (
    Measured,
    default_metric_rules,
    look_values,
    measure_completions,
)
from guardrail.judge.rule import DriftConfig, RuleState, judge
from guardrail.judge.verdict import Verdict
from guardrail.probes.measure import measure
from guardrail.sets.items import Item, read_items
from guardrail.shipped import shipped_root

EXAMPLES = Path(__file__).parent.parent / "data/zh-redline-300.examples.jsonl"


@functools.cache
def red_line() -> tuple[list[Item], list[str]]:
    """The shipped items, with a good answer to each as its gold."""
    items = read_items(shipped_root() / "eval_sets/zh-redline-300/items.jsonl")
    rows = map(json.loads, EXAMPLES.read_text(encoding="utf-8").splitlines())
    good = {row["item"]: row["passing"] for row in rows}
    return items, [good[item.id] for item in items]


@functools.cache
def baseline() -> Measured:
    items, golds = red_line()
    return measure_completions(items, [[gold] * 2 for gold in golds], golds)


def verdict_on(texts: list[str]) -> Verdict:
    items, golds = red_line()
    now = measure_completions(items, [[text] for text in texts], golds)
    verdict, _ = judge(
        look_values(baseline(), now),
        [item.ability for item in items],
        DriftConfig(default_metric_rules(), planned_looks=1),
        RuleState(),
        final=True,
    )
    return verdict


def test_good_answers_are_ok():
    assert verdict_on(red_line()[1]).level == "ok"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "<think>我想想",
        "\x00\ufffd\u202e",
        # As long as answers get; longer ones are measured one at a time below.
        "好" * 2_000,
        "ha " * 800,
        "抱歉，我无法回答这个问题。",
    ],
)
def test_answers_that_are_none_are_critical(text):
    verdict = verdict_on([text] * 300)
    assert verdict.level == "critical"
    passed = next(s for s in verdict.streams if (s.metric, s.group) == ("passed", "overall"))
    assert passed.level == "critical"


def test_one_megabyte_in_one_answer_neither_stops_the_look_nor_passes():
    items, golds = red_line()
    texts = list(golds)
    texts[0] = "啊" * 350_000
    started = time.process_time()
    now = measure_completions(items[:1], [[texts[0]]], golds[:1])
    assert time.process_time() - started < 30
    assert now["passed"][0, 0] == 0.0
    assert verdict_on(texts).level == "ok"  # one answer of 300 shows nothing


def test_a_lost_value_is_an_error_and_not_a_smaller_stream():
    items, golds = red_line()
    now = measure_completions(items, [[gold] for gold in golds], golds)
    now["passed"][7, 0] = math.nan
    with pytest.raises(ValueError, match=r"metric `passed` has no value for 1 answers .*number 8"):
        look_values(baseline(), now)


@settings(max_examples=15, deadline=None)
@given(text=st.text(max_size=300), number=st.integers(0, 299))
def test_whether_a_metric_applies_depends_on_the_item_alone(text, number):
    items, golds = red_line()
    values = measure(items[number], text, golds[number])
    for name, value in values.items():
        assert math.isnan(value) == bool(np.isnan(baseline()[name][number]).any()), name
