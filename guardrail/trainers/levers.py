"""The levers on a trainer: its learning rate and its stop. The KL weight is the guard's own."""

from typing import Any

from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers.optimization import GreedyLR

__all__ = ["scale_learning_rate"]


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
    inner = getattr(scheduler, "scheduler", scheduler)  # accelerate wraps the scheduler
    before = [float(group["lr"]) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] *= factor
        if "initial_lr" in group:
            group["initial_lr"] *= factor
    if isinstance(inner, ReduceLROnPlateau | GreedyLR):
        inner.min_lrs = [rate * factor for rate in inner.min_lrs]
        if isinstance(inner, GreedyLR):
            # It raises the rate of its own accord, up to these and back to those after a restart.
            inner.max_lrs = [rate * factor for rate in inner.max_lrs]
            inner._init_lrs = [rate * factor for rate in inner._init_lrs]
    else:
        inner.base_lrs = [rate * factor for rate in inner.base_lrs]
    inner._last_lr = [float(group["lr"]) for group in optimizer.param_groups]
    return before, [float(group["lr"]) for group in optimizer.param_groups]
