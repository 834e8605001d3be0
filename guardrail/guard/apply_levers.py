"""The levers: the KL weight, which is the guard's own, and the learning rate of an optimizer and its scheduler."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers.optimization import GreedyLR

from guardrail.errors import InputError
from guardrail.guard.state import GuardState
from guardrail.judge.ladder import Action

__all__ = [
    "base_rates",
    "hold_cut",
    "hold_levers",
    "keep_rates",
    "move_levers",
    "move_rate",
    "scale_learning_rate",
    "scheduler_steps",
]

_AT_EVALUATIONS = (ReduceLROnPlateau, GreedyLR)
"""Schedulers that keep no base rates: they move the rates themselves, at evaluations."""


def scale_learning_rate(
    optimizer: Any, scheduler: Any, factor: float
) -> tuple[list[float], list[float]]:
    """Multiply the learning rate for the rest of the run; return the rates before and after.

    A scheduler recomputes the rates from `base_lrs` at every step, so those are scaled too; they are
    saved with the scheduler, so the cut survives a resume. `ReduceLROnPlateau` and `GreedyLR`, which step at
    evaluations, keep no base rates: there the groups and the bounds are scaled.

    Args:
        optimizer: The trainer's optimizer, wrapped or not.
        scheduler: Its learning-rate scheduler, wrapped or not.
        factor: In (0, 1].

    Raises:
        ValueError: the factor would raise the rate or end it.
    """
    if not 0.0 < factor <= 1.0:
        raise ValueError(
            f"`factor` must lie in (0, 1], got {factor}; the guard never raises the rate"
        )
    inner = _unwrapped(scheduler)
    before = [float(group["lr"]) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] *= factor
        if "initial_lr" in group:
            group["initial_lr"] *= factor
    if isinstance(inner, _AT_EVALUATIONS):
        inner.min_lrs = [rate * factor for rate in inner.min_lrs]
        if isinstance(inner, GreedyLR):
            # It raises the rate of its own accord, up to these and back to those after a restart.
            inner.max_lrs = [rate * factor for rate in inner.max_lrs]
            inner._init_lrs = [rate * factor for rate in inner._init_lrs]
    else:
        inner.base_lrs = [rate * factor for rate in inner.base_lrs]
    inner._last_lr = [float(group["lr"]) for group in optimizer.param_groups]
    return before, [float(group["lr"]) for group in optimizer.param_groups]


def move_levers(state: GuardState, action: Action, optimizer: Any, scheduler: Any) -> None:
    """Move the KL weight and the learning rate to where an action has them; the rate only ever falls."""
    state.boost = action.boost
    move_rate(state, action, lambda factor: scale_learning_rate(optimizer, scheduler, factor))


def move_rate(state: GuardState, action: Action, scale: Callable[[float], object]) -> None:
    """Let `scale` multiply the learning rate by what the ladder wants it cut by; 1 is not asked for."""
    factor = action.lr_factor / state.lr_factor
    if factor < 1.0:
        scale(factor)
        state.lr_factor = action.lr_factor


def keep_rates(state: GuardState, optimizer: Any, scheduler: Any) -> None:
    """Remember for a resume what the rates are computed from (`hold_levers`)."""
    state.base_rates = base_rates(optimizer, scheduler)
    state.scheduler_steps = scheduler_steps(scheduler)


def base_rates(optimizer: Any, scheduler: Any) -> list[float]:
    """Return what the rates of the run are computed from, a cut included: one number a parameter group."""
    inner = _unwrapped(scheduler)
    if isinstance(inner, _AT_EVALUATIONS):
        return [float(group["lr"]) for group in optimizer.param_groups]
    return [float(rate) for rate in inner.base_lrs]


def scheduler_steps(scheduler: Any) -> int:
    """Return how often a scheduler has stepped; one that begins anew says 0."""
    return int(_unwrapped(scheduler).last_epoch)


def hold_cut(
    optimizer: Any, scheduler: Any, factor: float, *, saved: Sequence[float], saved_steps: int
) -> tuple[list[float], list[float]]:
    """Put a cut in force after a resume, if what was loaded does not hold it; return the base rates before and after.

    Optimizer and scheduler of a checkpoint hold it. A checkpoint without them (`save_only_model`), an optimizer of
    the user's own or a new one begin at the uncut rate.

    Args:
        optimizer: The trainer's optimizer after it has loaded what there was, wrapped or not.
        scheduler: Its learning-rate scheduler, wrapped or not.
        factor: The cut, in (0, 1).
        saved: `base_rates` when the checkpoint was saved.
        saved_steps: `scheduler_steps` then.

    Raises:
        InputError: optimizer and scheduler do not agree on the rate, so that the cut would not hold.
    """
    before = base_rates(optimizer, scheduler)
    if scheduler_steps(scheduler) != saved_steps or not _same(before, saved):
        scale_learning_rate(optimizer, scheduler, factor)
    after, inner = base_rates(optimizer, scheduler), _unwrapped(scheduler)
    steps_with = [float(group["lr"]) for group in optimizer.param_groups]
    scheduled = [float(rate) for rate in inner.get_last_lr()]
    started_at = [
        float(g.get("initial_lr", r)) for g, r in zip(optimizer.param_groups, after, strict=False)
    ]
    of_evaluations = isinstance(inner, _AT_EVALUATIONS)
    if not _same(steps_with, scheduled) or not (of_evaluations or _same(started_at, after)):
        raise InputError(
            f"after the resume the optimizer's learning rates are {steps_with} and the scheduler's {scheduled}, so that "
            f"the guard's cut to {factor:g} of the rate would not hold; go on from a checkpoint that holds both "
            "(no `save_only_model`), or leave the optimizer and scheduler to the trainer"
        )
    return before, after


def hold_levers(state: GuardState, optimizer: Any, scheduler: Any) -> dict[str, Any] | None:
    """See to it that the levers stand after a resume as they stood at the save, whatever the trainer has loaded.

    Returns:
        What the ledger says of them, None where none was moved.

    Raises:
        InputError: see `hold_cut`.
    """
    if state.lr_factor == 1.0 == state.boost:
        return None
    before = after = base_rates(optimizer, scheduler)
    if state.lr_factor < 1.0:
        before, after = hold_cut(
            optimizer,
            scheduler,
            state.lr_factor,
            saved=state.base_rates,
            saved_steps=state.scheduler_steps,
        )
    return {
        "boost": state.boost,
        "lr_factor": state.lr_factor,
        "saved_rates": state.base_rates,
        "loaded_rates": before,
        "rates": after,
    }


def _unwrapped(scheduler: Any) -> Any:
    return getattr(scheduler, "scheduler", scheduler)  # accelerate wraps the scheduler


def _same(one: Sequence[float], other: Sequence[float]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(math.isclose(a, b, rel_tol=1e-9) for a, b in pairs)
