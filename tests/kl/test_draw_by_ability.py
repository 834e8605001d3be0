from collections import Counter
from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from guardrail.kl.draw_by_ability import MOST_NEED, Drawn, draw_by_ability, note_kl

ITEMS = {
    "writing": [f"w-{n}" for n in range(3)],
    "format": [f"f-{n}" for n in range(6)],
    "refusal": [f"r-{n}" for n in range(12)],
}
ABILITY = {item: ability for ability, ids in ITEMS.items() for item in ids}
NEEDY = {"writing": (2.0, 10), "format": (0.1, 10), "refusal": (0.1, 10)}


def stratified(count, seed=0):
    return draw_by_ability(Drawn(), ITEMS, count, seed, by_need=False)


def abilities(ids):
    return Counter(ABILITY[item] for item in ids)


@given(st.integers(0, 80), st.integers(0, 3))
def test_every_beginning_holds_each_ability_within_one_sample_of_its_share(count, seed):
    seen = abilities(stratified(count, seed))
    for ability, ids in ITEMS.items():
        assert abs(seen[ability] - count * len(ids) / 21) <= 1


def test_every_pass_holds_every_item_once_and_passes_differ():
    order = stratified(63)
    passes = [order[n : n + 21] for n in (0, 21, 42)]
    assert all(Counter(one) == Counter(list(ABILITY)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3


@given(st.lists(st.integers(0, 7), max_size=10))
def test_it_goes_on_where_it_was_in_whatever_pieces(pieces):
    drawn, order = Drawn(), []
    note_kl(drawn, NEEDY)
    whole = draw_by_ability(deepcopy(drawn), ITEMS, sum(pieces), 0, by_need=True)
    for count in pieces:
        order += draw_by_ability(drawn, ITEMS, count, 0, by_need=True)
    assert order == whole


def test_an_ability_whose_kl_stands_out_is_drawn_more_often_and_none_is_forgotten():
    drawn = Drawn()
    note_kl(drawn, NEEDY)
    seen = abilities(draw_by_ability(drawn, ITEMS, 210, 0, by_need=True))
    # 2.7 times its 3 of 21, as the mean of the three is 0.073 and its own 0.2.
    assert 55 <= seen["writing"] <= 67
    assert seen["refusal"] > seen["format"] > 25
    note_kl(drawn, {"writing": (1e9, 1)})
    seen = abilities(draw_by_ability(drawn, ITEMS, 210, 0, by_need=True))
    assert seen["writing"] / seen["format"] <= MOST_NEED * 3 / 6 + 0.05


def test_while_nothing_was_measured_need_changes_nothing():
    assert draw_by_ability(Drawn(), ITEMS, 50, 1, by_need=True) == stratified(50, 1)
