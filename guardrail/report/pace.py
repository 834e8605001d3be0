"""How fast a run goes and when it should be heard of again: step time, silence, next look."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

from guardrail.ledger.file import Record, happened_at

__all__ = ["Pace", "measure_pace", "next_look_step", "record_time"]

_SHORTEST_LIMIT_S = 60.0
_LIMIT_BEFORE_THE_FIRST_STEP_S = 900.0
_TIMES_THE_USUAL = 3.0
_NOT_THE_RUN = ("rewound", "decision")
"""Records before which somebody was waited for, not the training."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What the live branch of a ledger says about a run's speed."""

    step_s: float | None
    """Median seconds of an optimizer step, looks and tripwires left out; None before two steps are known."""
    silence_limit_s: float
    """A running run that is silent for longer is stale: its process has probably gone."""


def record_time(record: Record) -> datetime | None:
    """Return when a record was written, None where it does not say."""
    try:
        at = datetime.fromisoformat(str(record.get("time")))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def measure_pace(live: Sequence[Record]) -> Pace:
    """Return the pace of a run from the live branch of its ledger.

    The usual silence is the longest stretch of steps without a record at the median step time, plus the
    longest look, plus the longest pause inside one step (a save, an evaluation); three times that, and at
    least a minute, is the limit. A pause across a resume counts for nothing. Before the first step there is
    no step time and the limit is a quarter of an hour, or three of the looks there were.

    What it does NOT promise: a run on a suspended machine, or in one endless evaluation, looks stale too.
    """
    live = [r for r in live if r["kind"] != "metric"]  # of any step the user says
    steps: list[tuple[int, float]] = []
    pause = look = 0.0
    for before, after in pairwise(live):
        a, b = record_time(before), record_time(after)
        if a is None or b is None or after["kind"] in _NOT_THE_RUN:
            continue
        # What was answered beside the training did not keep it.
        beside = after.get("applied_step") is not None or after.get("after_end")
        here = after["kind"] in ("look", "tripwire") and not beside
        measuring = _seconds(after) if here else 0.0
        look = max(look, measuring)
        rest = max(0.0, (b - a).total_seconds() - measuring)
        made = happened_at(after) - happened_at(before)
        if made > 0:
            steps.append((made, rest))
        else:
            pause = max(pause, rest)
    if not steps:
        limit = max(_LIMIT_BEFORE_THE_FIRST_STEP_S, _TIMES_THE_USUAL * look)
        return Pace(None, limit)
    step_s = statistics.median(seconds / count for count, seconds in steps)
    usual = max(count for count, _ in steps) * step_s + look + pause
    return Pace(step_s, max(_SHORTEST_LIMIT_S, _TIMES_THE_USUAL * usual))


def next_look_step(
    recipe: dict[str, Any], measured_step: int | None, planned_steps: int | None
) -> int | None:
    """Return the step of the next planned look, None where the recipe does not say.

    A tripwire or the ladder may bring one earlier.

    Args:
        recipe: The resolved recipe.
        measured_step: Step of the last look, taken or failed; None: look 0 is still to come.
        planned_steps: The run's last step, where it is known.
    """
    if measured_step is None:
        return 0
    arguments = _section(_section(recipe, "train"), "arguments")
    every = [_section(recipe, "looks").get("every_steps")]
    if arguments.get("save_strategy", "steps") == "steps":
        every.append(arguments.get("save_steps"))
    due = [(measured_step // n + 1) * n for n in every if isinstance(n, int) and n > 0]
    due += [planned_steps] if planned_steps is not None else []
    last = max(due, default=0) if planned_steps is None else planned_steps
    ahead = [step for step in due if measured_step < step <= last]
    return min(ahead, default=None)


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    section = content.get(name)
    return section if isinstance(section, dict) else {}


def _seconds(record: Record) -> float:
    seconds = record.get("seconds")
    return float(seconds) if isinstance(seconds, float | int) and 0 <= seconds < 1e9 else 0.0
