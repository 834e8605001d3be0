"""Does the KL term see this model? As it is the KL must lie within the noise of rounding, perturbed well beyond.

Which model it is, hashes and the comparison of tensors say; what is tested here is the seam: forwards through
the trainer's own prepared model, in its precision, through the loss that trains. The reference are the same
golds through the same model, so precision and wrappers cancel. How large the noise is, is measured by
rounding more (`one_rounding_more`).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from guardrail.engines.in_process import kept_training_state
from guardrail.errors import InputError
from guardrail.ledger.file import Ledger
from guardrail.models.rounding import coarser, one_rounding_more
from guardrail.trainers.kl_only.samples import KlOnly, Probe

__all__ = ["kl_self_test"]

_BEYOND_NOISE = 10.0
"""What lies this many times beyond the measured noise is no noise."""
_SEEN_ANYWAY = 1.0
"""Nats a token that no rounding explains where they also lie beyond the tolerance: where rounding itself moves the
KL far, as by tipping a router in half precision, a multiple of its multiple may lie beyond what a KL can be."""
_NOISE_DRAWS = 3
_SMALLEST_PERTURBATION = 1e-3
"""Of the perturbed weights' own size; grown until the KL sees it, so that it stays as small as it can."""
_PERTURBATIONS = 12
_PERTURBED = 6
"""How many of the last trained weights are moved."""
_LARGEST_PERTURBED = 1 << 26
"""Output layers have half a billion elements, and copies of them in float32 do not fit everywhere."""


def kl_self_test(
    injection: KlOnly,
    model: torch.nn.Module,
    ledger: Ledger,
    *,
    dtype: torch.dtype,
    anchors_dtype: torch.dtype,
    start_is_kl_reference: bool,
) -> None:
    """Write to the ledger the KL a token of the model as it is, under more rounding, and perturbed.

    The weights are put back. Where the start model is the KL reference the anchors' stored log-probabilities
    must agree with the trainer's forwards too, within what rounding explains in the coarser of the two
    precisions.

    Args:
        injection: The KL-only samples, joined to the trainer.
        model: The trainer's, unwrapped.
        ledger: The run's.
        dtype: Precision of the trainer's forwards.
        anchors_dtype: Precision the anchors were made in.
        start_is_kl_reference: Whether both have the same weights, by their hashes.

    Raises:
        InputError: the KL of the model to itself is beyond noise, a perturbation is not seen, or the
            stored log-probabilities are off beyond noise.
    """
    with kept_training_state(model):
        probes = injection.probes(model)
        found = [_tested(probe, model, dtype, zero=start_is_kl_reference) for probe in probes]
        stored = injection.stored_kl(model) if start_is_kl_reference else None
        rounding = found[-1].noise
        if stored is not None and coarser(dtype, anchors_dtype) != dtype:
            rounding = _noise(probes[-1].measure, model, anchors_dtype)
    at_start, known, noise, perturbed = max(found, key=lambda one: one.off)
    tolerance = _BEYOND_NOISE * noise
    ledger.append(
        "kl_self_test",
        0,
        at_start=_finite(at_start),
        perturbed=_finite(perturbed),
        tolerance=_finite(tolerance),
        noise=_finite(noise),
        stored=_finite(stored),
        stored_noise=None if stored is None else _finite(rounding),
        dtype=str(dtype).removeprefix("torch."),
        anchors_dtype=str(anchors_dtype).removeprefix("torch."),
    )
    if not abs(at_start - known) <= tolerance:
        raise InputError(
            f"KL self-test: the KL of the start model, {known:.2g} nats a token, is {at_start:.2e} through the "
            f"trainer's loss, where rounding explains {noise:.2e}; the trainer's forwards are not the model's "
            "own. Look for what changes them in training: a wrapped forward, positions, noise or dropout"
        )
    if not 0 < tolerance < perturbed or perturbed < min(_BEYOND_NOISE * tolerance, _SEEN_ANYWAY):
        raise InputError(
            f"KL self-test: perturbing the weights moved the KL by {perturbed:.2e} nats a token only, and rounding "
            f"moves it by {noise:.2e}; the KL term does not see this model, or its reference follows the policy"
        )
    if stored is not None and not abs(stored) <= _BEYOND_NOISE * max(rounding, noise):
        raise InputError(
            f"KL self-test: the stored log-probabilities of the KL reference are {stored:.2e} nats a token from "
            f"the trainer's forwards, where rounding explains {rounding:.2e}, although the weights are the "
            "same; what differs is how they are computed: attention implementation, positions, adapter or "
            "library versions. Run `guardrail anchor RECIPE --rebuild` with the versions that train"
        )


def _finite(value: float | None) -> float | None:
    """A NaN is never 0: the ledger has none for it."""
    return value if value is not None and math.isfinite(value) else None


class _Found(NamedTuple):
    at_start: float
    known: float
    """What it must be: 0 against the model itself."""
    noise: float
    perturbed: float
    """How far the perturbation moved it."""

    @property
    def off(self) -> float:
        """How much farther from what it must be than noise explains; of several forms the worst counts."""
        return abs(self.at_start - self.known) - _BEYOND_NOISE * self.noise


def _tested(probe: Probe, model: torch.nn.Module, dtype: torch.dtype, *, zero: bool) -> _Found:
    """One form tested; `zero` says that its reference, where it is a model, has the start model's weights."""
    known = 0.0 if probe.pinned or zero else probe.measure()

    def away() -> float:
        return abs(probe.measure() - known)

    noise = _noise(away, model, dtype)
    moved = _perturbed(away, model, beyond=_BEYOND_NOISE**2 * noise)
    model.train(probe.calm_in_training)
    try:
        return _Found(probe.measure(), known, noise, moved)
    finally:
        model.eval()


def _noise(measure: Callable[[], float], model: torch.nn.Module, dtype: torch.dtype) -> float:
    """The largest KL that one rounding more in every module makes."""
    seen = []
    for seed in range(_NOISE_DRAWS):
        with one_rounding_more(model, dtype, seed):
            seen.append(abs(measure()))
    return max(seen)


def _perturbed(measure: Callable[[], float], model: torch.nn.Module, *, beyond: float) -> float:
    """The KL under the smallest perturbation of trained weights that lies beyond something, or the largest tried.

    Frozen weights would move the reference too where that is the model itself. Several are moved together, for
    one matrix of a new LoRA adapter is all zeros and moving the other alone changes nothing.
    """
    trained = [p for p in model.parameters() if p.is_floating_point() and p.requires_grad]
    small = [p for p in trained if p.numel() <= _LARGEST_PERTURBED]
    weights = (small or trained)[-_PERTURBED:]
    saved = [weight.detach().clone() for weight in weights]
    generator = torch.Generator().manual_seed(0)
    moves = [_size(w) * torch.randn(w.shape, generator=generator).to(w.device) for w in weights]
    seen = 0.0
    try:
        for scale in (_SMALLEST_PERTURBATION * 4.0**k for k in range(_PERTURBATIONS)):
            for weight, before, move in zip(weights, saved, moves, strict=True):
                weight.copy_((before.float() + scale * move).to(weight.dtype))
            seen = measure()
            if not seen < beyond:
                break
    finally:
        for weight, before in zip(weights, saved, strict=True):
            weight.copy_(before)
    return seen


def _size(weight: torch.Tensor) -> float:
    """Root mean square of a weight, or that of a common start where it is all zeros."""
    return float(weight.detach().float().square().mean().sqrt()) or 0.02
