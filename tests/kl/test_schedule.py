from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from guardrail.kl.schedule import due_samples, rehearsal_order

IDS = [f"r-{n}" for n in range(7)]


@given(st.floats(0.01, 0.1), st.integers(1, 8), st.integers(0, 100_000))
def test_the_share_is_exact_up_to_one_sample_a_rank(fraction, world_size, task_samples):
    due = due_samples(fraction, task_samples, 0, world_size)
    exact = fraction / (1 - fraction) * task_samples
    assert due % world_size == 0
    assert -1e-6 <= exact - due < world_size + 1e-6


@given(
    st.floats(0.01, 0.1), st.lists(st.tuples(st.integers(1, 64), st.integers(1, 4)), max_size=50)
)
def test_ranks_get_equal_shares_and_keep_the_fraction_though_their_number_changes(fraction, steps):
    task, seen = 0, 0
    for batch, world_size in steps:
        task += batch
        due = due_samples(fraction, task, seen, world_size)
        assert due >= 0
        assert due % world_size == 0
        seen += due
        assert -1e-6 <= fraction / (1 - fraction) * task - seen < world_size + 1e-6


def test_five_percent_of_a_thousand_samples():
    assert due_samples(0.05, 950) == 50


@given(st.integers(0, 50), st.integers(0, 40), st.integers(0, 3))
def test_any_stretch_of_the_order_equals_the_same_stretch_of_a_longer_one(start, count, seed):
    whole = rehearsal_order(IDS, 0, start + count, seed)
    assert rehearsal_order(IDS, start, count, seed) == whole[start:]


def test_every_pass_holds_every_item_once_and_passes_differ():
    order = rehearsal_order(IDS, 0, 70, 0)
    passes = [tuple(order[n : n + 7]) for n in range(0, 70, 7)]
    assert all(Counter(one) == Counter(IDS) for one in passes)
    assert len(set(passes)) > 1
