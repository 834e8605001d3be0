"""Does the KL term see this model? Policy = reference must give KL near 0, a perturbed policy clearly more."""

from typing import Any

import torch

from guardrail.engines.in_process import kept_training_state
from guardrail.errors import InputError
from guardrail.ledger import Ledger
from guardrail.trainers.injection import KlOnly

__all__ = ["kl_self_test"]


def kl_self_test(
    injection: KlOnly, model: Any, ledger: Ledger, *, start_is_kl_reference: bool
) -> None:
    """Write to the ledger the KL a token at the start model and at a perturbed one; its weights are put back.

    Raises:
        InputError: the start model is the reference and its KL is not near 0, or no perturbation is seen.
    """
    # A trained weight: a frozen one would move the reference too where that is the model itself.
    floats = [p for p in model.parameters() if p.is_floating_point()]
    weight = next(p for p in reversed(floats) if p.requires_grad)
    saved = weight.detach().clone()

    factor = 1.0

    def perturb() -> None:
        # The second matrix of a new LoRA adapter is all zeros.
        scale = factor * torch.clamp(2.0 * saved.float().abs().mean(), min=0.1)
        noise = torch.randn(saved.shape, generator=torch.Generator().manual_seed(0))
        weight.add_((scale * noise.to(saved.device)).to(saved.dtype))

    def undo() -> None:
        weight.copy_(saved)

    half = weight.dtype in (torch.float16, torch.bfloat16)
    tolerance = 5e-3 if half else 1e-4

    def seen(at_start: float, perturbed: float) -> bool:
        return perturbed >= 10 * tolerance and perturbed >= 2 * at_start

    with kept_training_state(model):
        at_start, perturbed = injection.self_test(model, perturb, undo)
        # A small adapter at the very end of the model says little; what the KL does not see stays 0.
        while not seen(at_start, perturbed) and factor < 1000:
            factor *= 10
            at_start, perturbed = injection.self_test(model, perturb, undo)
    ledger.append("kl_self_test", 0, at_start=at_start, perturbed=perturbed, tolerance=tolerance)
    if start_is_kl_reference and abs(at_start) > tolerance:
        raise InputError(
            f"KL self-test: the start model is the KL reference, yet its KL is {at_start:.2e} nats "
            f"a token (at most {tolerance:g}); the stored log-probabilities are another model's. "
            "Run `guardrail anchor RECIPE --rebuild`"
        )
    if not seen(at_start, perturbed):
        raise InputError(
            f"KL self-test: perturbing the weights moved the KL only from {at_start:.2e} to "
            f"{perturbed:.2e} nats a token; the KL term does not see this model"
        )
