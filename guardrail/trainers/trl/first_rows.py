"""The first training rows as TRL will see them: rendered by the start model's template, counted in tokens."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer

from guardrail.errors import InputError
from guardrail.recipe import Recipe

__all__ = ["first_rows"]

_ROWS = 64


def first_rows(recipe: Recipe, rows: Sequence[dict[str, Any]], max_length: int | None) -> str:
    """Return in a sentence how long the first rows are, and how many are cut at the trainer's `max_length`.

    Args:
        recipe: With model folders on this machine.
        rows: Of a form the trainer takes (`check_row_forms`).
        max_length: Of SFTConfig, in tokens; None for GRPO, which cuts no prompts.

    Raises:
        InputError: the chat template refuses a row; it is named.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(recipe.start_model), local_files_only=True)
    lengths = [_tokens(tokenizer, row, number) for number, row in enumerate(rows[:_ROWS], start=1)]
    mean, most = sum(lengths) / len(lengths), max(lengths)
    said = f"the first {len(lengths)}: {mean:.0f} tokens on average, {most} at most"
    if max_length is None:
        return said
    cut = [number for number, length in enumerate(lengths, start=1) if length > max_length]
    if not cut:
        return f"{said}, none cut at `max_length` {max_length}"
    return f"{said}; {len(cut)} CUT at `max_length` {max_length}, the first is row {cut[0]}"


def _tokens(tokenizer: Any, row: dict[str, Any], number: int) -> int:
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
            f"training data row {number}: the model's chat template refuses it ({error}); its turns are {roles}"
        ) from error
