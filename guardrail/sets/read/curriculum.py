"""Curriculum order of training rows: general → long tail → safety, by a column `stage` that each row carries.

`guardrail data curriculum` writes the column, from behaviours where a row has none. Whether the order helps nobody promises.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from guardrail.errors import InputError

__all__ = ["STAGES", "curriculum", "require_order", "require_stages"]

STAGES = ("general", "long_tail", "safety")
"""In the order in which they are trained on."""

Row = TypeVar("Row", bound=Mapping[str, Any])


def require_stages(rows: Sequence[Mapping[str, Any]], where: Sequence[str]) -> None:
    """Refuse the first row whose stage is none.

    Args:
        rows: Of the training.
        where: Where each stands, for the message.

    Raises:
        InputError: a row has no `stage`, or one that does not exist.
    """
    for place, row in zip(where, rows, strict=True):
        if row.get("stage") not in STAGES:
            raise InputError(
                f"training data {place}: `train.order: curriculum` needs a column `stage` with one of "
                f"{', '.join(STAGES)}, got {row.get('stage')!r:.40}; `guardrail data curriculum FILE --out NEW` writes it"
            )


def require_order(rows: Sequence[Mapping[str, Any]], where: Sequence[str]) -> None:
    """Refuse rows that do not already stand in curriculum order, for a trainer that reads the file itself.

    Raises:
        InputError: as `require_stages`, or a row stands after one of a later stage.
    """
    require_stages(rows, where)
    stages = [STAGES.index(row["stage"]) for row in rows]
    for place, (before, now) in zip(where[1:], pairwise(stages), strict=True):
        if now < before:
            raise InputError(
                f"training data {place} is `{STAGES[now]}` and stands after `{STAGES[before]}`; ms-swift takes rows as the "
                "file has them: `guardrail data curriculum FILE --out NEW` writes them in order"
            )


def curriculum(rows: Sequence[Row], seed: int) -> list[Row]:
    """Return rows stage by stage, those of one stage shuffled; a pure function of rows and seed, so that ranks agree.

    Args:
        rows: Each with a `stage`.
        seed: Of the shuffle within a stage.
    """
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return sorted(shuffled, key=lambda row: STAGES.index(row["stage"]))
