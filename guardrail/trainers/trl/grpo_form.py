"""The form of KL-only samples in TRL's GRPO: what a trainer, or a recipe without one, has for a reference.

Hooks: none; it reads `beta`, the adapters of the model and, in TRL, that a copy of the adapter is named `ref`.
"""

from pathlib import Path
from typing import Any

from guardrail.models.fingerprint import adapter_base, is_adapter
from guardrail.recipe import Recipe
from guardrail.trainers.grpo.choice import Form, choose_form, starts_at_reference
from guardrail.trainers.kl_only.references import adapter_fault, below_adapter_fault
from guardrail.trainers.trl.grpo_versions import check_arguments, find_seams

__all__ = ["recipe_form", "trainer_form"]


def _another_start(recipe: Recipe) -> str | None:
    if starts_at_reference(recipe):
        return None
    return (
        f"GRPO's own KL reference is the start model ({recipe.start_model}), and `kl_reference` is "
        f"another ({recipe.kl_reference})"
    )


def trainer_form(recipe: Recipe, trainer: Any) -> Form:
    """Return the form of KL-only samples for a TRL `GRPOTrainer`.

    Raises:
        NoLiteral: the recipe names a form that this trainer cannot have.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapters = getattr(model, "peft_config", {})
    fault = adapter_fault(recipe, model)
    own_fault = _another_start(recipe)
    # Without a copy of the adapter (`ref`) TRL's reference is the model with its adapter off.
    if own_fault is None and adapters and "ref" not in adapters:
        own_fault = fault

    def check_settings() -> None:
        find_seams(trainer)

    return choose_form(
        recipe,
        beta=trainer.beta,
        own_fault=own_fault,
        adapter_fault=fault,
        adapter=bool(adapters),
        check_settings=check_settings,
    )


def recipe_form(recipe: Recipe) -> Form:
    """Return the form that `guardrail run` will find for a recipe with `trainer: trl-grpo`, as far as it tells.

    Raises:
        NoLiteral: the recipe names a form that its own arguments rule out.
    """
    arguments, start = recipe.train.arguments, Path(str(recipe.start_model))
    adapter = recipe.train.lora is not None or is_adapter(start)
    return choose_form(
        recipe,
        beta=float(arguments.get("beta", 0.0)),
        own_fault=_another_start(recipe),
        adapter_fault=below_adapter_fault(recipe) if adapter else "this model has no adapter",
        adapter=adapter,
        check_settings=lambda: check_arguments(arguments, router_loss=_router_loss(recipe)),
    )


def _router_loss(recipe: Recipe) -> bool:
    """As TRL 1.16 decides it; TRL 0.29's GRPO adds none, and none of its rules asks."""
    import transformers

    below = adapter_base(Path(str(recipe.start_model)))
    config: Any = transformers.AutoConfig.from_pretrained(below, local_files_only=True)
    config = config.get_text_config()
    given = recipe.train.arguments.get("router_aux_loss_coef")
    weight = getattr(config, "router_aux_loss_coef", 0.0) if given is None else given
    return hasattr(config, "output_router_logits") and weight != 0.0
