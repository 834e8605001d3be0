"""Answers token by token: the prompts of a batch read at once, then a step a token for the rows not yet ended.

Rows whose answers end leave the batch, which transformers' `generate` keeps to the end of the longest. Each answer's
draws come from the seed and its own prompt, so neither batch nor rank has a say in them.
docs/decisions/0009-decoding-of-our-own.md tells why it is no library's.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, distributed
from transformers import (
    DynamicCache,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from guardrail.anchors.decoding import Decoding
from guardrail.engines.batches import batches, room_for
from guardrail.models.teacher_forcing import takes

__all__ = ["GenerationStopped", "answer_tokens"]

logger = logging.getLogger(__name__)

_READ_AT_ONCE = 8192
"""Prompt tokens of all rows in one forward, whose activations would else outgrow the cache."""
_TOLD_EVERY_S = 60
_LEAVE_AT = 1 / 8
"""Share of a batch that has ended before its rows leave: leaving copies the cache, as every step does."""


class GenerationStopped(RuntimeError):
    """The caller asked for an end before every prompt was answered."""


def answer_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    stops: Collection[int],
    *,
    seed: int,
    most_rows: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[list[int]]:
    """Return each prompt's new tokens, up to and with the first of `stops`.

    The same weights, prompt and seed give the same answer on one device. Another batch may change the last bits
    of the logits, as another device does, and with them a token that was nearly as likely as another. Out of memory the
    batch is cut in two and done anew: no rank waits for another in here, since the model is whole.

    Args:
        model: A causal language model, unwrapped, in eval mode.
        prompts: Token ids, at least one each.
        decoding: Greedy or sampled, and the length limit.
        stops: Token ids that end an answer.
        seed: Of the draws.
        most_rows: Prompts a batch at most; by default as many as memory holds and the device is fast with.
        stop: Asked at every token whether to end at once.

    Every minute the log says how far the answers are, on one rank.

    Raises:
        GenerationStopped: `stop` said so.
        torch.OutOfMemoryError: one prompt alone does not fit.
    """
    # An adapter's layers lie in the base model, whose forward `generate` calls too.
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    options: dict[str, Any] = {"use_cache": True}
    if takes(inner, "output_router_logits"):
        options["output_router_logits"] = False  # the router's loss wants whole sequences
    if takes(inner, "logits_to_keep"):
        options["logits_to_keep"] = 1
    room = room_for(inner, options, decoding.max_new_tokens, most_rows)
    found: dict[int, list[int]] = {}
    alike = _counted(prompts)
    told = time.monotonic()

    def ends(token: int, ended: int) -> bool:
        nonlocal told
        if time.monotonic() - told >= _TOLD_EVERY_S:
            told = time.monotonic()
            _tell(len(found) + ended, len(prompts), token, decoding.max_new_tokens)
        return stop()

    while len(found) < len(prompts):
        left = [i for i in range(len(prompts)) if i not in found]
        try:
            for batch in batches([len(prompts[i]) for i in left], room):
                rows = [left[k] for k in batch]
                asked = [prompts[i] for i in rows]
                draws = None
                if decoding.mode == "sampled":
                    draws = _draws(asked, [alike[i] for i in rows], decoding, seed)
                answers = _answer_batch(inner, options, asked, decoding, stops, draws, ends)
                if answers is None:
                    raise GenerationStopped(f"{len(prompts) - len(found)} prompts are left")
                found.update(zip(rows, answers, strict=True))
            continue
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
        room = room.halved(len(rows))
        logger.warning(f"out of memory; answering goes on with {room.rows} prompts a batch")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return [found[i] for i in range(len(prompts))]


def _tell(answered: int, prompts: int, token: int, most: int) -> None:
    if not distributed.is_initialized() or distributed.get_rank() == 0:
        logger.warning(
            f"answering: {answered} of {prompts} prompts are answered, others are at token {token} of {most} at most"
        )


def _counted(prompts: Sequence[Sequence[int]]) -> list[int]:
    """How many of the same tokens stand before each prompt, so that those alike share no noise."""
    seen: Counter[tuple[int, ...]] = Counter()
    counts = []
    for prompt in map(tuple, prompts):
        counts.append(seen[prompt])
        seen[prompt] += 1
    return counts


def _draws(
    prompts: Sequence[Sequence[int]], alike: Sequence[int], decoding: Decoding, seed: int
) -> Tensor:
    """Numbers in [0, 1), one a token of each answer; those of a prompt are its own."""
    most = decoding.max_new_tokens
    rows = [
        np.random.default_rng([seed, *prompt]).random((count + 1, most), dtype=np.float32)[count]
        for prompt, count in zip(prompts, alike, strict=True)
    ]
    return torch.from_numpy(np.stack(rows))


def _answer_batch(
    model: Any,
    options: dict[str, Any],
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    stops: Collection[int],
    draws: Tensor | None,
    ends: Callable[[int, int], bool],
) -> list[list[int]] | None:
    """The new tokens of prompts that share a cache, None where `ends` says so of a token and how many have ended."""
    device = next(model.parameters()).device
    cache = DynamicCache(config=model.config.get_text_config())
    width = max(map(len, prompts))
    # Padded on the left with the prompt's own first token, which a repetition penalty may count twice.
    ids = torch.tensor([[p[0]] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    draws = None if draws is None else draws.to(device)
    read = ids
    answers: list[list[int]] = [[] for _ in prompts]
    rows, ended = list(range(len(prompts))), set[int]()
    for at in range(decoding.max_new_tokens):
        logits = _read(model, options, read, mask, places, cache)
        if ends(at, len(ended)):
            return None
        tokens = _choose(ids, logits, decoding, None if draws is None else draws[:, at])
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row not in ended:
                answers[row].append(token)
                if token in stops:
                    ended.add(row)
        if len(ended) == len(prompts):
            break
        live = [k for k, row in enumerate(rows) if row not in ended]
        if len(rows) - len(live) >= _LEAVE_AT * len(rows):
            kept = torch.tensor(live, device=device)
            cache.reorder_cache(kept)
            ids, mask, places, tokens = ids[kept], mask[kept], places[kept], tokens[kept]
            draws = None if draws is None else draws[kept]
            rows = [rows[k] for k in live]
        read = tokens[:, None]
        ids = torch.cat([ids, read], 1)
        mask = torch.cat([mask, torch.ones_like(read)], 1)
        places = places[:, -1:] + 1
    return answers


def _read(
    model: Any,
    options: dict[str, Any],
    ids: Tensor,
    mask: Tensor,
    places: Tensor,
    cache: DynamicCache,
) -> Tensor:
    """The logits that follow these tokens, (rows, vocabulary); long prompts are read in pieces."""
    columns = max(1, _READ_AT_ONCE // len(ids))
    before, width = mask.shape[1] - ids.shape[1], ids.shape[1]
    for start in range(0, width, columns):
        end = min(start + columns, width)
        logits = model(
            input_ids=ids[:, start:end],
            attention_mask=mask[:, : before + end],
            position_ids=places[:, start:end],
            past_key_values=cache,
            **options,
        ).logits
    last: Tensor = logits[:, -1]
    return last


def _choose(ids: Tensor, logits: Tensor, decoding: Decoding, draws: Tensor | None) -> Tensor:
    """The next token of each row: the likeliest, or the one its draw falls on."""
    scores = logits.float()
    if decoding.repetition_penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty)(ids, scores)
    if draws is None:
        return scores.argmax(-1)
    best = None
    if decoding.top_k:
        # Cut out, not masked as by transformers' warper: what follows then sorts some scores, not the vocabulary.
        scores, best = scores.topk(min(decoding.top_k, scores.shape[-1]))
    scores = TemperatureLogitsWarper(decoding.temperature)(ids, scores)
    if decoding.top_p < 1:
        scores = TopPLogitsWarper(decoding.top_p)(ids, scores)
    reached = scores.softmax(-1).cumsum(-1)
    drawn = torch.searchsorted(reached, draws[:, None] * reached[:, -1:], right=True)
    return (drawn if best is None else best.gather(1, drawn))[:, 0]
