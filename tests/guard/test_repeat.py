"""What a look asks, and the repeat of a critical one: same weights, same budget, at any look of the run."""

from collections import defaultdict

import pytest

from guardrail.engines.in_process import Completion
from guardrail.guard.guard import Guard
from guardrail.guard.state import GuardState
from guardrail.judge.look_values import measure_completions
from guardrail.ledger.file import Ledger, read_ledger
from guardrail.recipe import read_recipe
from guardrail.sets.items import read_items

GOLD = "您好，请问有什么可以帮您？"


class Anchored:
    answers = defaultdict(lambda: [Completion(GOLD, (1,), "stop")])  # noqa: RUF012

    def gold(self, item_id):
        return GOLD


class Says:
    """An engine that gives every item one answer."""

    writer = None

    def __init__(self, text):
        self.text = text

    def answer(self, items, *, seed):
        return [Completion(self.text, (1,), "stop")] * len(items)


@pytest.fixture
def guard(tmp_path):
    recipe = read_recipe("toy-sft")
    items = read_items(recipe.sets.red_line)
    state = GuardState(planned_looks=3, looks=1)
    state.baseline = measure_completions(items, [[GOLD] * 2] * len(items), [GOLD] * len(items))
    return Guard(recipe, tmp_path, Ledger(tmp_path), Anchored(), items, [], state)


@pytest.mark.parametrize("final", [False, True])
def test_a_critical_look_repeated_on_bad_answers_halts(guard, final):
    if final:
        assert guard.look(Says(GOLD), 10, "schedule", final=False).kind == "none"
    bad = Says("哈哈哈哈哈哈")
    assert guard.look(bad, 20, "end" if final else "schedule", final=final).kind == "repeat_look"
    spent = guard.state.rule
    assert guard.look(bad, 20, "repeat", final=final).kind == "halt"
    assert guard.state.rule == spent, "a repeat costs nothing"


def test_a_repeat_on_good_answers_takes_the_alarm_back(guard):
    assert guard.look(Says("哈哈"), 20, "end", final=True).kind == "repeat_look"
    assert guard.look(Says(GOLD), 20, "repeat", final=True).kind == "none"
    repeat = [r for r in read_ledger(guard.run) if r["kind"] == "look"][-1]
    assert repeat["level"] == "ok"
    assert any(s["tested"] for s in repeat["streams"])


@pytest.mark.parametrize(("trained_s", "samples"), [(30.0, 1), (350.0, 2), (10_000.0, 4)])
def test_the_first_look_settles_how_many_answers_an_item_the_run_pays_for(
    guard, trained_s, samples
):
    """Look 0 took 4 s for four answers an item; of 100 steps ten are done, three looks are planned."""
    state = guard.state
    state.due, state.seconds = [10, 50, 100], {"looks": 4.0, "train": 4.0 + trained_s / 10}
    for step in (10, 50):
        guard.look(Says(GOLD), step, "schedule", final=False)
        state.seconds["train"] += 1e6
    looks = [r for r in read_ledger(guard.run) if r["kind"] == "look"]
    assert [r["samples"] for r in looks] == [samples, samples]
    answers = (guard.run / looks[0]["answers"]).read_text(encoding="utf-8").splitlines()
    assert len(answers) == samples * len(guard.red_line)


def test_greedy_answers_are_asked_for_once_whatever_the_run_pays_for(guard):
    looks = guard.recipe.looks
    greedy = looks.model_copy(
        update={"decoding": looks.decoding.model_copy(update={"mode": "greedy"})}
    )
    guard.recipe = guard.recipe.model_copy(update={"looks": greedy})
    guard.state.due, guard.state.seconds = [100], {"looks": 0.1, "train": 1e6}
    guard.look(Says(GOLD), 10, "schedule", final=False)
    assert [r["samples"] for r in read_ledger(guard.run) if r["kind"] == "look"] == [1]
