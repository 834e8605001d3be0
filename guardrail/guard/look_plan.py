"""The looks of a run: at which steps they fall, and what becomes of the plan when the run changes its length."""

import json
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.guard.state import GuardState
from guardrail.recipe import Recipe

__all__ = [
    "LOOKS_OF_THE_RUN",
    "MOST_SAMPLES",
    "SIDECAR_SAMPLES",
    "affordable_samples",
    "due_looks",
    "looks_kept",
    "plan_looks",
    "refuse_longer",
]

LOOKS_OF_THE_RUN = 0.03
"""What looks may take of a run's steps where the recipe leaves `looks.samples` open."""
SIDECAR_SAMPLES = 2
"""Answers an item of a look beside the training, which costs the run nothing: two see a fall of ten points in every run of
docs/drift-simulation.md, one in nine of ten."""
MOST_SAMPLES = 4
"""Further ones see hardly more: the base's replicates, and items themselves, vary as well."""


def due_looks(recipe: Recipe, max_steps: int, args: Any) -> list[int]:
    """Return the steps at which looks fall in a run of so many steps: every N, at saves, at the end."""
    every = recipe.looks.every_steps
    due = {step for step in range(every, max_steps + 1, every)} | {max_steps}
    if args.save_strategy == "steps":
        saves = int(args.save_steps if args.save_steps >= 1 else args.save_steps * max_steps)
        due |= set(range(max(1, saves), max_steps + 1, max(1, saves)))
    elif args.save_strategy == "epoch":
        epochs = max(1, round(args.num_train_epochs))
        due |= {max_steps * e // epochs for e in range(1, epochs + 1)}
    return sorted(due)


def looks_kept(recipe: Recipe, args: Any) -> int:
    """Return how many looks are planned beside the due ones: early ones, and that of the best model at the end."""
    return recipe.looks.reserve + int(args.load_best_model_at_end)


def affordable_samples(pass_s: float, looks: int, steps_s: float, spent_s: float = 0.0) -> int:
    """Return how many answers an item a look may have for all looks to stay within 3 % of the run's steps.

    One at least, `MOST_SAMPLES` at most.

    Args:
        pass_s: Seconds in which the red line is answered once.
        looks: Looks that are planned after look 0.
        steps_s: Seconds of all the run's optimizer steps.
        spent_s: Seconds that looks have taken already.
    """
    paid = LOOKS_OF_THE_RUN * steps_s - spent_s
    return max(1, min(MOST_SAMPLES, int(paid / max(pass_s * looks, 1e-9))))


def plan_looks(state: GuardState, due: list[int], kept: int, *, step: int) -> dict[str, Any] | None:
    """Divide what is left of the error budget among the looks ahead, where they are not those planned before.

    At the start that is the whole budget over all looks. A run that is made longer or shorter, or that saves at
    other steps, has other looks ahead; they get what the looks before them left (`guardrail.judge.rule.judge`), so that
    the whole run still spends no more than its budget.

    Args:
        state: The guard's; the plan in it is replaced.
        due: Steps at which looks fall.
        kept: Looks planned beside those.
        step: The step the training begins or goes on at.

    Returns:
        What the ledger says of the change, None where nothing changed.

    Raises:
        InputError: the final look has spent the budget, and there are looks ahead.
    """
    if (due, kept) == (state.due, state.kept):
        return None
    later = sum(other > step for other in due)
    if later and state.rule.share >= 1.0:
        raise InputError(_spent(step, due[-1]))
    owed = bool(state.owed or state.owed_look)
    waiting = sum(ask.trigger not in ("start", "repeat") for ask in state.asked)
    planned = state.rule.looks_used + waiting + later + owed + max(0, kept - state.extra_looks)
    changed = {
        "planned_steps": due[-1],
        "planned_steps_before": state.due[-1] if state.due else None,
        "planned_looks": planned,
        "planned_looks_before": state.planned_looks,
        "looks_used": state.rule.looks_used,
        "budget_spent": round(state.rule.share, 6),
    }
    state.due, state.kept, state.planned_looks = due, kept, planned
    return changed


def refuse_longer(state: GuardState, checkpoint: Path, args: Any) -> None:
    """Refuse to go on beyond a final look, before the ledger is told that the run goes on.

    Raises:
        InputError: the checkpoint's state has its budget spent, and the arguments ask for more steps.
    """
    if state.rule.share < 1.0:
        return
    trainer_state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    step, epoch = int(trainer_state["global_step"]), float(trainer_state["epoch"] or 0.0)
    longer = args.num_train_epochs > epoch + 1e-6
    if args.max_steps > 0:
        longer = args.max_steps > step
    if longer:
        wanted = args.max_steps if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs"
        raise InputError(_spent(step, wanted))


def _spent(step: int, wanted: int | str) -> str:
    return (
        f"the final look at step {step} has spent the run's error budget, and training on to {wanted} would leave "
        "every further look untested; begin a run of its own from this checkpoint (`start_model`), or go on from "
        "an earlier one (`--resume-from`, `attach(resume=...)`), whose looks are then planned anew"
    )
