"""KL-only samples: their micro-batches, and the KL of each of their tokens under the current policy, not yet weighed."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from guardrail.anchors.store import TopK, as_stored
from guardrail.kl.divergence import Direction, forward_kl_topk, full_kl, reference_topk
from guardrail.models.teacher_forcing import answer_logits, micro_batches, undisturbed, vocabulary

__all__ = [
    "Reference",
    "RehearsalSample",
    "pinned",
    "rehearsal_samples",
    "sample_logits",
    "token_losses",
]

_PIECE = 256
"""Tokens whose loss is computed at a time: 160 MB of float32 for a vocabulary of 152,000."""


@dataclass(frozen=True, slots=True)
class RehearsalSample:
    """A rehearsal prompt, the gold's tokens and where the reference distribution at each of them lies."""

    item: str
    prompt: tuple[int, ...]
    gold: tuple[int, ...]
    stored: Mapping[str, TopK]
    """By item id; read when it is used."""

    @property
    def reference(self) -> TopK:
        """The reference's distribution at each gold token."""
        return self.stored[self.item]

    @property
    def lengths(self) -> tuple[int, int]:
        """Prompt and gold tokens."""
        return len(self.prompt), len(self.gold)


Reference = Callable[[Any, Sequence[RehearsalSample]], list[Tensor]]
"""(policy, samples) → the reference's logits at every gold token of each sample, without gradient."""


def rehearsal_samples(
    prompts: Mapping[str, Sequence[int]],
    golds: Mapping[str, Sequence[int]],
    topk: Mapping[str, TopK],
) -> dict[str, RehearsalSample]:
    """Return the samples by item id; nothing of `topk` is read yet.

    Raises:
        ValueError: an item has no stored distribution.
    """
    for item in prompts:
        if item not in topk:
            raise ValueError(
                f"rehearsal item `{item}` has no stored log-probabilities; rebuild the anchors"
            )
    return {
        item: RehearsalSample(item, tuple(prompt), tuple(golds[item]), topk)
        for item, prompt in prompts.items()
    }


def sample_logits(model: Any, samples: Sequence[RehearsalSample], pad_id: int) -> list[Tensor]:
    """Return a model's logits at the gold tokens of each sample, (tokens, vocabulary); one forward for all."""
    prompts, golds = [s.prompt for s in samples], [s.gold for s in samples]
    return answer_logits(model, prompts, golds, pad_id=pad_id)


def pinned(model: Any, samples: Sequence[RehearsalSample], pad_id: int) -> list[RehearsalSample]:
    """Return the samples with a model's own log-probabilities of now, as they would be stored."""
    fresh = {}
    for sample, logits in zip(samples, sample_logits(model, samples, pad_id), strict=True):
        k = sample.reference.ids.shape[-1]
        ids, logprobs, tail = (
            part.cpu().numpy() for part in reference_topk(logits.detach().float(), k)
        )
        fresh[sample.item] = as_stored(TopK(ids.astype(np.int32), logprobs, tail))
    return [replace(sample, stored=fresh) for sample in samples]


def token_losses(
    model: Any,
    samples: Sequence[RehearsalSample],
    *,
    pad_id: int,
    loss: str = "kl",
    direction: Direction = "forward",
    reference: Reference | None = None,
    batches: Sequence[Sequence[int]] | None = None,
) -> list[Tensor]:
    """Return each sample's loss per gold token, in nats, with gradient.

    Where there are several micro-batches, each is computed again in the backward pass, so that the
    activations and logits of one live at a time; left alone, all their graphs would live until the backward.

    Args:
        model: The policy, wrapped or not. Its dropout and other noise are lifted.
        samples: At least one.
        pad_id: Padding token id.
        loss: `kl` to the reference, `ce` for cross-entropy on the gold.
        direction: Of the KL; `reverse` needs `reference`.
        reference: Gives the reference's full logits, asked once a forward; by default the stored top-k
            stand for them.
        batches: Which samples share a forward; by default as many as `BUDGET` allows.
    """
    if batches is None:
        batches = micro_batches([s.lengths for s in samples], vocabulary(model))
    losses: list[Tensor] = [torch.empty(0)] * len(samples)
    for batch in batches:
        chosen = [samples[i] for i in batch]
        run: Callable[[], Tensor] = functools.partial(
            _losses_of_one_forward, model, chosen, pad_id, loss, direction, reference
        )
        again = len(batches) > 1 and torch.is_grad_enabled()
        flat = checkpoint(run, use_reentrant=False) if again else run()
        for i, part in zip(batch, torch.split(flat, [len(s.gold) for s in chosen]), strict=True):
            losses[i] = part
    return losses


def _losses_of_one_forward(
    model: Any,
    samples: Sequence[RehearsalSample],
    pad_id: int,
    loss: str,
    direction: Direction,
    reference: Reference | None,
) -> Tensor:
    """The losses of all gold tokens of the samples, one sample after the other.

    They are computed in pieces of tokens, each again in the backward pass, so that no float32 copy of all
    logits is kept.
    """
    wholes = None if reference is None or loss == "ce" else reference(model, samples)
    with undisturbed(model):
        rows = sample_logits(model, samples, pad_id)
    pieces = []
    for number, (logits, sample) in enumerate(zip(rows, samples, strict=True)):
        whole = None if wholes is None else wholes[number]
        for start in range(0, len(sample.gold), _PIECE):
            here = slice(start, start + _PIECE)
            part = None if whole is None else whole[here]
            pieces.append(
                checkpoint(
                    _piece_losses, logits[here], sample, here, loss, direction, part,
                    use_reentrant=False,
                )
            )  # fmt: skip
    return torch.cat(pieces)


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
    stored = sample.reference
    return forward_kl_topk(
        logits,
        torch.from_numpy(stored.ids[here]).long().to(device),
        torch.from_numpy(stored.logprobs[here]).to(device),
        torch.from_numpy(stored.tail[here]).to(device),
    )
