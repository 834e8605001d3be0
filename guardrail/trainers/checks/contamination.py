"""What is judged must not be trained on: judged and benchmark prompts are looked for in the training data."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from guardrail.errors import InputError
from guardrail.recipe import Recipe
from guardrail.sets.benchmarks import read_benchmarks
from guardrail.sets.items import Item
from guardrail.sets.lint.overlap import find_overlaps, training_texts

__all__ = ["check_contamination"]


def check_contamination(
    recipe: Recipe, red_line: list[Item], rows: Iterable[Mapping[str, Any]], source: str
) -> None:
    """Raise an InputError if judged or benchmark prompts stand in the training data.

    Args:
        recipe: Names the benchmarks, and what is allowed nevertheless.
        red_line: The judged items; rehearsed ones are none.
        rows: The training data.
        source: What a user knows them by.
    """
    known = {item.id: item.prompt for item in red_line if not item.rehearsed}
    known |= read_benchmarks(Path(path) for path in recipe.sets.benchmarks)
    for name in recipe.train.allow_overlap:
        known.pop(name, None)
    found = find_overlaps(known, training_texts(rows), per_known=1)
    if found:
        shown = "; ".join(f"{o.known} in {o.text} ({o.how}: {o.evidence})" for o in found[:5])
        raise InputError(
            f"{source} contains {len(found)} judged or benchmark prompts: {shown}. Take the rows out, for what "
            "is trained on cannot be judged, or name the ids under `train.allow_overlap`"
        )
