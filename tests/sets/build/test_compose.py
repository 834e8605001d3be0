from collections import Counter

import pytest

from guardrail.errors import InputError
from guardrail.sets.build.compose import (
    QUOTAS,
    compose,
    draw_rehearsed,
    family,
    passes_per_prompt,
    scaled_quotas,
)
from guardrail.sets.items import ABILITIES, Item, Message, read_items
from guardrail.shipped import shipped_root

WORDS = "豆汁儿雪里蕻社保断缴猫跑酷租房合同高铁改签西瓜沙瓤写作业茶叶受潮公积金提取腌菜坛子自行车链条阳台种葱"


def _item(
    number: int, ability: str = "instruction", source: str = "belle:a.json", **fields
) -> Item:
    """An item whose prompt shares hardly anything with that of another number."""
    pieces = [chr(0x4E00 + (number * 131 + k * 977) % 20000) for k in range(24)]
    content = "".join(pieces) + WORDS[number % len(WORDS)]
    return Item(
        id=f"{source.split(':')[0]}-{ability}-{number}",
        ability=ability,
        source=source,
        licence="t",
        messages=(Message(role="user", content=content),),
        **fields,
    )


def _pool(count: int, source: str = "belle:a.json", start: int = 0) -> list[Item]:
    return [_item(start + i, ABILITIES[i % 7], source) for i in range(count)]


@pytest.fixture(scope="module")
def shipped():
    root = shipped_root()
    return (
        read_items(root / "eval_sets/zh-redline-300/items.jsonl"),
        read_items(root / "rehearsal_sets/zh-general/items.jsonl"),
    )


@pytest.mark.parametrize("size", [1, 7, 299, 300, 500, 2000])
def test_quotas_scale_and_sum_to_the_size(size):
    quotas = scaled_quotas(size)
    assert sum(quotas.values()) == size
    assert all(abs(quotas[a] - size * QUOTAS[a] / 300) < 1 for a in QUOTAS)


def test_the_shipped_sets_alone_are_a_red_line_of_300(shipped):
    made = compose([], *shipped, rehearsal_size=400)
    assert [i.id for i in made.red_line] == [i.id for i in shipped[0]]
    assert made.missing["red_line"] == {}
    assert set(made.missing["rehearsal"]) <= set(ABILITIES)


def test_a_larger_red_line_keeps_what_is_there_and_names_what_is_missing(shipped):
    pool = [i for i in _pool(2100) if i.ability != "refusal"]
    made = compose(pool, *shipped, red_line_size=500, rehearsal_size=600)
    assert {i.id for i in shipped[0]} <= {i.id for i in made.red_line}
    assert made.missing["red_line"] == {"refusal": scaled_quotas(500)["refusal"] - 40}
    counts = Counter(i.ability for i in made.red_line)
    assert counts["instruction"] == scaled_quotas(500)["instruction"]
    assert not {i.id for i in made.red_line} & {i.id for i in made.rehearsal}
    assert made.as_dict()["red_line"]["sources"]["belle:a.json"] == len(made.red_line) - 300


def test_general_items_are_replaced_by_the_users_own(shipped):
    made = compose(_pool(2100), *shipped, replace_general=True, rehearsal_size=100)
    general = [i for i in made.red_line if i.ability == "instruction"]
    assert len(general) == 80
    assert {family(i) for i in general} == {"belle"}
    assert sum(family(i) == "own" for i in made.red_line) == 220


def test_translated_corpora_are_never_judged_and_at_most_a_fifth_of_the_rehearsal_set():
    pool = _pool(3500, "firefly:f.jsonl") + _pool(700, start=5000)
    made = compose(pool, red_line_size=70, rehearsal_size=500)
    assert {family(i) for i in made.red_line} == {"belle"}
    assert Counter(family(i) for i in made.rehearsal)["firefly"] == 100
    assert made.passed_over["more than a fifth from Firefly and Alpaca"] > 0


def test_choice_questions_take_part_in_neither_set():
    made = compose(_pool(700, "cmmlu:logical.csv"), red_line_size=70, rehearsal_size=70)
    assert made.red_line == made.rehearsal == []


def test_near_duplicates_and_overlaps_with_the_red_line_are_passed_over():
    judged = [_item(1, source="written")]
    twin = judged[0].question[:-1] + "吗？"
    quoting = (
        "请把这句话抄三遍，一个字也不许错："
        + judged[0].question[:14]
        + "，抄完拍照发到群里给老师看"
    )
    pool = [
        _item(2).model_copy(update={"messages": (Message(role="user", content=twin),)}),
        _item(3).model_copy(update={"messages": (Message(role="user", content=quoting),)}),
        _item(4),
        _item(5).model_copy(update={"messages": _item(4).messages}),
    ]
    made = compose(pool, judged, red_line_size=3, rehearsal_size=30)
    assert made.passed_over["nearly the same as another"] >= 1
    made = compose(pool, judged, red_line_size=1, rehearsal_size=30)
    assert made.passed_over["overlaps the red line"] == 2
    assert len(made.rehearsal) == 1


def test_the_same_seed_composes_the_same_and_another_does_not():
    pool = _pool(700)
    ids = [[i.id for i in compose(pool, red_line_size=70, rehearsal_size=70, seed=s).red_line] for s in (1, 1, 2)]  # fmt: skip
    assert ids[0] == ids[1] != ids[2]
    reordered = compose(pool[::-1], red_line_size=70, rehearsal_size=70, seed=1)
    assert [i.id for i in reordered.red_line] == ids[0]


@pytest.mark.parametrize("count", [50, 90])
def test_drawn_items_are_marked_and_every_ability_stays_judged(shipped, count):
    marked, drawn = draw_rehearsed(shipped[0], count)
    judged = Counter(i.ability for i in marked if not i.rehearsed)
    assert sum(i.rehearsed for i in marked) == len(drawn) == count
    assert min(judged.values()) >= 30
    assert {f"{i.id}-rehearsed" for i in marked if i.rehearsed} == {i.id for i in drawn}
    again, _ = draw_rehearsed(shipped[0], count)
    assert again == marked
    assert draw_rehearsed(shipped[0], count, seed=1)[1] != drawn


@pytest.mark.parametrize("count", [0, 91])
def test_what_cannot_be_spared_is_refused(shipped, count):
    with pytest.raises(InputError, match=f"cannot draw {count} items: 90 can be spared"):
        draw_rehearsed(shipped[0], count)


def test_passes_follow_from_fraction_and_rows():
    # DESIGN.md: 150 prompts at 3 % of 50 000 rows are seen ten times an epoch
    assert passes_per_prompt(50_000, 0.03, 150) == pytest.approx(10.3, abs=0.05)
    with pytest.raises(InputError, match="at least 1, got 0"):
        compose([], red_line_size=0)
