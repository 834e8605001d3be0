"""Quotas → a red-line set and a rehearsal set, from what is there and a pool of imported items."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from guardrail.errors import InputError
from guardrail.sets.build.draw import draw_key
from guardrail.sets.items import Item
from guardrail.sets.lint.duplicates import NearDuplicates, plain
from guardrail.sets.lint.overlap import find_overlaps
from guardrail.sets.read.formats import FORMATS

__all__ = [
    "LEAST_JUDGED",
    "QUOTAS",
    "Composed",
    "compose",
    "draw_rehearsed",
    "family",
    "passes_per_prompt",
    "scaled_quotas",
]

QUOTAS: Mapping[str, int] = {
    "instruction": 80,
    "writing": 40,
    "translation": 40,
    "long_text": 30,
    "reasoning": 30,
    "format": 40,
    "refusal": 40,
}
"""Items of each ability in a red-line set of 300; other sizes keep the shares."""
LEAST_JUDGED = 30
"""Judged items an ability needs before it is tested."""
MOST_REHEARSAL_ONLY = 0.2
"""Share of a rehearsal set that may come from translated or scraped corpora (see `formats`)."""


def family(item: Item) -> str:
    """Return the format an item was imported from, `own` for anything else."""
    name = item.source.split(":", 1)[0]
    return name if name in FORMATS else "own"


def scaled_quotas(size: int) -> dict[str, int]:
    """Return `QUOTAS` for another size, largest remainders rounded up, so that they sum to it."""
    return _apportioned(size, QUOTAS)


def _apportioned(size: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Split a size in proportion to weights; what rounding leaves goes to the largest remainders, first come."""
    total = sum(weights.values())
    exact = {name: size * weight / total for name, weight in weights.items()}
    rounded = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(weights, key=lambda name: rounded[name] - exact[name])
    for name in by_remainder[: size - sum(rounded.values())]:
        rounded[name] += 1
    return rounded


def passes_per_prompt(training_rows: float, fraction: float, prompts: int) -> float:
    """Return how often each rehearsal prompt is seen while so many rows are trained on.

    `fraction` is the rehearsal share of all samples seen, so rows r bring r·f / (1 - f) rehearsal samples.
    """
    return training_rows * fraction / (1 - fraction) / prompts


@dataclass(slots=True)
class Composed:
    """Two disjoint sets and what they lack."""

    red_line: list[Item] = field(default_factory=list)
    rehearsal: list[Item] = field(default_factory=list)
    missing: dict[str, dict[str, int]] = field(default_factory=dict)
    """`red_line` and `rehearsal`: ability → items short of the quota."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Why pool items were not taken, apart from full quotas."""

    def as_dict(self) -> dict[str, Any]:
        """Return counts, sources and what is missing, for JSON."""
        return {
            name: {
                "items": len(items),
                "abilities": _counts(item.ability for item in items),
                "sources": _counts(item.source for item in items),
                "missing": self.missing.get(name, {}),
            }
            for name, items in (("red_line", self.red_line), ("rehearsal", self.rehearsal))
        } | {"passed_over": dict(self.passed_over)}


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


class _Chosen:
    """The prompts taken so far: no id twice, no two nearly the same."""

    def __init__(self) -> None:
        self._prompts: list[str] = []
        self._near = NearDuplicates(self._prompts.__getitem__)
        self._ids: set[str] = set()

    def clash(self, item: Item) -> str | None:
        """Why the item cannot be taken, else `None`; then it is taken."""
        if item.id in self._ids:
            return "id is taken"
        prompt = plain(item.prompt)
        if self._near.add(len(self._prompts), prompt) is not None:
            return "nearly the same as another"
        self._prompts.append(prompt)
        self._ids.add(item.id)
        return None


def compose(
    pool: Sequence[Item],
    start_red_line: Sequence[Item] = (),
    start_rehearsal: Sequence[Item] = (),
    *,
    red_line_size: int = 300,
    rehearsal_size: int = 2000,
    replace_general: bool = False,
    seed: int = 0,
) -> Composed:
    """Return a red-line and a rehearsal set that keep the quotas as far as the pool allows.

    What is there already comes first, then pool items in the order of their draw key. CMMLU items
    take part in neither set; Firefly and Alpaca items are never judged and make up at most a fifth
    of the rehearsal set.

    Args:
        pool: Imported items.
        start_red_line: Items that stay judged, for example the shipped 300.
        start_rehearsal: Items that stay injected.
        red_line_size: Judged items.
        rehearsal_size: Injected items.
        replace_general: Leave out the `instruction` items of `start_red_line` and draw that quota from the pool.
        seed: Of the draw.

    Raises:
        InputError: a size below 1.
    """
    if red_line_size < 1 or rehearsal_size < 1:
        raise InputError(f"set sizes must be at least 1, got {red_line_size} and {rehearsal_size}")
    made, chosen = Composed(), _Chosen()
    drawn = sorted(pool, key=lambda item: (draw_key(seed, item.id), item.id))

    kept = [i for i in start_red_line if not (replace_general and i.ability == "instruction")]
    judgeable = [i for i in drawn if not _held_back(i, "rehearsal_only")]
    made.red_line = _fill(
        made, "red_line", [*kept, *judgeable], scaled_quotas(red_line_size), chosen
    )

    judged = {item.id: item.prompt for item in made.red_line}
    candidates = [
        i
        for i in (*start_rehearsal, *drawn)
        if i.id not in judged and not _held_back(i, "evaluate_only")
    ]
    overlaps = find_overlaps(judged, ((i.id, i.prompt) for i in candidates))
    leaks = {overlap.text for overlap in overlaps}
    made.passed_over["overlaps the red line"] += sum(i.id in leaks for i in candidates)
    made.rehearsal = _fill(
        made,
        "rehearsal",
        [i for i in candidates if i.id not in leaks],
        scaled_quotas(rehearsal_size),
        chosen,
        most_rehearsal_only=int(MOST_REHEARSAL_ONLY * rehearsal_size),
    )
    return made


def _held_back(item: Item, by: Literal["rehearsal_only", "evaluate_only"]) -> bool:
    """Whether the item's format keeps it out; CMMLU's choice questions are a reference line of their own."""
    found = FORMATS.get(family(item))
    return found is not None and (found.evaluate_only or bool(getattr(found, by)))


def _fill(
    made: Composed,
    name: str,
    offered: Sequence[Item],
    quotas: Mapping[str, int],
    chosen: _Chosen,
    most_rehearsal_only: int = 0,
) -> list[Item]:
    """Take items in order until each ability has its quota; note what is short and what clashed."""
    left = dict(quotas)
    items: list[Item] = []
    rehearsal_only = 0
    for item in offered:
        if left.get(item.ability, 0) == 0:
            continue
        is_rehearsal_only = _held_back(item, "rehearsal_only")
        if is_rehearsal_only and rehearsal_only == most_rehearsal_only:
            made.passed_over["more than a fifth from Firefly and Alpaca"] += 1
            continue
        clash = chosen.clash(item)
        if clash is not None:
            made.passed_over[clash] += 1
            continue
        rehearsal_only += is_rehearsal_only
        left[item.ability] -= 1
        items.append(item)
    made.missing[name] = {ability: short for ability, short in left.items() if short}
    return items


def draw_rehearsed(
    red_line: Sequence[Item], count: int, seed: int = 0
) -> tuple[list[Item], list[Item]]:
    """Return the red line with `count` items marked rehearsed, and their copies for the rehearsal set.

    The copies end in `-rehearsed`, since ids are unique across both sets.

    Drawn in proportion to what each ability can spare above `LEAST_JUDGED` judged items.

    Raises:
        InputError: the abilities cannot spare that many.
    """
    judged = [item for item in red_line if not item.rehearsed]
    have = Counter(item.ability for item in judged)
    spare = {ability: max(0, n - LEAST_JUDGED) for ability, n in sorted(have.items())}
    total = sum(spare.values())
    if not 1 <= count <= total:
        raise InputError(
            f"cannot draw {count} items: {total} can be spared while every judged ability keeps "
            f"{LEAST_JUDGED}; ask for 1 to {total}"
        )
    take = _apportioned(count, spare)
    picked: set[str] = set()
    for ability, number in take.items():
        group = sorted(
            (item.id for item in judged if item.ability == ability),
            key=lambda name: draw_key(seed, name),
        )
        picked.update(group[:number])
    marked = [
        item.model_copy(update={"rehearsed": True}) if item.id in picked else item
        for item in red_line
    ]
    rehearsed = [
        item.model_copy(update={"id": f"{item.id}-rehearsed"})
        for item in red_line
        if item.id in picked
    ]
    return marked, rehearsed
