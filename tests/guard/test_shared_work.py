"""How the ranks share work: each thing once, and about as much for each rank."""

import numpy as np
import pytest

from guardrail.guard.ranks import Ranks, dealt


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_no_rank_has_more_than_one_thing_more_work_than_another(ranks):
    sizes = np.random.default_rng(ranks).integers(1, 500, 60).tolist()
    shares = dealt(sizes, ranks)
    assert sorted(i for share in shares for i in share) == list(range(60))
    loads = [sum(sizes[i] for i in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes)


def test_the_longest_are_dealt_first():
    assert dealt([1, 1, 1, 1, 4], 2) == [[4], [0, 1, 2, 3]]
    assert dealt([1, 100, 1, 100, 1, 1], 2) == [[0, 1, 4], [2, 3, 5]]


def test_things_alike_are_dealt_in_turn():
    assert dealt([1] * 5, 2) == [[0, 2, 4], [1, 3]]
    assert dealt([], 2) == [[], []]
    assert dealt([7], 3) == [[0], [], []]


def test_a_process_alone_does_all_in_order():
    assert Ranks().shared("abc", lambda some: [x.upper() for x in some], sizes=[1, 2, 3]) == list("ABC")  # fmt: skip
