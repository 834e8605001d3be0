"""Does the KL term reach the weights with the factor its formula says? Seen in the backward pass itself."""

from typing import Any

from torch import Tensor

from guardrail.errors import InputError

__all__ = ["Normalisation", "loss_scale"]

_WINDOWS = 2
"""Optimizer steps with KL-only samples that are watched; a trainer divides all alike."""
_TOLERANCE = 1e-2
"""A wrong division is off by a whole factor; half precision rounds the loss by less than this."""


class Normalisation:
    """Watches what arrives at a sum of KLs in the first optimizer steps that hold any.

    Trainers divide a loss by the accumulation steps in four different places or not at all, which no look at
    values can tell. The gradient that arrives at the sum is the product of everything it was multiplied by.
    """

    def __init__(self) -> None:
        self._left = _WINDOWS
        self._arrived: list[tuple[Tensor, float]] = []

    def watch(self, total: Tensor, factor: Tensor | float) -> None:
        """Remember the gradient that will arrive at `total`, which the loss should hold `factor` times."""
        if self._left and total.requires_grad:
            wanted = float(factor)
            listen: Any = total.register_hook
            listen(lambda gradient: self._arrived.append((gradient.detach(), wanted)))

    def check(self, scale: float | None) -> dict[str, float] | None:
        """Compare what arrived in the optimizer step that ends; None where nothing was due or all is known.

        Args:
            scale: What the loss itself was multiplied by against underflow; None where nobody knows.

        Raises:
            InputError: a term was weighed otherwise than its formula says.
        """
        arrived, self._arrived = self._arrived, []
        if not arrived or not self._left:
            return None
        self._left -= 1
        if scale is None:
            return None
        ratios = [float(gradient) / (wanted * scale) for gradient, wanted in arrived]
        worst = max(ratios, key=lambda ratio: abs(ratio - 1))
        if abs(worst - 1) > _TOLERANCE:
            raise InputError(
                f"gradient check: the trainer weighs the KL term {worst:.4g} times as its formula says, so its "
                "KL weight would not be the recipe's; this trainer, accumulation or backend divides losses in a "
                "way the guard does not know. Use versions and settings of docs/support.md, or `mode: watch`"
            )
        return {"ratio": worst}


def loss_scale(trainer: Any) -> float | None:
    """Return what the trainer multiplies losses by against underflow, 1 without, None where it cannot be known."""
    accelerator = trainer.accelerator
    if accelerator.scaler is not None:
        return float(accelerator.scaler.get_scale())
    return None if accelerator.mixed_precision == "fp16" else 1.0
