"""Which stage of a curriculum a row belongs to: its own column, else its behaviours and whether it was found hard.

Safety: it refuses, or asks for harm. Long tail: a hard example (wrong, hesitant, inconsistent in style), or a special skill
that plain chat does not show (tools and formats, several turns, reasoning chains, reflection). General: all else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guardrail.data.behaviours import behaviours_of
from guardrail.data.judged_text import JudgedText
from guardrail.data.rows import DataRow, data_row
from guardrail.errors import InputError
from guardrail.sets.read.curriculum import STAGES, curriculum
from guardrail.sets.read.readers import read_rows as read_raw_rows

__all__ = ["in_curriculum_order", "stage_of"]

_SAFETY = frozenset({"refusal", "safety"})


def stage_of(row: DataRow) -> tuple[str, str]:
    """Return a row's stage, one of `STAGES`, and what says so, by its scores and its words."""
    shown = behaviours_of(row)
    if shown & _SAFETY:
        return "safety", " and ".join(sorted(shown & _SAFETY))
    hard = sorted(name.removeprefix("hard_") for name in row.scores if name.startswith("hard_"))
    if hard or shown:
        return "long_tail", " and ".join((*hard, *sorted(shown)))
    return "general", "none of the others"


def in_curriculum_order(
    paths: Sequence[Path], seed: int, judged: JudgedText | None = None
) -> tuple[list[dict[str, Any]], dict[str, dict[str, int]]]:
    """Return the rows of files in curriculum order, each as it was and with its `stage`, and stage → what said so → rows.

    Args:
        paths: The files.
        seed: Of the order within a stage.
        judged: A row that shares text with it, in any column, is left out and counted there as a row read.

    Raises:
        InputError: a file cannot be read, or a row has a `stage` that does not exist.
    """
    staged: list[dict[str, Any]] = []
    told: dict[str, dict[str, int]] = {stage: {} for stage in STAGES}
    for path in paths:
        for raw in read_raw_rows(path):
            row = data_row(raw, path, answered=False)
            if judged is not None and judged.inside(raw.value):
                judged.counts["rows read"] += 1
                continue
            stage, why = _own(raw.value, raw.where) or stage_of(row)
            told[stage][why] = told[stage].get(why, 0) + 1
            staged.append({**raw.value, "stage": stage})
    return curriculum(staged, seed), told


def _own(value: Mapping[str, Any], where: str) -> tuple[str, str] | None:
    stage = value.get("stage")
    if stage is None or stage == "":
        return None
    if stage not in STAGES:
        raise InputError(
            f"{where} has the stage {stage!r:.40}; stages are {', '.join(STAGES)}: mend it, or take the column out to have it told"
        )
    return str(stage), "the column `stage`"
