"""Does the vLLM that writes rollouts have the weights in training? It writes a few texts, and both score them.

The engine writes at temperature 1 and gives the log-probability of every token it took: each can, a server and one with
LoRA too, on the very way that its answers come. The weights here score the same tokens. With stale weights the two differ
by as much as training has moved them, which is what a look would not see; where no other weights are known, as soon as that
is five times what rounding explains.

At the start the training has moved nothing yet. So a part of one parameter of every kind is changed, handed over, and put
back: the engine must write with the changed weights, then again with those before. A kind that stays behind shows too, as
the output layer does that a vLLM for CPUs packs once.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from guardrail.anchors.decoding import Decoding
from guardrail.engines.in_process import InProcessEngine
from guardrail.engines.proof import LogProbs, Proof, compare
from guardrail.engines.which_weights import logprobs_here, with_more_rounding
from guardrail.errors import InputError

__all__ = ["Written", "prove_handover", "prove_now"]

_SCORED = Decoding(mode="sampled", temperature=1.0, top_p=1.0, top_k=0, max_new_tokens=32)
"""As the weights say: no token is left out, and none made likelier than it is."""
_FAR = 40.0
"""Times the noise that changed weights lie away: so far that one kind of a dozen that stays behind is no noise."""
_SIZES = [1e-3 * 4.0**power for power in range(12)]
"""Of the change, times the parameter's own size where it has any; the first that goes far enough is taken."""
_COLUMNS = 64
"""Of a matrix that are changed, so that what is kept of it is small."""


@dataclass(frozen=True, slots=True)
class Written:
    """One text by a trainer's vLLM: its token ids, the one that ended it among them, and their log-probabilities."""

    token_ids: list[int]
    logprobs: list[float]
    """In nats, among the tokens that the decoding left; NaN where it gave none."""


Write = Callable[[Sequence[list[int]], Decoding], list[Written]]


def prove_now(
    write: Write, local: InProcessEngine, prompts: Sequence[list[int]], dtype: torch.dtype
) -> Proof:
    """Return how well a vLLM's own log-probabilities of what it writes agree with those of the weights here.

    Where an adapter is trained, the other weights are those without it, which a vLLM that never got it would have.

    Args:
        write: Hands over the weights and lets it write.
        local: The weights in training.
        prompts: Token ids of what it answers, the same on every rank.
        dtype: The coarser precision of the two.
    """
    texts = write(prompts, _SCORED)
    others = None
    if isinstance(local.model, PeftModel):
        with local.model.disable_adapter():
            others = _scored(local, prompts, texts)
    return _compared(local, prompts, texts, dtype, others)


def prove_handover(
    write: Write, local: InProcessEngine, prompts: Sequence[list[int]], dtype: torch.dtype
) -> tuple[Proof, Proof]:
    """Return two proofs: with one parameter changed, and with the weights as they were again.

    In each the other weights are those of the other. The weights are left bit for bit as they were.
    """
    change = _change(local, prompts, dtype)
    with change.made():
        first = write(prompts, _SCORED)
        noisy = with_more_rounding(local, prompts, _ids(first), dtype)
        here = _scored(local, prompts, first)
    before = _scored(local, prompts, first)
    changed = compare(_asked(first), here, noisy, before)
    second = write(prompts, _SCORED)
    with change.made():
        others = _scored(local, prompts, second)
    return changed, _compared(local, prompts, second, dtype, others)


def _compared(
    local: InProcessEngine,
    prompts: Sequence[list[int]],
    texts: Sequence[Written],
    dtype: torch.dtype,
    others: LogProbs | None,
) -> Proof:
    noisy = with_more_rounding(local, prompts, _ids(texts), dtype)
    return compare(_asked(texts), _scored(local, prompts, texts), noisy, others)


def _ids(texts: Sequence[Written]) -> list[list[int]]:
    return [text.token_ids for text in texts]


def _asked(texts: Sequence[Written]) -> LogProbs:
    return [np.array(text.logprobs, np.float64) for text in texts]


def _scored(
    local: InProcessEngine, prompts: Sequence[list[int]], texts: Sequence[Written]
) -> LogProbs:
    return logprobs_here(local, prompts, _ids(texts))


@dataclass(frozen=True, slots=True)
class _Change:
    """Some columns of some parameters as they are, and as they are made for the body."""

    local: InProcessEngine
    parameters: list[Tensor]
    to: list[Tensor]
    below: list[Tensor]
    """Weights under an adapter, which a handover merges into them and takes out again, less what is rounded away."""

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        kept = [_columns(p).clone() for p in self.parameters]
        below = [weight.data.cpu() for weight in self.below]
        self._put(self.to)
        try:
            yield
        finally:
            self._put(kept)
            for weight, value in zip(self.below, below, strict=True):
                weight.data.copy_(value)

    def _put(self, values: list[Tensor]) -> None:
        if not hasattr(self.parameters[0], "ds_id"):
            _write(self.parameters, values)
            return
        import deepspeed

        # ZeRO-3 throws away what is written into a parameter that was put together for reading.
        gathered = deepspeed.zero.GatheredParameters(self.parameters, modifier_rank=0)
        with self.local.apart(), gathered:
            _write(self.parameters, values)


def _columns(parameter: Tensor) -> Tensor:
    return parameter.data[..., :_COLUMNS]


def _write(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        _columns(parameter).copy_(value)


def _change(local: InProcessEngine, prompts: Sequence[list[int]], dtype: torch.dtype) -> _Change:
    """The smallest change of the trained parameters, one of every kind, that shows far beyond the noise.

    Every rank finds the same, since weights and prompts are the same there.
    """
    parts = _one_of_every_kind(local.model)
    parameters = list(parts.values())
    heads, tails = [prompt[:1] for prompt in prompts], [prompt[1:] for prompt in prompts]
    here = logprobs_here(local, heads, tails)
    noise = max(_apart(one, here) for one in with_more_rounding(local, heads, tails, dtype))
    kept = [_columns(p).clone() for p in parameters]
    generator = torch.Generator().manual_seed(0)
    ways = [
        (float(one.float().square().mean().sqrt()) or 1.0)
        * torch.randn(one.shape, generator=generator).to(one)
        for one in kept
    ]
    for size in _SIZES:
        to = [one + size * way for one, way in zip(kept, ways, strict=True)]
        _write(parameters, to)
        moved = _apart(logprobs_here(local, heads, tails), here)
        _write(parameters, kept)
        if moved >= _FAR * noise:
            return _Change(local, parameters, to, _below(local.model, parts))
    raise InputError(
        f"no change of {', '.join(parts)} shows in the model's log-probabilities ({moved:.2g} nats a token, rounding {noise:.2g}), "
        "so whether the trainer's vLLM takes new weights cannot be asked; train other parameters, or set `use_vllm` to false"
    )


def _one_of_every_kind(model: Any) -> dict[str, Tensor]:
    """Name → the last trained parameter of those whose names differ by the number of their layer or expert alone."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not trained:
        raise InputError("the trainer trains no parameter; leave the guard away")
    return dict({re.sub(r"\d+", "#", name): (name, p) for name, p in trained}.values())


def _below(model: Any, parts: dict[str, Tensor]) -> list[Tensor]:
    layers = {name.split(".lora_")[0] for name in parts if ".lora_" in name}
    found = [getattr(model.get_submodule(layer), "base_layer", None) for layer in layers]
    weights = [weight for layer in found if (weight := getattr(layer, "weight", None)) is not None]
    return [w for w in weights if w.is_floating_point() and not hasattr(w, "ds_id")]


def _apart(first: LogProbs, second: LogProbs) -> float:
    difference = np.concatenate(first) - np.concatenate(second)
    return float(np.sqrt(np.mean(np.square(difference))))
