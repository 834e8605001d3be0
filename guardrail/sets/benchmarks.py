"""Benchmark questions, such as CMMLU and C-Eval: evaluated at most, never trained on."""

from collections.abc import Iterable
from pathlib import Path

from guardrail.sets.read.formats import read_conversation
from guardrail.sets.read.readers import read_rows

__all__ = ["read_benchmarks"]


def read_benchmarks(paths: Iterable[Path]) -> dict[str, str]:
    """Return `FILE-NUMBER` → first question of every row of the files, in any form that can be imported.

    Raises:
        InputError: a file cannot be read, or a row fits no known format.
    """
    questions: dict[str, str] = {}
    for path in paths:
        for number, row in enumerate(read_rows(path), start=1):
            if not row.problem:
                questions[f"{path.stem}-{number}"] = read_conversation(row.value).turns[0][1]
    return questions
