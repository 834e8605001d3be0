"""From the seconds of a rehearsal to those of the run."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from guardrail.guard.look_plan import affordable_samples
from guardrail.guard.tripwire_plan import MOST_GOLDS, OF_THE_RUN
from guardrail.preflight.expected_cost import looks_of_a_run, planned_steps
from guardrail.recipe import Recipe
from guardrail.sets.items import read_items

__all__ = ["Span", "Timings", "estimate"]

Span = tuple[float, float]
"""Seconds at the least and at the most."""


_OF_A_LOOK = 0.1
"""What a tripwire's tokens are of a look's at most."""


@dataclass(frozen=True, slots=True)
class Timings:
    """What a rehearsal took, in seconds."""

    items: int
    """Red-line items answered by a look."""
    pass_s: float
    """They answered once by base, for the anchors."""
    look_s: float
    """The same by the policy, in the training."""
    tripwire_s: float
    step_s: float
    processes: int
    steps_an_epoch: float


def estimate(recipe: Recipe, arguments: dict[str, Any], found: Timings) -> dict[str, Any]:
    """Return what the whole run will take, each in seconds at the least and at the most.

    Eight items are one batch, and whether a full batch takes longer than that is not known from it: at the
    least it does not, at the most every item takes its own share.

    Args:
        recipe: The user's, paths absolute.
        arguments: The trainer's, those left out at their defaults.
        found: What the rehearsal took.
    """
    red_line = read_items(recipe.sets.red_line)
    rehearsal = len(read_items(recipe.sets.rehearsal))
    steps = planned_steps(arguments, found.steps_an_epoch)
    looks = looks_of_a_run(recipe, arguments, steps)
    every = recipe.looks.tripwire_every_steps
    ranks = found.processes
    # What a machine answers at once by itself is its own choice: all items, at the best.
    batch = recipe.looks.batch_size or max(len(red_line), rehearsal, found.items)

    def scaled(seconds: float, wanted: int, ranks: int) -> Span:
        mine, here = ceil(wanted / ranks), ceil(found.items / ranks)
        by_batch = seconds * ceil(mine / batch) / ceil(here / batch)
        by_item = seconds * mine / here
        return min(by_batch, by_item), max(by_batch, by_item)

    sampled = recipe.looks.decoding.mode == "sampled"
    rounds = 1 + (recipe.replicates if sampled else 0)
    a_round = scaled(found.pass_s, len(red_line), 1)
    golds = scaled(found.pass_s, rehearsal, 1)
    anchors = (rounds * a_round[0] + golds[0], rounds * a_round[1] + golds[1])
    one_pass = scaled(found.look_s / (recipe.looks.samples or 1), len(red_line), ranks)
    rest = steps * found.step_s
    samples = recipe.looks.samples or 1
    if recipe.looks.samples is None and sampled:
        dear = one_pass[1]
        ahead = looks - 1 + recipe.looks.reserve
        samples = affordable_samples(dear, ahead, rest, dear * recipe.replicates)
    look = _times(one_pass, samples)
    all_looks = _times(one_pass, samples * (looks - 1) + recipe.replicates)
    wire = scaled(found.tripwire_s, min(MOST_GOLDS, len(red_line)), ranks)
    tripwire = (min(wire[0], _OF_A_LOOK * look[0]), min(wire[1], _OF_A_LOOK * look[1]))
    tripwires = None if every is None else steps // every + 1 if every else 0
    wires = (OF_THE_RUN * rest,) * 2 if tripwires is None else _times(tripwire, tripwires)
    total = tuple(rest + all_looks[k] + wires[k] for k in (0, 1))
    shares = sorted(all_looks[k] / total[k] if total[k] else 0.0 for k in (0, 1))
    return {
        "anchors_there": (Path(str(recipe.anchors)) / "manifest.json").is_file(),
        "anchor_answers": rounds * len(red_line) + rehearsal,
        "anchors_s": _rounded(anchors),
        "look_items": len(red_line),
        "answers_an_item": samples,
        "looks": looks,
        "look_s": _rounded(look),
        "tripwires": tripwires,
        "tripwire_s": _rounded(tripwire),
        "steps": steps,
        "step_s": round(found.step_s, 3),
        "share_on_looks": [round(share, 3) for share in shares],
        "hours": [round(seconds / 3600, 6) for seconds in total],
    }


def _times(span: Span, count: int) -> Span:
    return span[0] * count, span[1] * count


def _rounded(span: Span) -> list[float]:
    return [round(seconds, 3) for seconds in span]
