"""KL-only samples: their batches and the sum of their KL under the current policy."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from guardrail.anchors.store import TopK
from guardrail.kl.forward import gold_logits
from guardrail.kl.loss import Direction, forward_kl_topk, full_kl

__all__ = ["RehearsalSample", "rehearsal_samples", "sample_logits", "token_losses"]

_PIECE = 256
"""Tokens whose loss is computed at a time: 160 MB of float32 for a vocabulary of 152,000."""


@dataclass(frozen=True, slots=True)
class RehearsalSample:
    """A rehearsal prompt, the gold's tokens and the reference distribution at each of them."""

    item: str
    prompt: tuple[int, ...]
    gold: tuple[int, ...]
    ids: Tensor
    logprobs: Tensor
    tail: Tensor


def rehearsal_samples(
    prompts: Mapping[str, Sequence[int]],
    golds: Mapping[str, Sequence[int]],
    topk: Mapping[str, TopK],
) -> dict[str, RehearsalSample]:
    """Return the samples by item id; tensors stay on the CPU.

    Raises:
        ValueError: an item has no stored distribution, or one of another length than its gold.
    """
    samples = {}
    for item, prompt in prompts.items():
        if item not in topk:
            raise ValueError(
                f"rehearsal item `{item}` has no stored log-probabilities; rebuild the anchors"
            )
        entry = topk[item]
        if len(entry.tail) != len(golds[item]):
            raise ValueError(
                f"rehearsal item `{item}`: {len(entry.tail)} stored positions for {len(golds[item])} "
                "gold tokens; rebuild the anchors"
            )
        samples[item] = RehearsalSample(
            item,
            tuple(prompt),
            tuple(golds[item]),
            torch.from_numpy(entry.ids).long(),
            torch.from_numpy(entry.logprobs),
            torch.from_numpy(entry.tail),
        )
    return samples


def sample_logits(model: Any, samples: Sequence[RehearsalSample], pad_id: int) -> Iterator[Tensor]:
    """Yield a model's logits at the gold tokens of each sample, (tokens, vocabulary); one forward for all."""
    return gold_logits(
        model,
        [sample.prompt for sample in samples],
        [sample.gold for sample in samples],
        pad_id=pad_id,
        batch_size=len(samples),
    )


def token_losses(
    model: Any,
    samples: Sequence[RehearsalSample],
    *,
    pad_id: int,
    loss: str = "kl",
    direction: Direction = "forward",
    reference: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Return each sample's loss per gold token, in nats, with gradient; one forward for all.

    The losses are computed in pieces of tokens and computed again in the backward pass, so that no
    float32 copy of all logits is kept.

    Args:
        model: The policy, wrapped or not.
        samples: At least one.
        pad_id: Padding token id.
        loss: `kl` to the reference, `ce` for cross-entropy on the gold.
        direction: Of the KL; `reverse` needs `reference`.
        reference: The reference's logits at every gold token of each sample, (tokens, vocabulary); by default
            the stored top-k stand for them.
    """
    rows = sample_logits(model, samples, pad_id)
    losses = []
    for number, (logits, sample) in enumerate(zip(rows, samples, strict=True)):
        pieces = []
        for start in range(0, len(sample.gold), _PIECE):
            here = slice(start, start + _PIECE)
            whole = None if reference is None else reference[number][here]
            pieces.append(
                checkpoint(
                    _piece_losses, logits[here], sample, here, loss, direction, whole,
                    use_reentrant=False,
                )
            )  # fmt: skip
        losses.append(torch.cat(pieces))
    return losses


def _piece_losses(
    logits: Tensor,
    sample: RehearsalSample,
    here: slice,
    loss: str,
    direction: Direction,
    reference: Tensor | None,
) -> Tensor:
    device = logits.device
    if loss == "ce":
        gold = torch.tensor(sample.gold[here], device=device)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return torch.nn.functional.cross_entropy(wide, gold, reduction="none")
    if reference is not None:
        return full_kl(logits, reference.to(device), direction)
    return forward_kl_topk(
        logits,
        sample.ids[here].to(device),
        sample.logprobs[here].to(device),
        sample.tail[here].to(device),
    )
