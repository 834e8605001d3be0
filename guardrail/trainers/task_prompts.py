"""The new task's prompts: where the policy's KL from base predicts forgetting.

Shenfeld, Pari & Agrawal (2025), "RL's Razor: Why Online Reinforcement Learning Forgets Less"
(arXiv 2509.04259), find that forgetting follows the forward KL between base and policy measured on the new
task's prompts.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

__all__ = ["opening_tokens", "task_prompts"]

_ROWS_LOOKED_AT = 2000
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


def task_prompts(rows: Iterable[Any], opening: Sequence[int], count: int) -> list[list[int]]:
    """Return up to `count` different prompts of a tokenised training set, spread over its first rows.

    Args:
        rows: Rows with `input_ids`, as a trainer holds them after tokenising; packed rows count as one.
        opening: What `opening_tokens` returned; a thinking block the template opens in advance may be
            missing in training rows, so its first half is tried too.
        count: How many to return.
    """
    found: dict[tuple[int, ...], None] = {}
    openings = [list(opening), list(opening[: len(opening) // 2 + 1])] if opening else []
    for row in islice(rows, _ROWS_LOOKED_AT):
        ids = row.get("input_ids") if isinstance(row, dict) else None
        if ids is None:
            continue
        prompts = (_prompt(list(ids), one) for one in openings)
        prompt = next((p for p in prompts if p is not None), None)
        if prompt is not None:
            found.setdefault(tuple(prompt))
    every = max(1, len(found) // count)
    return [list(prompt) for prompt in list(found)[::every][:count]]
