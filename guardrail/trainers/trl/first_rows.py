"""The first training rows as TRL will see them: rendered by the start model's template, counted in tokens."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer

from guardrail.errors import InputError
from guardrail.recipe import Recipe
from guardrail.sets.read.row_lengths import ROWS_READ, RowLengths, row_lengths

__all__ = ["first_rows"]


def first_rows(
    recipe: Recipe, rows: Sequence[dict[str, Any]], where: Sequence[str], max_length: int | None
) -> RowLengths:
    """Return how long the first rows are, and how many are cut at the trainer's `max_length`.

    Args:
        recipe: With model folders on this machine.
        rows: Of a form the trainer takes (`check_row_forms`).
        where: Where each stands, for messages.
        max_length: Of SFTConfig, in tokens; None for GRPO, which cuts no prompts.

    Raises:
        InputError: the chat template refuses a row; it is named.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(recipe.start_model), local_files_only=True)
    first = zip(rows[:ROWS_READ], where, strict=False)
    lengths = [_tokens(tokenizer, row, place) for row, place in first]
    return row_lengths(lengths, max_length)


def _tokens(tokenizer: Any, row: dict[str, Any], where: str) -> int:
    parts = [row[c] for c in ("prompt", "completion") if row.get(c) is not None]
    if row.get("messages") is not None:
        parts = [row["messages"]]
    elif not parts:
        parts = [row["text"]]
    if isinstance(parts[0], str):
        return len(tokenizer("".join(parts))["input_ids"])
    turns = [turn for part in parts for turn in part]
    try:
        return len(tokenizer.apply_chat_template(turns, tools=row.get("tools"), return_dict=False))
    except (TemplateError, TypeError, KeyError) as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise InputError(
            f"training data {where}: the model's chat template refuses it ({error}); its turns are {roles}"
        ) from error
