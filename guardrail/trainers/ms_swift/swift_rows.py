"""The first training rows as ms-swift will see them: read by its own loader, rendered by its own template."""

import copy
import json
import logging
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars, enable_progress_bars

from guardrail.errors import InputError
from guardrail.sets.read.row_lengths import ROWS_READ, RowLengths, row_lengths
from guardrail.trainers.ms_swift.written_rows import row_line

__all__ = ["first_swift_rows"]


def first_swift_rows(
    arguments: Any, rows: Sequence[tuple[str, dict[str, Any]]], *, grpo: bool
) -> RowLengths | None:
    """Return how long the first rows are; None where they do not lie in a local JSONL file.

    ms-swift goes on without rows it cannot read, so one that it would leave out is an error here.

    Args:
        arguments: ms-swift's, as `check_swift_arguments` returns them.
        rows: The first of `train.data`, each with where it stands; with none those of the first local file are taken.
        grpo: Whether the rows are prompts, of whose answers nothing is learned.

    Raises:
        InputError: ms-swift would leave a row out, its template refuses one, or nothing would be learned from it.
    """
    where = [place for place, _ in rows]
    lines = [row_line(row).encode() for _, row in rows]
    if not rows:
        where, lines = _of_the_first_file(arguments)
    if not lines:
        return None
    loaded = _loaded(arguments, lines)
    if len(loaded) < len(lines):
        # Which one it is, ms-swift does not say: the end of the shortest beginning that loses one.
        at = bisect_left(
            range(1, len(lines)), True, key=lambda n: len(_loaded(arguments, lines[:n])) < n
        )
        raise InputError(
            f"training data: ms-swift leaves {where[at]} out, and {len(lines) - len(loaded)} of the first "
            f'{len(lines)} rows altogether; write all rows in one form, best as {{"messages": [...]}}'
        )
    _, processor = arguments.get_model_processor(load_model=False)
    template = arguments.get_template(processor)
    template.set_mode("train")
    template.max_length = None  # longer ones are counted, not left out
    lengths = [
        _tokens(template, row, place, grpo) for place, row in zip(where, loaded, strict=True)
    ]
    strategy = arguments.truncation_strategy
    return row_lengths(
        lengths,
        arguments.max_length,
        cut="LEFT OUT (`truncation_strategy: delete`)"
        if strategy == "delete"
        else f"cut ({strategy})",
    )


def _of_the_first_file(arguments: Any) -> tuple[list[str], list[bytes]]:
    """Where the first rows of the first local JSONL file that the flags name stand, and their lines."""
    named = [str(name).partition("#")[0] for name in arguments.dataset]
    files = [Path(name) for name in named if name.endswith((".jsonl", ".json"))]
    file = next((file for file in files if file.is_file() and _is_jsonl(file)), None)
    if file is None:
        return [], []
    with file.open("rb") as opened:
        lines = [line for line in islice(opened, ROWS_READ) if line.strip()]
    return [f"`{file}` row {n}" for n in range(1, len(lines) + 1)], lines


def _is_jsonl(file: Path) -> bool:
    """Whether its first line is a row; a JSON array is ms-swift's to read."""
    try:
        with file.open("rb") as opened:
            return isinstance(json.loads(opened.readline()), dict)
    except (OSError, ValueError):
        return False


def _loaded(arguments: Any, lines: Sequence[bytes]) -> list[dict[str, Any]]:
    """What ms-swift makes of these lines; none where it finds nothing in them."""
    few = copy.copy(arguments)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "first.jsonl"
        file.write_bytes(b"".join(lines))
        few.dataset, few.val_dataset = [str(file)], []
        few.split_dataset_ratio, few.dataset_shuffle, few.streaming = 0.0, False, False
        few.load_from_cache_file = False
        logging.disable(logging.CRITICAL)  # a traceback for each row it leaves out
        disable_progress_bars()
        try:
            rows, _ = few.load_dataset()
        except Exception:  # of many kinds, pyarrow's and its own; the count says what is wrong
            return []
        finally:
            enable_progress_bars()
            logging.disable(logging.NOTSET)
        return [] if rows is None else [dict(row) for row in rows]


def _tokens(template: Any, row: dict[str, Any], where: str, grpo: bool) -> int:
    try:
        encoded = template.encode(row)
    except Exception as error:  # of many kinds: what a template does with a stranger's row
        raise InputError(
            f"training data {where}: ms-swift's template refuses it ({error})"
        ) from error
    labels = encoded.get("labels")
    if not grpo and (labels is None or all(label == -100 for label in labels)):
        raise InputError(
            f"training data {where}: ms-swift learns no token of it; its last turn must be the assistant's"
        )
    return len(encoded["input_ids"])
