"""The reserved slice: whole clusters, the same ones whatever else is in the set, about a fifth."""

import pytest

from guardrail.sets.items import ABILITIES, Item, Message, read_items
from guardrail.sets.reserved import is_reserved, reserved_ids
from guardrail.shipped import shipped_root


def item(n: int, cluster: str | None = None, *, rehearsed: bool = False) -> Item:
    return Item(
        id=f"i-{n}",
        ability="writing",
        source="test",
        licence="Apache-2.0",
        messages=(Message(role="user", content=f"第{n}题"),),
        cluster=cluster,
        rehearsed=rehearsed,
    )


def test_clusters_are_whole_and_about_a_fifth():
    items = [item(n, f"c{n // 4}") for n in range(4000)]
    kept_back = reserved_ids(items)
    for k in range(0, 4000, 4):
        assert len({one.id in kept_back for one in items[k : k + 4]}) == 1
    assert 0.15 < len(kept_back) / 4000 < 0.25


def test_an_item_stays_reserved_whatever_else_comes_or_goes():
    items = [item(n) for n in range(300)]
    assert reserved_ids(items) & {i.id for i in items[100:]} == reserved_ids(items[100:])
    assert {i.id for i in items if is_reserved(i)} == reserved_ids(items)


def test_a_rehearsed_item_is_never_reserved():
    assert reserved_ids([item(n, rehearsed=True) for n in range(100)]) == frozenset()


@pytest.mark.parametrize("name", ["zh-redline-300", "zh-easy-200"])
def test_of_a_shipped_red_line_every_ability_has_reserved_items(name):
    items = read_items(shipped_root() / f"eval_sets/{name}/items.jsonl")
    kept_back = reserved_ids(items)
    assert 0.12 < len(kept_back) / len(items) < 0.28
    abilities = {i.ability for i in items}
    assert {i.ability for i in items if i.id in kept_back} == abilities <= set(ABILITIES)
