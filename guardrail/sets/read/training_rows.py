"""Training data of the user's own: rows of a JSONL file, and the prompts that GRPO takes from them."""

import json
from pathlib import Path
from typing import Any

from guardrail.errors import InputError

__all__ = ["prompt_rows", "read_training_rows"]


def read_training_rows(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL training file.

    Raises:
        InputError: missing file, broken line, a row that is no object, or no row at all.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"training data `{path}` does not exist; give the path of a JSONL file")
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except ValueError as error:
            raise InputError(
                f"training data `{path}` line {number} is not valid JSON ({error}); mend or drop it"
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"training data `{path}` line {number} must be an object, got {row!r:.80}"
            )
        rows.append(row)
    if not rows:
        raise InputError(f"training data `{path}` is empty; it needs at least one row")
    return rows


def prompt_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return GRPO's rows: those with a `prompt` as they are, `messages` without their last assistant turn.

    Other columns stay: reward functions are given them.

    Raises:
        InputError: a row has neither, or `messages` hold nothing but the assistant's turn.
    """
    made = []
    for number, row in enumerate(rows, start=1):
        if "prompt" not in row:
            messages = list(row.get("messages") or ())
            if messages and messages[-1].get("role") == "assistant":
                messages.pop()
            if not messages:
                raise InputError(
                    f"training data row {number} holds no prompt (fields: {', '.join(row)}); GRPO needs "
                    "`prompt`, or `messages` with a turn before the assistant's last"
                )
            row = {k: v for k, v in row.items() if k != "messages"} | {"prompt": messages}
        made.append(row)
    return made
