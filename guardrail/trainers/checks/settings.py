"""Everything that the kind of trainer and its settings must be for a recipe, checked when a guard is attached."""

from typing import Any

from guardrail.recipe import Recipe
from guardrail.trainers.checks.deepspeed import check_deepspeed
from guardrail.trainers.checks.kinds import check_kind
from guardrail.trainers.checks.precision import check_quantization, keep_backward_of_4bit

__all__ = ["check_settings"]


def check_settings(recipe: Recipe, trainer: Any, *, grpo: bool) -> None:
    """Refuse what this kind of trainer, DeepSpeed or quantised weights cannot do for a recipe.

    Raises:
        InputError: a key or setting that would not be heeded or would break later; it is named.
    """
    check_kind(recipe, trainer, grpo=grpo)
    check_deepspeed(recipe, trainer)
    check_quantization(recipe, trainer)
    keep_backward_of_4bit(trainer.model)
