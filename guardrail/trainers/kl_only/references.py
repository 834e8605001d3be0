"""The KL reference as a model, where its stored top-k log-probabilities are not enough."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor

from guardrail.engines.in_process import kept_training_state
from guardrail.errors import InputError
from guardrail.kl.token_losses import Reference, RehearsalSample, sample_logits
from guardrail.models.fingerprint import adapter_base, weights_sha256
from guardrail.models.load import load_model
from guardrail.recipe import Recipe

__all__ = [
    "CHANGES_BELOW",
    "adapter_fault",
    "adapter_off",
    "below_adapter_fault",
    "frozen_copy",
    "wanted_reference",
]

CHANGES_BELOW = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to initialise LoRA that change the weights below it (PEFT's LoraConfig.init_lora_weights)."""


def _logits(model: Any, samples: Sequence[RehearsalSample], pad_id: int) -> list[Tensor]:
    with kept_training_state(model):
        return sample_logits(model, samples, pad_id)


def adapter_off(accelerator: Any, pad_id: int) -> Reference:
    """Return the policy without its adapter as the reference: no second model in memory.

    Right only where the model without the adapter *is* the KL reference; `adapter_fault` says whether it is.
    """

    def reference(policy: Any, samples: Sequence[RehearsalSample]) -> list[Tensor]:
        model = accelerator.unwrap_model(policy)
        with model.disable_adapter():
            return _logits(model, samples, pad_id)

    return reference


def frozen_copy(model: Any, pad_id: int) -> Reference:
    """Return a second model as the reference; it is never trained and costs its whole memory."""
    model.eval()
    model.requires_grad_(False)

    def reference(policy: Any, samples: Sequence[RehearsalSample]) -> list[Tensor]:
        device = next(policy.parameters()).device
        return _logits(model.to(device), samples, pad_id)

    return reference


def below_adapter_fault(recipe: Recipe) -> str | None:
    """Return why the model below the run's adapter is not the KL reference by its weights, or None."""
    below = adapter_base(Path(str(recipe.start_model)))
    if weights_sha256(below) == weights_sha256(Path(str(recipe.kl_reference))):
        return None
    return f"the model below the adapter ({below}) is not the KL reference ({recipe.kl_reference})"


def adapter_fault(recipe: Recipe, model: Any) -> str | None:
    """Return why a trainer's unwrapped model, its adapter off, is not the KL reference; None where it is."""
    if not isinstance(model, PeftModel):
        return "this model has no adapter"
    for config in model.peft_config.values():
        how = str(getattr(config, "init_lora_weights", "")).lower()
        if how.startswith(CHANGES_BELOW):
            return f"`init_lora_weights: {how}` changes the weights below the adapter"
    names, trained = set(model.peft_config), model.named_parameters()
    # PEFT names an adapter's own weights by the adapter; biases (`bias: all`) and what was unfrozen by
    # hand are trained outside it, and stay trained when it is off.
    outside = [n for n, p in trained if p.requires_grad and not names & set(n.split("."))]
    if outside:
        return f"{len(outside)} weights outside the adapter are trained too, such as {outside[0]}"
    return below_adapter_fault(recipe)


def wanted_reference(recipe: Recipe, trainer: Any, pad_id: int) -> Reference | None:
    """Return the model that the recipe has the KL taken against, None for the stored log-probabilities.

    Raises:
        InputError: `adapter off`, and the model without an adapter is not the reference.
    """
    kind = recipe.rehearsal.reference
    if kind == "stored":
        return None
    if kind == "frozen":
        model, _ = load_model(str(recipe.kl_reference))
        dtype = next(trainer.model.parameters()).dtype
        return frozen_copy(model.to(dtype), pad_id)
    fault = adapter_fault(recipe, trainer.accelerator.unwrap_model(trainer.model))
    if fault is not None:
        raise InputError(f"`rehearsal.reference: adapter off`: {fault}; use `stored` or `frozen`")
    return adapter_off(trainer.accelerator, pad_id)
