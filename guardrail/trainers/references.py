"""The KL reference as a model, where its stored top-k log-probabilities are not enough."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from guardrail.engines.in_process import kept_training_state
from guardrail.kl.term import RehearsalSample, sample_logits
from guardrail.trainers.injection import Reference

__all__ = ["adapter_off", "frozen_copy"]


def _logits(model: Any, samples: Sequence[RehearsalSample], pad_id: int) -> list[Tensor]:
    with kept_training_state(model):
        return [logits.clone() for logits in sample_logits(model, samples, pad_id)]


def adapter_off(accelerator: Any, pad_id: int) -> Reference:
    """Return the policy without its adapter as the reference: no second model in memory.

    Right only where the model without the adapter *is* the KL reference; `attach` checks the weights.
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
