"""The seam of TRL's own trainers, SFTTrainer and GRPOTrainer, put together.

Hooks of its own: none; it reads `use_vllm`, `vllm_generation`, `ref_model` and `chat_template_kwargs` of a GRPOTrainer.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guardrail.anchors.store import Anchors
from guardrail.errors import InputError
from guardrail.guard.ranks import Ranks
from guardrail.guard.state import GuardState
from guardrail.recipe import Recipe
from guardrail.trainers.checks.allowed_trainers import check_kind_of_trainer
from guardrail.trainers.checks.identity import check_weights
from guardrail.trainers.checks.trainer_fits_recipe import is_grpo
from guardrail.trainers.grpo.choice import Form
from guardrail.trainers.grpo.forms import attach_golds
from guardrail.trainers.guarded_recipe import GuardedRecipe
from guardrail.trainers.seam import Seam
from guardrail.trainers.trl.grpo import GrpoKlOnly, attach_kl_only
from guardrail.trainers.trl.grpo_form import trainer_form
from guardrail.trainers.trl.sft import attach_kl
from guardrail.trainers.trl.trl_vllm import TrlVllm

__all__ = ["require_thinking", "trl_seam"]


def trl_seam(trainer: Any) -> Seam:
    """Return how the guard joins a trainer of TRL's, or one made from it.

    Raises:
        InputError: it is another kind of trainer.
    """
    check_kind_of_trainer(trainer, "trl")
    if is_grpo(trainer):
        return Seam(attach_golds, trainer_form, _mix_into_rollouts, _own_vllm)
    return Seam(attach_kl)


def _own_vllm(trainer: Any, guarded: GuardedRecipe) -> TrlVllm | None:
    return TrlVllm(trainer.vllm_generation) if trainer.use_vllm else None


def _mix_into_rollouts(
    guarded: GuardedRecipe,
    trainer: Any,
    form: Form,
    state: GuardState,
    ranks: Ranks,
    anchors: Anchors,
) -> GrpoKlOnly:
    """Put KL-only prompts among the rollouts of TRL's GRPOTrainer.

    Raises:
        InputError: its prompts think where the recipe does not.
    """
    recipe, options = guarded.recipe, guarded.recipe.rehearsal
    if trainer.ref_model is not None:
        reference = trainer.accelerator.unwrap_model(trainer.ref_model)
        check_weights("kl_reference", Path(str(recipe.kl_reference)), reference)
    require_thinking(recipe, trainer.chat_template_kwargs)
    return attach_kl_only(
        trainer,
        [item.chat() for item in guarded.rehearsal],
        state,
        fraction=options.fraction,
        weight=options.weight,
        seed=recipe.seed,
        adapter_off=form.adapter_off,
    )


def require_thinking(recipe: Recipe, options: Mapping[str, Any]) -> None:
    """Refuse prompts that would think where the recipe does not, or the other way round.

    Args:
        recipe: The run's.
        options: GRPOConfig's `chat_template_kwargs`.

    Raises:
        InputError: they differ.
    """
    thinks = options.get("enable_thinking", True)
    if bool(thinks) != recipe.thinking:
        raise InputError(
            f"the recipe says `thinking: {recipe.thinking}`, and the trainer's prompts have "
            f"enable_thinking {thinks}; set chat_template_kwargs={{'enable_thinking': "
            f"{recipe.thinking}}} in GRPOConfig"
        )
