"""Weak anchors: the base's own answers that cannot show much. Reported, never dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from guardrail.anchors.store import Anchors
from guardrail.probes.measure import passed
from guardrail.sets.items import Item
from guardrail.text import parse_answer

__all__ = ["WeakAnchor", "weak_anchors"]

Why = Literal["cut", "empty", "base fails its own check", "replicates disagree"]


@dataclass(frozen=True, slots=True)
class WeakAnchor:
    """An item whose anchor says little, why, and its figure."""

    item: str
    ability: str
    why: Why
    detail: str


def weak_anchors(items: Sequence[Item], anchors: Anchors) -> list[WeakAnchor]:
    """Return what is wrong with the items' anchors, in item order; one item may be named twice.

    - `cut`: an answer reached the length limit.
    - `empty`: an answer shows nothing, or nothing but thinking.
    - `base fails its own check`: no answer of the base passes; a fall cannot show here.
    - `replicates disagree`: some answers pass and some do not; the item adds noise.
    """
    found: list[WeakAnchor] = []
    for item in items:
        answers = anchors.answers[item.id]

        def count_as(why: Why, count: int, item: Item = item, of: int = len(answers)) -> None:
            if count:
                found.append(WeakAnchor(item.id, item.ability, why, f"{count} of {of} answers"))

        count_as("cut", sum(a.finish_reason == "length" for a in answers))
        count_as("empty", sum(not parse_answer(a.text).text for a in answers))
        failed = sum(passed(item, a.text) == 0.0 for a in answers)
        all_failed = failed == len(answers)
        count_as("base fails its own check" if all_failed else "replicates disagree", failed)
    return found
