"""Benchmark questions, such as CMMLU and C-Eval: evaluated at most, never trained on."""

from collections.abc import Iterable
from pathlib import Path

from guardrail.sets.read.formats import read_conversation, single_rows
from guardrail.sets.read.readers import read_rows

__all__ = ["read_benchmarks"]


def read_benchmarks(paths: Iterable[Path]) -> dict[str, str]:
    """Return `FILE-NUMBER` → first question of every row of the files, in any form that can be imported.

    Raises:
        InputError: a file cannot be read, or a row fits no known format.
    """
    questions: dict[str, str] = {}
    for path in paths:
        rows = (one for row in read_rows(path) if not row.problem for one in single_rows(row.value))
        for number, row in enumerate(rows, start=1):
            questions[f"{path.stem}-{number}"] = read_conversation(row).first_question
    return questions
