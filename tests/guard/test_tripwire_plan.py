"""What a tripwire watches and how often: arithmetic on tokens, no model."""

from collections import Counter

import numpy as np
import pytest

from guardrail.guard.state import GuardState, read_state, write_state
from guardrail.guard.tripwire_plan import (
    WatchedTokens,
    look_early,
    sample_golds,
    share_of_the_run,
    spacing,
    within,
)

ABILITIES = ["writing"] * 120 + ["math"] * 100 + ["safety"] * 80
RNG = np.random.default_rng(0)
PROMPTS = [[1] * int(n) for n in RNG.integers(20, 200, 300)]
GOLDS = [[2] * int(n) for n in RNG.integers(5, 400, 300)]
LOOK = sum(map(len, PROMPTS)) + sum(map(len, GOLDS))


def sample(budget: int = LOOK // 10, seed: int = 0) -> WatchedTokens:
    return sample_golds(ABILITIES, PROMPTS, GOLDS, budget, seed=seed)


def test_a_tripwire_is_at_most_a_tenth_of_a_look():
    wire = sample()
    assert 0.08 * LOOK < wire.tokens <= 0.1 * LOOK
    assert 30 <= len(wire.golds) <= 60
    assert max(map(len, wire.golds)) <= 64


def test_with_room_it_is_60_golds_of_64_tokens():
    wire = sample(10**9)
    assert len(wire.golds) == 60
    assert max(map(len, wire.golds)) == 64


def test_with_little_room_first_tokens_give_way_before_golds():
    narrow = sample(LOOK // 20)
    assert narrow.tokens <= LOOK // 20
    assert len(narrow.golds) >= 30
    assert max(map(len, narrow.golds)) < 64


def test_every_ability_has_its_share_and_the_draw_repeats():
    wire = sample(10**9)
    assert Counter(wire.groups) == {"writing": 24, "math": 20, "safety": 16}
    again, other = sample(10**9), sample(10**9, seed=1)
    assert (again.prompts, again.golds) == (wire.prompts, wire.golds)
    assert (other.prompts, other.golds) != (wire.prompts, wire.golds)


def test_two_golds_are_watched_whatever_the_budget():
    assert len(sample(0).golds) == 2


def test_prompts_of_the_task_fit_with_the_answers_they_get():
    prompts = [[1] * 36] * 16
    assert len(within(prompts, 1000)) == 10
    assert within(prompts, 99) == prompts[:1], "one whatever the budget"
    assert within([], 99) == []


@pytest.mark.parametrize(("step_tokens", "every"), [(1000, 100), (60_000, 10), (30_000, 10)])
def test_tripwires_are_a_hundredth_of_the_training(step_tokens, every):
    """3,000 tokens; nearer than a tenth of the way between looks they do not stand."""
    assert spacing(3000, step_tokens, look_every=100) == every
    assert share_of_the_run(3000, step_tokens, every) <= 0.01


def test_without_lengths_a_tripwire_stands_half_way_between_looks():
    assert spacing(3000, None, look_every=100) == 50
    assert spacing(3000, None, look_every=1) == 1


def test_the_move_and_its_standard_error_are_the_definition():
    wire = WatchedTokens([[1]] * 4, [[2]] * 4, ["a", "a", "b", "b"], [-1.0, -1.0, -1.0, -1.0])
    moved = wire.moved([-1.1, -1.3, -1.2, -2.0])
    harm = np.array([0.1, 0.3, 0.2, 1.0])
    assert moved.kl == pytest.approx(harm.mean())
    assert moved.se == pytest.approx(harm.std(ddof=1) / 2)
    assert moved.by_group == pytest.approx({"a": 0.2, "b": 0.6})
    assert WatchedTokens([[1]], [[2]], base=[-1.0]).moved([-3.0]).se == float("inf")


def test_noise_is_taken_off_where_enough_answers_tell_it():
    """A collapse that one answer of the task shows alone must not wait for a standard error."""
    one = WatchedTokens([[1]], [[2]], base=[-1.0]).moved([-3.0])
    assert look_early([one], 0.1, 0.0)
    many = WatchedTokens([[1]] * 8, [[2]] * 8, base=[-1.0] * 8)
    assert not look_early([many.moved([-0.8, -1.4] * 4)], 0.05, 0.0)
    assert look_early([many.moved([-1.3, -1.4] * 4)], 0.05, 0.0)
    assert not look_early([many.moved([-1.3, -1.4] * 4)], 0.05, 0.2)


def test_a_checkpoint_holds_what_is_watched(tmp_path):
    wire = sample()
    wire.base = [-1.0 / 3] * len(wire.golds)
    task = WatchedTokens([[1, 2]], [[3]], base=[-0.1])
    write_state(tmp_path, GuardState(tripwire_every=7, gold_wire=wire, task_wire=task))
    state = read_state(tmp_path)
    assert (state.tripwire_every, state.gold_wire, state.task_wire) == (7, wire, task)
