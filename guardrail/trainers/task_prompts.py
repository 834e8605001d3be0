"""The new task's prompts: where the policy's KL from base predicts forgetting.

Shenfeld, Pari & Agrawal (2025), "RL's Razor: Why Online Reinforcement Learning Forgets Less"
(arXiv 2509.04259), find that forgetting follows the forward KL between base and policy measured on the new
task's prompts.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

from datasets import IterableDataset

from guardrail.engines.in_process import encode_prompts

__all__ = ["ROWS_LOOKED_AT", "opening_tokens", "step_tokens", "task_prompts", "tokenised"]

ROWS_LOOKED_AT = 2000
_LONGEST = 512
"""Tokens of a prompt; longer ones are left out."""


def opening_tokens(tokenizer: Any, *, thinking: bool) -> list[int]:
    """Return the tokens a chat template adds where the assistant is to speak."""
    chat = [{"role": "user", "content": "甲"}]
    options = {"enable_thinking": thinking, "return_dict": False}
    plain = tokenizer.apply_chat_template(chat, add_generation_prompt=False, **options)
    opened = tokenizer.apply_chat_template(chat, add_generation_prompt=True, **options)
    return list(opened[len(plain) :])


def _prompt(ids: Sequence[int], opening: Sequence[int]) -> list[int] | None:
    """The tokens up to and with the first assistant opening, `None` if there is none in reach."""
    size = len(opening)
    for end in range(size, min(len(ids), _LONGEST) + 1):
        if list(ids[end - size : end]) == list(opening):
            return list(ids[:end])
    return None


def _each(dataset: Any) -> Iterator[Any]:
    """The rows of a trainer's dataset; a stream of ms-swift's own has none."""
    if isinstance(dataset, IterableDataset):
        yield from dataset
    elif isinstance(dataset, Sized):
        rows: Any = dataset
        # By number: ms-swift's rows begin anew past the last one, where a loop would never end.
        for number in range(len(dataset)):
            yield rows[number]


def tokenised(dataset: Any, tokenizer: Any, *, thinking: bool) -> Iterator[dict[str, Any]]:
    """Yield rows with `input_ids`, packed ones taken apart, or with `prompt_ids` where a row is not tokenised.

    SFT trainers hold tokens; GRPO's rows are still a `prompt`, a chat or a text, or in ms-swift
    `messages`, whose last assistant turn is not part of the prompt. Rows of other kinds are left out.
    """
    for row in itertools.chain.from_iterable(
        r if isinstance(r, list) else [r] for r in _each(dataset)
    ):
        if not isinstance(row, dict) or "input_ids" in row:
            yield row
            continue
        prompt = row.get("prompt", row.get("messages"))
        if isinstance(prompt, str):
            yield {"prompt_ids": list(tokenizer(prompt)["input_ids"])}
            continue
        chat = list(prompt or ())
        while chat and chat[-1]["role"] == "assistant":
            chat.pop()
        if chat and all(isinstance(turn["content"], str) for turn in chat):
            yield {"prompt_ids": encode_prompts(tokenizer, [chat], thinking=thinking)[0]}


def task_prompts(rows: Iterable[Any], opening: Sequence[int], count: int) -> list[list[int]]:
    """Return up to `count` different prompts of a tokenised training set, spread over its first rows.

    Args:
        rows: What `tokenised` yields.
        opening: What `opening_tokens` returned; a thinking block the template opens in advance may be
            missing in training rows, so its first half is tried too.
        count: How many to return.
    """
    found: dict[tuple[int, ...], None] = {}
    openings = [list(opening), list(opening[: len(opening) // 2 + 1])] if opening else []
    for row in islice(rows, ROWS_LOOKED_AT):
        if not isinstance(row, dict):
            continue
        whole, ids = row.get("prompt_ids"), row.get("input_ids")
        prompt = whole if whole is not None and len(whole) <= _LONGEST else None
        if ids is not None:
            prompts = (_prompt(list(ids), one) for one in openings)
            prompt = next((p for p in prompts if p is not None), None)
        if prompt is not None:
            found.setdefault(tuple(prompt))
    every = max(1, len(found) // count)
    return [list(prompt) for prompt in list(found)[::every][:count]]


def step_tokens(trainer: Any, rows: Iterable[Any]) -> float | None:
    """Return the tokens of an optimizer step over all ranks, None where the rows do not say.

    A rollout is taken to be half as long as it may be.

    Args:
        trainer: Says how many rows a step holds and how long a rollout may be.
        rows: What `tokenised` yields.
    """
    args = trainer.args
    rollout = (getattr(args, "max_completion_length", None) or 0) / 2
    lengths = [
        len(row["input_ids"]) if "input_ids" in row else len(row["prompt_ids"]) + rollout
        for row in islice(rows, ROWS_LOOKED_AT)
        if isinstance(row, dict) and ("input_ids" in row or "prompt_ids" in row)
    ]
    if not lengths:
        return None
    rows_a_rank = args.per_device_train_batch_size * args.gradient_accumulation_steps
    ranks = trainer.accelerator.num_processes
    return float(rows_a_rank * ranks * sum(lengths) / len(lengths))
