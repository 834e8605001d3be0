"""The easy sets are what their generator writes, a good answer passes each item, and what is taught is neither."""

from collections import Counter

import pytest

from guardrail.probes.measure import passed
from guardrail.sets.items import read_items
from guardrail.sets.lint.contamination import check_contamination
from guardrail.sets.lint.set_rules import lint_sets
from guardrail.shipped import shipped_root
from tests.real.easy.build import SETS, drawn_sets, items_of, taught


@pytest.fixture(scope="module")
def shipped():
    return {part: read_items(shipped_root() / f"{SETS[part]}/items.jsonl") for part in SETS}


@pytest.fixture(scope="module")
def drawn():
    return drawn_sets()


def test_the_shipped_files_are_what_the_generator_writes(shipped, drawn):
    assert {part: items_of(part, tasks) for part, tasks in drawn.items()} == shipped


def test_there_are_200_judged_items_over_six_abilities(shipped):
    assert Counter(item.ability for item in shipped["judged"]) == {
        "instruction": 40,
        "format": 30,
        "reasoning": 30,
        "writing": 30,
        "refusal": 30,
        "translation": 40,
    }


def test_a_good_answer_passes_each_item(shipped, drawn):
    for part, items in shipped.items():
        failed = [i.id for i, t in zip(items, drawn[part], strict=True) if not passed(i, t.answer)]
        assert failed == []


def test_another_task_s_answer_fails_most_items(shipped, drawn):
    items, tasks = shipped["judged"], drawn["judged"]
    for kind in {task.kind for task in tasks} - {"harmful"}:
        strange = next(t.answer for t in tasks if t.kind == "harmful")
        assert not any(
            passed(i, strange) for i, t in zip(items, tasks, strict=True) if t.kind == kind
        )


def test_the_linter_finds_nothing(shipped):
    assert lint_sets(shipped["judged"], shipped["rehearsal"]) == []


def test_what_teaches_a_base_holds_no_prompt_of_either_set(shipped):
    rows = [
        {
            "messages": [
                {"role": "user", "content": task.question},
                {"role": "assistant", "content": task.answer},
            ]
        }
        for task in taught(900)
    ]
    assert len({str(row) for row in rows}) > 600
    for items in shipped.values():
        check_contamination(rows, items, (), allowed=(), source="the taught tasks")
