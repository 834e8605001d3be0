"""The form of training rows: what TRL's trainers take, and the first row and column that are something else."""

import random
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, TypeVar

import pyarrow

from guardrail.errors import InputError
from guardrail.sets.read.conversation import shown
from guardrail.sets.read.training_rows import NEEDS

__all__ = ["check_row_forms", "split_rows", "with_all_columns"]

Row = TypeVar("Row")

_FORMS = {
    "trl-sft": (("messages",), ("prompt", "completion"), ("text",)),
    "trl-grpo": (("prompt",),),
}


def check_row_forms(rows: Sequence[dict[str, Any]], where: Sequence[str], *, trainer: str) -> None:
    """Refuse the first row that TRL would not take, or would take for something else than the rows before it.

    Args:
        rows: As `read_training_rows` returns them.
        where: Where each stands, for messages.
        trainer: `trl-sft` or `trl-grpo`.

    Raises:
        InputError: a row has none of the forms, another one than the first row, or a turn without text; or a column holds
            values of two types.
    """
    first = None
    for place, row in zip(where, rows, strict=True):
        here = f"training data {place}"
        form = next((f for f in _FORMS[trainer] if all(row.get(c) is not None for c in f)), None)
        if form is None:
            raise InputError(
                f"{here} has the columns {', '.join(row)}; `trainer: {trainer}` needs {NEEDS[trainer]}"
            )
        first = first or form
        if form != first:
            raise InputError(
                f"{here} has {' and '.join(form)}, and {where[0]} has {' and '.join(first)}; give all rows one form"
            )
        for column in form:
            _check_column(row[column], f"{here}, column `{column}`")
        if form == ("prompt", "completion") and type(row["prompt"]) is not type(row["completion"]):
            raise InputError(
                f"{here} has text in one of `prompt` and `completion` and turns in the other; give both the same way"
            )
        if (
            form == ("messages",)
            and trainer == "trl-sft"
            and row["messages"][-1]["role"] != "assistant"
        ):
            raise InputError(
                f"{here}, column `messages` ends with a turn of `{row['messages'][-1]['role']}`; SFT learns what the "
                "assistant says: end with its turn, or drop the row"
            )
    for column in dict.fromkeys(name for row in rows for name in row):
        _check_types([row.get(column) for row in rows], where, column)


def _check_types(values: list[Any], where: Sequence[str], column: str) -> None:
    """Refuse a column that no table can hold, by the first row that does not go with those before it."""
    if _is_column(values):
        return
    last = bisect_left(range(1, len(values)), True, key=lambda n: not _is_column(values[:n]))
    other = next(at for at, value in enumerate(values) if value is not None)
    raise InputError(
        f"training data {where[last]}, column `{column}` holds {shown(values[last])}, and {where[other]} holds "
        f"{shown(values[other])}; give the column one type, best text, in all rows"
    )


def _is_column(values: Sequence[Any]) -> bool:
    try:
        pyarrow.array(values)
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        return False
    return True


def _check_column(value: Any, where: str) -> None:
    if isinstance(value, str):
        if not value.strip():
            raise InputError(f"{where} is empty; drop the row or mend it")
        return
    if not isinstance(value, list) or not value:
        raise InputError(
            f"{where} must be text or a list of turns that is not empty, got {value!r:.80}"
        )
    for at, turn in enumerate(value):
        if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
            raise InputError(f"{where}, turn {at + 1} must have a `role`, got {turn!r:.80}")
        content = turn.get("content")
        if isinstance(content, str) or (content is None and turn.get("tool_calls")):
            continue
        raise InputError(
            f"{where}, turn {at + 1} ({turn['role']}): `content` must be text, got {content!r:.80}"
        )


def with_all_columns(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that have every column any of them has, null where there was none.

    A table made of rows takes its columns from the first one, and what others have besides would be lost unseen.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [{column: row.get(column) for column in columns} for row in rows]


def split_rows(rows: Sequence[Row], held_out: float) -> tuple[list[Row], list[Row]]:
    """Return the rows that are trained on and those held out; the split is fixed, so that runs with other seeds compare."""
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    cut = round(len(shuffled) * held_out)
    return shuffled[cut:], shuffled[:cut]
