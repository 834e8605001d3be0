"""The next run after a repair: the rehearsal set with the new items, and the recipe that names it and where it comes from."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guardrail.data.repair.drifted_abilities import Drifted, answers_digest
from guardrail.data.rows import DataRow, row_item
from guardrail.errors import InputError
from guardrail.files import write_whole
from guardrail.recipe import Lineage
from guardrail.report.next_steps import recipe_text
from guardrail.report.run_data import RunData
from guardrail.sets.items import Item, check_apart, items_sha256, write_items

__all__ = ["RECIPE", "REHEARSAL", "lineage_of", "write_next_run"]

RECIPE, REHEARSAL = "recipe.yaml", "rehearsal.jsonl"
_REPAIRED = re.compile(r"(.+)-repaired(?:-(\d+))?")


def lineage_of(data: RunData, drifted: Drifted, red_line: list[Item], items: int) -> Lineage:
    """Return what the next recipe says of the run it repairs.

    Args:
        data: That run.
        drifted: What it lost.
        red_line: Its red-line items.
        items: Rehearsal items that were made.

    Raises:
        InputError: the look's answers are gone.
    """
    return Lineage(
        run=str(data.run.resolve()),
        look=drifted.look.number,
        step=drifted.look.step,
        answers=drifted.look.answers,
        answers_sha256=answers_digest(data, drifted.look),
        red_line_sha256=items_sha256(red_line),
        drifted=drifted.streams,
        abilities=drifted.abilities,
        items=items,
        probes_sha256=tuple(drifted.probes.values()),
    )


def write_next_run(
    out: Path,
    data: RunData,
    drifted: Drifted,
    red_line: list[Item],
    rehearsal: Sequence[Item],
    rows: Sequence[DataRow],
) -> Path:
    """Write the rehearsal set with the new items, and a recipe that differs in it alone; return the recipe's path.

    Its anchors are made anew by its run, in a folder beside it: what the base answers to the new items is asked of the base itself.

    Args:
        out: Folder of the stage.
        data: The run that is repaired.
        drifted: What it lost.
        red_line: Its red-line items.
        rehearsal: Its rehearsal items.
        rows: New ones, at least one.

    Raises:
        InputError: a new item is a judged one or in the set already, or the look's answers are gone.
    """
    run = f"repair after {data.name or data.run.name}, step {drifted.look.step}"
    new = [
        row_item(row).model_copy(
            update={
                "source": f"{run}: {row.provenance['generator']} by {row.provenance['model']}",
                "answer": None,
            }
        )
        for row in rows
    ]
    if there := sorted({item.id for item in rehearsal} & {item.id for item in new}):
        raise InputError(
            f"the rehearsal set holds `{there[0]}` already: it comes of this very repair; give the run that was repaired"
        )
    items = [*rehearsal, *new]
    check_apart(red_line, items)
    out.mkdir(parents=True, exist_ok=True)
    write_items(out / REHEARSAL, items)
    changes: dict[str, Any] = {
        "name": _next_name(data.name or "run"),
        "sets.rehearsal": str((out / REHEARSAL).resolve()),
        "anchors": str((out / "anchors").resolve()),
        "lineage": lineage_of(data, drifted, red_line, len(rows)).model_dump(mode="json"),
    }
    if drifted.probes:  # those the user named, and not what the run folder names
        changes["probes.files"] = list(drifted.probes)
    comments = [
        f"The recipe of {data.run.resolve()} with {len(rows)} more rehearsal items ({', '.join(drifted.abilities)}) and nothing else changed.",
        "Whether they helped, its report says on the reserved slice of the red line, which had no part in choosing them.",
    ]
    write_whole(out / RECIPE, recipe_text(data.recipe, changes, comments))
    return out / RECIPE


def _next_name(name: str) -> str:
    """What the next run is called: of park it is park-repaired, then park-repaired-2, park-repaired-3."""
    again = _REPAIRED.fullmatch(name)
    return f"{again[1]}-repaired-{int(again[2] or 1) + 1}" if again else f"{name}-repaired"
