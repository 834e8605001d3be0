"""KL-only samples: their batches and the sum of their KL under the current policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guardrail.anchors.store import TopK
from guardrail.kl.forward import gold_logits
from guardrail.kl.loss import forward_kl_topk

__all__ = ["RehearsalSample", "rehearsal_samples", "token_losses"]


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


def token_losses(
    model: Any, samples: Sequence[RehearsalSample], *, pad_id: int, loss: str = "kl"
) -> list[Tensor]:
    """Return each sample's loss per gold token, in nats, with gradient; one forward for all.

    Args:
        model: The policy, wrapped or not.
        samples: At least one.
        pad_id: Padding token id.
        loss: `kl` for KL(reference || policy), `ce` for cross-entropy on the gold.
    """
    rows = gold_logits(
        model,
        [sample.prompt for sample in samples],
        [sample.gold for sample in samples],
        pad_id=pad_id,
        batch_size=len(samples),
    )
    losses = []
    for logits, sample in zip(rows, samples, strict=True):
        device = logits.device
        if loss == "ce":
            gold = torch.tensor(sample.gold, device=device)
            losses.append(torch.nn.functional.cross_entropy(logits.float(), gold, reduction="none"))
        else:
            losses.append(
                forward_kl_topk(
                    logits,
                    sample.ids.to(device),
                    sample.logprobs.to(device),
                    sample.tail.to(device),
                )
            )
    return losses
