"""Teacher forcing: what a model predicts at each token of given answers."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

__all__ = ["gold_logits"]


def gold_logits(
    model: Any,
    prompts: Sequence[Sequence[int]],
    golds: Sequence[Sequence[int]],
    *,
    pad_id: int,
    batch_size: int,
) -> Iterator[torch.Tensor]:
    """Yield, for each row, the logits that predict its gold tokens, shape (gold tokens, vocabulary).

    The model is called with `input_ids` and `attention_mask` alone, which gives logits in every
    supported trainer. Gradients flow unless the caller turned them off.

    Args:
        model: A causal language model, wrapped or not.
        prompts: Prompt token ids of each row.
        golds: Answer token ids of each row, at least one each.
        pad_id: Padding token id.
        batch_size: Rows a forward.
    """
    device = next(model.parameters()).device
    for start in range(0, len(prompts), batch_size):
        rows = [
            (list(p), list(g))
            for p, g in zip(
                prompts[start : start + batch_size], golds[start : start + batch_size], strict=True
            )
        ]
        width = max(len(p) + len(g) for p, g in rows)
        ids = torch.full((len(rows), width), pad_id)
        mask = torch.zeros_like(ids)
        for number, (prompt, gold) in enumerate(rows):
            ids[number, : len(prompt) + len(gold)] = torch.tensor(prompt + gold)
            mask[number, : len(prompt) + len(gold)] = 1
        logits = model(
            input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False
        ).logits
        for number, (prompt, gold) in enumerate(rows):
            yield logits[number, len(prompt) - 1 : len(prompt) + len(gold) - 1]
