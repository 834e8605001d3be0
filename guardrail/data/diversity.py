"""Quotas over style, task, form and lengths while rows are made, and how diverse they came out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from rapidfuzz import process
from rapidfuzz.distance import Indel

from guardrail.data.rows import DataRow
from guardrail.errors import InputError
from guardrail.probes.instruction import count_list_items
from guardrail.recipe_yaml import read_yaml
from guardrail.sets.lint.duplicates import plain
from guardrail.text import count_characters

__all__ = ["Quotas", "diversity", "next_cell", "read_quotas", "wording"]

Quotas = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Axis → value → `share` and `zh`."""

_SAMPLE = 400


@cache
def read_quotas(path: Path | None = None) -> Quotas:
    """Return the shipped quotas, or those of a file.

    Raises:
        InputError: the file is not of that form, or the shares of an axis do not sum to 1.
    """
    file = path or Path(__file__).parent / "quotas.yaml"
    try:
        quotas: Quotas = read_yaml(file, "quotas")
        for axis, values in quotas.items():
            total = sum(float(v["share"]) for v in values.values())
            if abs(total - 1) > 0.001 or not all(isinstance(v["zh"], str) for v in values.values()):
                raise InputError(
                    f"quotas `{file}`: shares of `{axis}` must sum to 1 and each have `zh`, got {total:g}"
                )
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"quotas `{file}` must map axes to values with `share` and `zh` ({error!r}); take the shipped quotas.yaml as the pattern"
        ) from error
    return quotas


def next_cell(quotas: Quotas, given: Mapping[str, Counter[str]]) -> dict[str, str]:
    """Return for each axis the value that is furthest behind its share of what was asked for so far; ties go in file order."""
    cell = {}
    for axis, values in quotas.items():
        counts = given.get(axis, Counter())
        total = sum(counts.values()) + 1
        cell[axis] = max(values, key=lambda v: values[v]["share"] * total - counts[v])
    return cell


def wording(quotas: Quotas, cell: Mapping[str, str]) -> str:
    """Return a cell in words for a prompt."""
    return "；".join(str(quotas[axis][value]["zh"]) for axis, value in cell.items())


def diversity(rows: Sequence[DataRow]) -> dict[str, Any]:
    """Return how diverse rows are, ready for JSON.

    `nearest` is the mean ROUGE-L of a question with the nearest other one, over at most 400 rows spread evenly: 1 says all
    repeat each other. `distinct_2` is the share of different character pairs among all of the questions'. Openings are the
    first two characters of a question.
    """
    if not rows:
        return {"rows": 0}
    some = rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE]
    questions = [plain(row.question) for row in some]
    pairs = [q[i : i + 2] for q in questions for i in range(len(q) - 1)]
    openings = Counter(row.question.strip()[:2] for row in rows)
    return {
        "rows": len(rows),
        "nearest": fmean(_nearest(n, questions) for n in range(len(questions))),
        "distinct_2": len(set(pairs)) / max(1, len(pairs)),
        "openings": len(openings),
        "commonest_openings": dict(openings.most_common(8)),
        "abilities": dict(Counter(row.ability for row in rows).most_common()),
        "turns": dict(Counter(str(sum(m["role"] == "user" for m in row.messages)) for row in rows)),
        "prompt_characters": _quartiles([count_characters(row.prompt) for row in rows]),
        "answer_characters": _quartiles([count_characters(row.answer) for row in rows]),
        "answers_in_lists": sum(count_list_items(row.answer) >= 2 for row in rows) / len(rows),
        "asked_for": {
            axis: dict(
                Counter(
                    row.provenance["cell"][axis]
                    for row in rows
                    if axis in row.provenance.get("cell", {})
                )
            )
            for axis in sorted({a for row in rows for a in row.provenance.get("cell", {})})
        },
    }


def _nearest(number: int, questions: Sequence[str]) -> float:
    others = [*questions[:number], *questions[number + 1 :]]
    found = process.extractOne(
        questions[number], others, scorer=Indel.normalized_similarity, processor=None
    )
    return float(found[1]) if found else 0.0


def _quartiles(values: Sequence[int]) -> dict[str, int]:
    ordered = sorted(values)
    at = {"min": 0.0, "q1": 0.25, "median": 0.5, "q3": 0.75, "max": 1.0}
    return {name: ordered[round((len(ordered) - 1) * q)] for name, q in at.items()}
