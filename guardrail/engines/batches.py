"""Which prompts are answered together: as many as memory holds and the device is fast with, long prompts apart."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from typing_extensions import Self

from guardrail.models.teacher_forcing import vocabulary

__all__ = ["Room", "batches", "room_for", "rows_at_once"]

_GIB = 2**30
_CPU_ROWS, _CUDA_ROWS = 128, 512
"""A CPU computes from some 64 rows on, and more cost as much as they bring; a GPU waits for more."""
_CPU_PADDING, _CUDA_PADDING = 2048, 32_768
"""A padded token is read at every step, and a further batch costs its steps: here about the same."""
_LOGITS_BYTES = 32
"""Of a logit while a token is chosen: float32, scores, probabilities, their sums and a sort."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a batch may hold at most, and what its tokens and rows take of it."""

    rows: int
    padding: int
    """Padded tokens of all its rows."""
    memory_bytes: int
    token_bytes: int
    """Keys and values of a token."""
    row_bytes: int
    """A row without its prompt: keys and values of the longest answer, and logits."""

    def halved(self, rows: int) -> Self:
        """Return room for half of so many rows, which did not fit."""
        return replace(self, rows=rows // 2)


def rows_at_once(model: Any, most_rows: int | None) -> int:
    """Return how many prompts it pays to ask at once, whatever memory then makes of them.

    Args:
        model: Whose device answers.
        most_rows: The recipe's bound, None where it leaves it to the device.
    """
    return most_rows or (_CUDA_ROWS if next(model.parameters()).is_cuda else _CPU_ROWS)


def room_for(
    model: Any, options: Mapping[str, Any], new_tokens: int, most_rows: int | None
) -> Room:
    """Return the room of a batch: half of what is free on a GPU now, a quarter of the machine's memory else.

    What is free is rounded down to whole GiB, so that a run which goes on finds the same batches; this is not promised.

    Args:
        model: Asked for one token, to see what its cache takes; without gradients, by the caller.
        options: What its forward is given besides tokens and cache.
        new_tokens: Of the longest answer.
        most_rows: The recipe's bound, None where it leaves it to the device.
    """
    device = next(model.parameters()).device
    cache = DynamicCache(config=model.config.get_text_config())
    one = torch.zeros(1, 1, dtype=torch.long, device=device)
    model(input_ids=one, past_key_values=cache, **options)
    kept = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    token_bytes = sum(
        t.nbytes for layer in kept for t in (layer.keys, layer.values) if t is not None
    )
    memory, padding = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4, _CPU_PADDING
    if device.type == "cuda":
        memory, padding = _free_bytes(device) // 2, _CUDA_PADDING
        memory = memory // _GIB * _GIB or memory
    return Room(
        rows_at_once(model, most_rows),
        padding,
        memory,
        token_bytes,
        new_tokens * token_bytes + _LOGITS_BYTES * vocabulary(model),
    )


def _free_bytes(device: torch.device) -> int:
    """What the device has free, and what torch holds of it without using it."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + held


def batches(lengths: Sequence[int], room: Room) -> list[list[int]]:
    """Return which prompts of these lengths go into one batch together; a pure function.

    Prompts stand by length. One alone is a batch even where it does not fit.
    """
    found: list[list[int]] = []
    padding = 0
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        batch = found[-1] if found else []
        padding += len(batch) * (lengths[i] - lengths[batch[-1]]) if batch else 0
        memory = (len(batch) + 1) * (lengths[i] * room.token_bytes + room.row_bytes)
        fits = padding <= room.padding and memory <= room.memory_bytes
        if batch and len(batch) < room.rows and fits:
            batch.append(i)
        else:
            found.append([i])
            padding = 0
    return found
