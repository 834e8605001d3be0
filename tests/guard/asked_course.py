"""A course whose looks a sidecar takes, over the shipped items, its answers given."""

from collections.abc import Callable
from pathlib import Path

from guardrail.guard.asked_looks import Asked, Measurement, write_answer
from guardrail.guard.course import Course
from guardrail.guard.guard import Guard
from guardrail.guard.look_plan import plan_looks
from guardrail.guard.state import GuardState
from guardrail.judge.ladder import Action
from guardrail.judge.look_values import measure_completions
from guardrail.ledger.file import Ledger
from guardrail.recipe import read_recipe
from guardrail.sets.items import read_items

GOLD, BAD = "您好，请问有什么可以帮您？", "哈哈哈哈哈哈"


class Manifest:
    gold_base = {"weights": "gold"}  # noqa: RUF012


class Anchored:
    """Anchors whose base gave one answer to everything."""

    manifest = Manifest()

    def __init__(self, items):
        self.answers = {item.id: [Says(GOLD)] * 3 for item in items}

    def gold(self, item_id):
        return GOLD


class Says:
    def __init__(self, text):
        self.text = text


def asked_course(folder: Path, move: Callable[[Action], None]) -> Course:
    """A course of 30 steps with a look every ten, which has asked for look 0."""
    recipe = read_recipe("toy-sft", changes=["looks.engine=sidecar"])
    items = read_items(recipe.sets.red_line)
    state = GuardState()
    guard = Guard(
        recipe, folder, Ledger(folder), Anchored(items), items, [], state, start_weights="gold"
    )
    plan_looks(state, [10, 20, 30], 0, step=0)
    course = Course(guard, folder / "checkpoints", None, move, lambda step: None)
    course.begin(0, 30, best_follows=False)
    guard.ask(0, "start", "base")
    return course


def says(course: Course, ask: Asked, text: str) -> None:
    """The sidecar's answer to an ask: every item says this."""
    guard, items = course.guard, course.guard.red_line
    values = measure_completions(items, [[text] * ask.samples] * len(items), [GOLD] * len(items))
    answers = f"looks/{ask.nonce}.jsonl"
    write_answer(guard.run, ask, Measurement(guard.meter.only_judged(values), answers, 1.0))


def look_due(course: Course, step: int) -> Asked:
    course.look(step, "schedule")
    assert course.asks_at_save
    course.ask(step)
    return course.guard.state.asked[-1]
