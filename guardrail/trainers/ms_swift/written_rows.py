"""The file of rows that ms-swift is given: `train.data` itself, or what it reads as, written into the run's folder.

ms-swift reads files by itself and leaves rows out that it cannot read. What of `train.data` is in no form of its own
(`sets/read/training_rows.py`) is written as `messages` before it starts, and how many rows that were beside it.
"""

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.files import whole_file, write_whole
from guardrail.models.fingerprint import file_sha256
from guardrail.read_back import NotAsWritten, read_json, sealed, unsealed
from guardrail.recipe import Recipe
from guardrail.sets.read.training_rows import Reading, trainer_rows

__all__ = [
    "WRITTEN",
    "read_swift_rows",
    "row_line",
    "taken_as_it_is",
    "with_written_rows",
    "written_reading",
]

WRITTEN = "training.jsonl"
"""In a run's folder: the rows that ms-swift trains on."""
_READING = "training.json"
_LARGEST = 1 << 20


def read_swift_rows(recipe: Recipe, reading: Reading) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where each row of `train.data` stands and the row as ms-swift is to have it; `reading` counts as they come.

    Raises:
        InputError: as `trainer_rows`.
    """
    grpo = "rlhf_type" in recipe.train.arguments
    return trainer_rows(str(recipe.train.data), "ms-swift", reading, grpo=grpo)


def taken_as_it_is(data: Path, reading: Reading, *, as_lines: bool) -> bool:
    """Return whether ms-swift can be given the file itself: a row a line, in UTF-8, none of them changed or left out.

    Args:
        data: The file.
        reading: What became of its rows.
        as_lines: Whether each row stands in a line of its own; those inside one object or array do not.
    """
    if not as_lines or reading.rewritten or reading.left_out:
        return False
    if data.suffix not in (".jsonl", ".json"):
        return False
    with data.open("rb") as file:
        head = file.read(len(codecs.BOM_UTF8) + 1)
    return head.lstrip()[:1] == b"{"


def with_written_rows(recipe: Recipe, run: Path) -> Recipe:
    """Return the recipe with `train.data` as ms-swift is given it, which is written into the run's folder where it must be.

    Who writes the same again leaves the same file, as several nodes do that share a folder.

    Raises:
        InputError: the rows cannot be read, or the folder cannot be written to.
    """
    if recipe.trainer != "ms-swift" or recipe.train.data is None:
        return recipe
    data, reading = Path(recipe.train.data), Reading()
    as_lines = True
    for place, _ in read_swift_rows(recipe, reading):
        as_lines = as_lines and re.search(r" line \d+$", place) is not None
    if taken_as_it_is(data, reading, as_lines=as_lines):
        (run / _READING).unlink(missing_ok=True)  # of another recipe that the run began with
        return recipe
    file = run / WRITTEN
    try:
        run.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial, partial.open("w", encoding="utf-8") as rows:
            for _, row in read_swift_rows(recipe, Reading()):
                rows.write(row_line(row))
        facts = sealed(reading.facts() | {"training_written_sha256": file_sha256(file)})
        write_whole(run / _READING, json.dumps(facts, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"`{file}` cannot be written: {error}; give another --out") from error
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"data": str(file)})})


def written_reading(run: Path) -> Mapping[str, Any]:
    """Return what the header says of rows that were written for this run, nothing where none were.

    Raises:
        InputError: the rows are not those that were written.
    """
    if not (run / _READING).is_file():
        return {}
    try:
        facts = unsealed(read_json(run / _READING, _LARGEST))
        if facts["training_written_sha256"] != file_sha256(run / WRITTEN):
            raise NotAsWritten(f"`{WRITTEN}` has another hash")
    except (OSError, NotAsWritten) as error:
        raise InputError(
            f"`{run / _READING}` is not as it was written from the recipe's `train.data` ({error}); start the run again with "
            "`guardrail run`, which writes it"
        ) from error
    return facts


def row_line(row: Mapping[str, Any]) -> str:
    """Return a row as a line of the file; what JSON has no word for, such as a date, is text."""
    return json.dumps(row, ensure_ascii=False, default=str) + "\n"
