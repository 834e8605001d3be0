"""Golds by need in a real trainer: the KL of each ability is measured, survives a checkpoint, and moves the draws."""

import pytest

from guardrail.guard.state import GuardState, put_back, read_state, write_state
from guardrail.kl.draw_by_ability import Drawn, draw_by_ability
from guardrail.trainers.kl_only.normalised_kl_term import Injection

pytestmark = [
    pytest.mark.run,
    pytest.mark.trl1,
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]


@pytest.fixture
def needy(samples, tokenizer, make_trainer):
    """An injection with a step's KL taken in, and the state it left."""
    abilities = dict(zip(sorted(samples), ("writing", "format", "writing"), strict=True))
    state = GuardState(task_samples=270)
    one = Injection(
        samples,
        state,
        fraction=0.1,
        weight=1.0,
        loss="kl",
        seed=0,
        pad_id=tokenizer.pad_token_id,
        order="by need",
        abilities=abilities,
    )
    one.begin_step()
    one.take_term(make_trainer().model)
    one.count_task_samples(90)
    counts = one.take_counts()
    one.add_counts(counts)
    return one, state, counts


def test_the_kl_of_each_ability_is_known_after_a_step(needy):
    one, state, counts = needy
    assert state.rehearsal_seen == 30
    assert counts[0] == 90
    assert set(state.drawn.kl) == {"writing", "format"}
    assert min(state.drawn.kl.values()) > 0
    assert one.take_counts() == [0, 0, 0, 0, 0]
    assert one.exposure()["unique_prompts"] == 3


def test_a_checkpoint_keeps_it_and_the_next_draws_are_the_same(needy, tmp_path):
    one, state, _ = needy
    write_state(tmp_path, state)
    kept = read_state(tmp_path)
    assert kept.drawn == state.drawn
    items = {"format": one._by_ability["format"], "writing": one._by_ability["writing"]}
    expected = draw_by_ability(kept.drawn, items, 10, 0, by_need=True)
    assert one.draw() == expected


def test_what_is_put_back_is_not_changed_by_what_follows(needy):
    _, state, _ = needy
    kept = GuardState()
    kept.golds.drawn = Drawn(counts={"format": 2})
    put_back(state, kept)
    state.golds.drawn.counts["format"] = 5
    assert kept.golds.drawn.counts == {"format": 2}
