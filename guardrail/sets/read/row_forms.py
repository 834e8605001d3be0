"""The form of training rows: what TRL's trainers take, and the first row and column that are something else."""

from collections.abc import Sequence
from typing import Any

from guardrail.errors import InputError

__all__ = ["check_row_forms", "with_all_columns"]

_SFT = (("messages",), ("prompt", "completion"), ("text",))
_GRPO = (("prompt",), ("messages",))
_NEEDS = {
    "trl-sft": "`messages` (turns with role and content), `prompt` and `completion`, or `text`",
    "trl-grpo": "`prompt`, or `messages`, whose last assistant turn is then left out",
}


def check_row_forms(rows: Sequence[dict[str, Any]], *, trainer: str, source: str) -> None:
    """Refuse the first row that TRL would not take, or would take for something else than the rows before it.

    Args:
        rows: As in the file.
        trainer: `trl-sft` or `trl-grpo`.
        source: What the rows are, for the message.

    Raises:
        InputError: a row has none of the forms, another one than the first row, or a turn without text.
    """
    forms = _GRPO if trainer == "trl-grpo" else _SFT
    first = None
    for number, row in enumerate(rows, start=1):
        where = f"{source} row {number}"
        form = next((form for form in forms if all(row.get(c) is not None for c in form)), None)
        if form is None:
            raise InputError(
                f"{where} has the columns {', '.join(row)}; `trainer: {trainer}` needs {_NEEDS[trainer]}. Rewrite "
                'them: {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]}'
            )
        first = first or form
        if form != first:
            raise InputError(
                f"{where} has {' and '.join(form)}, and row 1 has {' and '.join(first)}; give all rows one form"
            )
        for column in form:
            _check_column(row[column], f"{where}, column `{column}`")
        if (
            form == ("messages",)
            and trainer == "trl-sft"
            and row["messages"][-1]["role"] != "assistant"
        ):
            raise InputError(
                f"{where}, column `messages` ends with a turn of `{row['messages'][-1]['role']}`; SFT learns what the "
                "assistant says: end with its turn, or drop the row"
            )


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
        hint = "; join its text parts to one text" if isinstance(content, list) else ""
        raise InputError(
            f"{where}, turn {at + 1} ({turn['role']}): `content` must be text, got {content!r:.80}{hint}"
        )


def with_all_columns(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that have every column any of them has, null where there was none.

    A table made of rows takes its columns from the first one, and what others have besides would be lost unseen.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [{column: row.get(column) for column in columns} for row in rows]
