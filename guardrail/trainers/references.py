"""The KL reference as a model, where its stored top-k log-probabilities are not enough."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor

from guardrail.anchors.fingerprint import adapter_base, weights_sha256
from guardrail.anchors.store import Manifest
from guardrail.engines.in_process import kept_training_state, load_model
from guardrail.errors import InputError
from guardrail.kl.term import Reference, RehearsalSample, sample_logits
from guardrail.recipe import Recipe

__all__ = ["adapter_off", "frozen_copy", "wanted_reference"]


def _logits(model: Any, samples: Sequence[RehearsalSample], pad_id: int) -> list[Tensor]:
    with kept_training_state(model):
        return sample_logits(model, samples, pad_id)


def adapter_off(accelerator: Any, pad_id: int) -> Reference:
    """Return the policy without its adapter as the reference: no second model in memory.

    Right only where the model without the adapter *is* the KL reference; `wanted_reference` checks the weights.
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


def wanted_reference(recipe: Recipe, trainer: Any, manifest: Manifest) -> Reference | None:
    """Return the model that the recipe has the KL taken against, None for the stored log-probabilities.

    Raises:
        InputError: `adapter off`, and there is no adapter or the model below it is not the reference.
    """
    kind, pad_id = recipe.rehearsal.reference, trainer.processing_class.pad_token_id
    if kind == "stored":
        return None
    if kind == "frozen":
        model, _ = load_model(str(recipe.kl_reference))
        dtype = next(trainer.model.parameters()).dtype
        return frozen_copy(model.to(dtype), pad_id)
    if not isinstance(trainer.accelerator.unwrap_model(trainer.model), PeftModel):
        raise InputError(
            "`rehearsal.reference: adapter off` needs a LoRA run, and this model has no adapter; use "
            "`stored` or `frozen`"
        )
    below = adapter_base(Path(str(recipe.start_model)))
    if weights_sha256(below) != manifest.kl_reference["weights"]:
        raise InputError(
            f"`rehearsal.reference: adapter off`: the model below the adapter ({below}) is not "
            f"the KL reference ({recipe.kl_reference}); use `stored` or `frozen`"
        )
    return adapter_off(trainer.accelerator, pad_id)
