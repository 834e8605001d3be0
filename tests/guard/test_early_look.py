"""When a tripwire brings a look forward: a rule over the guard's state, the engine's numbers given."""

import pytest

from guardrail.guard.guard import Guard
from guardrail.guard.state import GuardState
from guardrail.guard.tripwire import set_tripwires, tripwire
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.recipe import read_recipe
from guardrail.sets.items import read_items


class Gold:
    token_ids = (1, 2)


class Anchored:
    """Anchors of which a tripwire only reads the golds."""

    def __init__(self, items):
        self.answers = {item.id: [Gold()] for item in items}


class Moved:
    """An engine whose model gives every answer a mean log-probability, up and down by `noise` in turn."""

    def __init__(self):
        self.red_line, self.task, self.noise = -1.0, -1.0, 0.0

    def prompts(self, items):
        return [[0] * 50] * len(items)

    def cut_answers(self, tokens):
        return self

    def complete(self, prompts, *, seed):
        return [Gold()] * len(prompts)

    def mean_logprobs(self, prompts, golds):
        level = self.task if prompts == [[7], [7]] else self.red_line
        return [level + self.noise * (-1) ** n for n in range(len(prompts))]


@pytest.fixture
def guarded(tmp_path):
    recipe = read_recipe("toy-sft")
    items = read_items(recipe.sets.red_line)[:110]
    guard = Guard(recipe, tmp_path, Ledger(tmp_path), Anchored(items), items, [], GuardState())
    engine = Moved()
    set_tripwires(guard, engine, [[7], [7]], step_tokens=1000, steps=100)
    assert not guard.state.wire
    return guard, engine


def test_a_small_move_does_not_and_a_large_one_does(guarded):
    guard, engine = guarded
    engine.red_line = -1.09
    assert not tripwire(guard, engine, 5)
    engine.red_line = -1.11
    assert tripwire(guard, engine, 10)


def test_a_move_on_the_tasks_own_prompts_is_enough(guarded):
    guard, engine = guarded
    engine.task = -1.5
    assert tripwire(guard, engine, 5)


def test_after_a_look_it_takes_twice_as_much(guarded):
    guard, engine = guarded
    engine.red_line = -1.3
    assert tripwire(guard, engine, 5)
    guard.state.wire_at_look = guard.state.wire
    engine.red_line = -1.55
    assert not tripwire(guard, engine, 10)
    engine.red_line = -1.65
    assert tripwire(guard, engine, 15)


def test_early_looks_end_with_the_reserve(guarded):
    guard, engine = guarded
    engine.red_line = -3.0
    guard.state.extra_looks = guard.recipe.looks.reserve - 1
    assert tripwire(guard, engine, 5)
    guard.state.extra_looks += 1
    assert not tripwire(guard, engine, 10)


def test_a_rise_that_noise_explains_brings_no_look_forward(guarded):
    guard, engine = guarded
    engine.red_line, engine.noise = -1.2, 0.2
    assert not tripwire(guard, engine, 5)
    record = read_ledger(guard.run)[-1]
    assert record["golds"] == 8
    assert record["kl"] == pytest.approx(0.2)
    assert record["se"] == pytest.approx(0.2 / 7**0.5, abs=1e-6)
    engine.red_line = -1.4
    assert tripwire(guard, engine, 10)


def test_the_ledger_holds_both_wires(guarded):
    guard, engine = guarded
    engine.red_line, engine.task = -1.25, -1.5
    tripwire(guard, engine, 5)
    record = read_ledger(guard.run)[-1]
    assert (record["kl"], record["task_kl"], record["early_look"]) == (0.25, 0.5, True)
