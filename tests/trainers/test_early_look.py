"""When a tripwire brings a look forward: a rule over the guard's state, the engine's numbers given."""

import pytest

from guardrail.ledger import Ledger
from guardrail.recipe import read_recipe
from guardrail.sets.items import read_items
from guardrail.trainers.guard import Guard
from guardrail.trainers.state import GuardState


class Gold:
    token_ids = (1, 2)


class Anchored:
    """Anchors of which a tripwire only reads the golds."""

    def __init__(self, items):
        self.answers = {item.id: [Gold()] for item in items}


class Moved:
    """An engine whose model gives every answer the same mean log-probability."""

    def __init__(self):
        self.red_line, self.task = -1.0, -1.0

    def prompts(self, items):
        return [[0]] * len(items)

    def complete(self, prompts, *, seed):
        return [Gold()] * len(prompts)

    def mean_logprobs(self, prompts, golds):
        is_task = prompts == [[7]]
        return [self.task if is_task else self.red_line] * len(prompts)


@pytest.fixture
def guarded(tmp_path):
    recipe = read_recipe("toy-sft")
    items = read_items(recipe.sets.red_line)[:3]
    guard = Guard(recipe, tmp_path, Ledger(tmp_path), Anchored(items), items, [], GuardState())
    engine = Moved()
    guard.set_task_wire(engine, [[7]])
    assert not guard.tripwire(engine, 0)
    return guard, engine


def test_a_small_move_does_not_and_a_large_one_does(guarded):
    guard, engine = guarded
    engine.red_line = -1.09
    assert not guard.tripwire(engine, 5)
    engine.red_line = -1.11
    assert guard.tripwire(engine, 10)


def test_a_move_on_the_tasks_own_prompts_is_enough(guarded):
    guard, engine = guarded
    engine.task = -1.5
    assert guard.tripwire(engine, 5)


def test_after_a_look_it_takes_twice_as_much(guarded):
    guard, engine = guarded
    engine.red_line = -1.3
    assert guard.tripwire(engine, 5)
    guard.state.wire_at_look = guard.state.wire
    engine.red_line = -1.55
    assert not guard.tripwire(engine, 10)
    engine.red_line = -1.65
    assert guard.tripwire(engine, 15)


def test_early_looks_end_with_the_reserve(guarded):
    guard, engine = guarded
    engine.red_line = -3.0
    guard.state.extra_looks = guard.recipe.looks.reserve - 1
    assert guard.tripwire(engine, 5)
    guard.state.extra_looks += 1
    assert not guard.tripwire(engine, 10)


def test_the_ledger_holds_both_wires(guarded):
    from guardrail.ledger import read_ledger

    guard, engine = guarded
    engine.red_line, engine.task = -1.25, -1.5
    guard.tripwire(engine, 5)
    record = read_ledger(guard.run)[-1]
    assert (record["kl"], record["task_kl"], record["early_look"]) == (0.25, 0.5, True)
