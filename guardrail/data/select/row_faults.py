"""Why a row is not kept: template openings, filters of imports, repeats, conflicts, IFD above 1, truncated answers.

Only what the words show. That an answer is true, a model or a person has to say.
"""

import tempfile
from collections.abc import Sequence

from guardrail.data.judged_text import WITHHELD, JudgedText
from guardrail.data.rows import DataRow, made_row, row_item
from guardrail.data.stage_folder import Made
from guardrail.errors import InputError
from guardrail.sets.lint.duplicates import plain
from guardrail.sets.read.filters import FILTERS, first_reason
from guardrail.sets.read.kept_prompts import CONFLICT, KeptPrompts
from guardrail.text import parse_answer

__all__ = ["drop_faulty", "drop_judged", "ifd_fault", "silenced"]

_NOT_FOR_ROWS = frozenset(
    {
        "too long",
        "not Chinese",
        "identity",
        "role-play template",
        "too many turns",
        "unsafe",
        "attack",
    }
)
"""Filters that say what is no good as an item of a set, and are no fault of a training row: refusals need wicked requests."""


def ifd_fault(row: DataRow) -> str | None:
    """Return why a row's IFD drops it: above 1, or truncated so that it has none."""
    if row.scores.get("truncated"):
        return "answer truncated"
    above = any(row.scores.get(name, 0.0) > 1 for name in ("ifd", "superfilter"))
    return "IFD above 1" if above else None


def drop_faulty(rows: Sequence[DataRow], allowed: frozenset[str] = frozenset()) -> Made:
    """Return the rows without fault, and those dropped with the first reason.

    Where two rows ask the same and answer otherwise, both go: which is right cannot be told from their words.

    Args:
        rows: In the order in which the first of two near duplicates is kept.
        allowed: Reasons that are no fault here.

    Raises:
        InputError: an allowed reason that does not exist.
    """
    made = Made()
    unknown = (
        allowed
        - set(FILTERS)
        - {
            "empty answer",
            CONFLICT,
            "duplicate",
            "near duplicate",
            "IFD above 1",
            "answer truncated",
        }
    )
    if unknown:
        raise InputError(
            f"`--allow` names {', '.join(sorted(unknown))}, which no filter is called; known are {', '.join(FILTERS)}"
        )
    clash = set() if CONFLICT in allowed else _conflicts(rows)
    with tempfile.TemporaryFile() as file:
        kept = KeptPrompts(file)
        for number, row in enumerate(rows):
            reason = _fault(row, allowed) or (CONFLICT if number in clash else None)
            if reason is None:
                prompt = plain(row.prompt)
                reason = kept.repeated(prompt, row.answer) or kept.added(prompt, row.answer)
                reason = None if reason in allowed else reason
            if reason is None:
                made.rows.append(row)
            else:
                made.drop(reason, row)
    return made


def _fault(row: DataRow, allowed: frozenset[str]) -> str | None:
    if not parse_answer(row.answer).text:
        return "empty answer"
    found = ifd_fault(row)
    if found is not None and found not in allowed:
        return found
    return first_reason(row_item(row), allowed | _NOT_FOR_ROWS)


def _conflicts(rows: Sequence[DataRow]) -> set[int]:
    """Rows that ask exactly what another asks and answer otherwise."""
    by_prompt: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_prompt.setdefault(plain(row.prompt), []).append(number)
    return {
        number
        for numbers in by_prompt.values()
        if len({plain(rows[n].answer) for n in numbers}) > 1
        for number in numbers
    }


def drop_judged(made: Made, judged: JudgedText) -> Made:
    """Take out rows and preferences that share text with a judged or benchmark prompt, provenance included.

    Their words, and those of rows that were dropped for another reason, do not stand in what is returned: only the id does.
    """
    clean = Made(facts=dict(made.facts))
    for row in made.rows:
        if judged.inside(row.as_dict()):
            judged.counts["rows made"] += 1
            clean.drop(WITHHELD, silenced(row))
        else:
            clean.rows.append(row)
    first = [
        (reason, silenced(row) if judged.inside(row.as_dict()) else row)
        for reason, row in made.dropped
    ]
    clean.dropped = [*first, *clean.dropped]
    clean.preferences = [one for one in made.preferences if not judged.inside(one)]
    return clean


def silenced(row: DataRow) -> DataRow:
    """Return what may be written of a row that is near a judged item: its id, none of its words."""
    method = str(row.provenance.get("method", "row"))
    return made_row("（withheld）", "", method=method, withheld=row.id)
