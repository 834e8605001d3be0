"""Why a row is not kept: template openings, filters of imports, repeats, conflicts, IFD above 1, truncated answers.

Only what the words show. That an answer is true, a model or a person has to say.
"""

import tempfile
from collections.abc import Sequence

from guardrail.data.rows import DataRow, row_item
from guardrail.data.stage_folder import Made
from guardrail.errors import InputError
from guardrail.sets.lint.duplicates import plain
from guardrail.sets.lint.overlap import find_overlaps
from guardrail.sets.read.filters import FILTERS, first_reason
from guardrail.sets.read.kept_prompts import CONFLICT, KeptPrompts
from guardrail.text import parse_answer

__all__ = ["drop_faulty", "drop_judged", "ifd_fault"]

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


def drop_judged(made: Made, judged: dict[str, str]) -> Made:
    """Take out of the rows what shares text with a judged or benchmark prompt, answers included.

    Args:
        made: The rows.
        judged: Id → prompt of what is judged.
    """
    texts = [
        (str(number), message["content"])
        for number, row in enumerate(made.rows)
        for message in row.messages
    ]
    leaks = {overlap.text for overlap in find_overlaps(judged, texts, per_known=len(texts))}
    kept = Made(dropped=list(made.dropped), facts=made.facts)
    for number, row in enumerate(made.rows):
        if str(number) in leaks:
            kept.drop("shares text with a judged item", row)
        else:
            kept.rows.append(row)
    return kept
