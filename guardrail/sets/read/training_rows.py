"""Training data of the user's own: rows of a JSON or JSONL file, and the prompts that GRPO takes from them."""

import codecs
import json
from pathlib import Path
from typing import Any

from guardrail.errors import InputError

__all__ = ["prompt_rows", "read_training_rows"]


def read_training_rows(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a training file: an object a line, or one array of objects; a byte order mark is no part of it.

    Raises:
        InputError: missing file, broken line or array, a row that is no object, or no row at all.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"training data `{path}` does not exist; give the path of a JSONL file")
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    array = content.lstrip()[:1] == b"["
    numbered = list(enumerate(_array(path, content), 1)) if array else _lines(path, content)
    for number, row in numbered:
        if not isinstance(row, dict):
            raise InputError(
                f"training data `{path}` {'entry' if array else 'line'} {number} must be an object, got {row!r:.80}"
            )
    if not numbered:
        raise InputError(f"training data `{path}` is empty; it needs at least one row")
    return [row for _, row in numbered]


def _array(path: Path, content: bytes) -> list[Any]:
    try:
        return list(json.loads(content.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"training data `{path}` begins as an array and is no valid JSON ({error}); mend it"
        ) from error


def _lines(path: Path, content: bytes) -> list[tuple[int, Any]]:
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append((number, json.loads(line.decode("utf-8"))))
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"training data `{path}` line {number} is not valid JSON ({error}); mend or drop it"
            ) from error
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
