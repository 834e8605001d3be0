"""How much a model's numbers move for reasons that are not its weights: rounding, measured on the model itself.

The same weights give other logits in another precision, batch shape or kernel, since every operation rounds.
Here each module's output is moved by one rounding more, at random, and whatever is measured is measured
again. What changes is the size of that noise on this model, on these inputs; no constant knows it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

__all__ = ["coarser", "forward_dtype", "one_rounding_more"]


def forward_dtype(model: torch.nn.Module, mixed_precision: str = "no") -> torch.dtype:
    """Return the precision a model's forwards compute in.

    Autocast's where the trainer uses it, else that of most weights: fp32 adapters on bf16 weights, and norms
    kept in fp32, do not count. Quantised weights compute in the precision their configuration names.

    Args:
        model: Unwrapped.
        mixed_precision: Accelerate's word for it: `no`, `bf16`, `fp16`, `fp8`.
    """
    autocast = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
    if mixed_precision in autocast:
        return autocast[mixed_precision]
    for module in model.modules():
        if (computes := getattr(module, "compute_dtype", None)) is not None:
            return torch.float32 if not isinstance(computes, torch.dtype) else computes
    counts: dict[torch.dtype, int] = {}
    for parameter in model.parameters():
        if parameter.is_floating_point():
            # ZeRO-3 leaves nothing of a parameter in place but its size.
            size = getattr(parameter, "ds_numel", parameter.numel())
            counts[parameter.dtype] = counts.get(parameter.dtype, 0) + size
    return max(counts, key=lambda dtype: counts[dtype])


def coarser(first: torch.dtype, second: torch.dtype) -> torch.dtype:
    """Return which of two precisions rounds more."""
    return max(first, second, key=lambda dtype: torch.finfo(dtype).eps)


@contextlib.contextmanager
def one_rounding_more(model: torch.nn.Module, dtype: torch.dtype, seed: int) -> Iterator[None]:
    """Move the output of every module that has weights by up to one rounding of `dtype` for the body.

    Each element is multiplied by 1 + u with u uniform within half of `torch.finfo(dtype).eps`, the most a
    rounding to nearest moves a number. The weights are not touched, and the random states are left alone.
    """
    generators: dict[torch.device, torch.Generator] = {}
    eps = torch.finfo(dtype).eps

    def moved(output: Tensor) -> Tensor:
        if output.device not in generators:
            generators[output.device] = torch.Generator(output.device).manual_seed(seed)
        wide = output if output.dtype == torch.float64 else output.float()
        noise = torch.rand(
            wide.shape, generator=generators[output.device], device=wide.device, dtype=wide.dtype
        )
        return (wide * (1 + eps * (noise - 0.5))).to(output.dtype)

    def hook(module: torch.nn.Module, given: Any, output: Any) -> Any:
        if isinstance(output, Tensor) and output.is_floating_point():
            return moved(output)
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
            first = moved(output[0]) if output[0].is_floating_point() else output[0]
            return (first, *output[1:])
        return output

    weighted = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    handles = [module.register_forward_hook(hook) for module in weighted]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
