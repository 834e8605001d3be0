"""What is judged must not be trained on: judged and benchmark prompts are looked for in the training data."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.sets.benchmarks import read_benchmarks
from guardrail.sets.items import Item
from guardrail.sets.lint.overlap import find_overlaps, training_texts

__all__ = ["check_contamination"]


def check_contamination(
    rows: Iterable[Mapping[str, Any]],
    red_line: Iterable[Item],
    benchmarks: Iterable[str],
    *,
    allowed: Collection[str],
    source: str,
) -> None:
    """Refuse training data that holds judged or benchmark prompts.

    Args:
        rows: Of the training data.
        red_line: The judged items; rehearsed ones are not judged.
        benchmarks: Files of benchmark questions.
        allowed: Ids of prompts that may stand in the data.
        source: What a user knows the data by.

    Raises:
        InputError: some do; the first five are named with their row and how they were found.
    """
    known = {item.id: item.prompt for item in red_line if not item.rehearsed}
    known |= read_benchmarks(Path(path) for path in benchmarks)
    guarded = {key: text for key, text in known.items() if key not in allowed}
    found = find_overlaps(guarded, training_texts(rows), per_known=1)
    if found:
        shown = "; ".join(f"{o.known} in {o.text} ({o.how}: {o.evidence})" for o in found[:5])
        raise InputError(
            f"{source} contains {len(found)} judged or benchmark prompts: {shown}. Take the rows out, for what "
            "is trained on cannot be judged, or name the ids under `train.allow_overlap`"
        )
