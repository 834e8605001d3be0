"""Which items got worse since look 0, with both answers: for a page that shows them side by side."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.ledger import Record
from guardrail.probes.measure import METRICS, check_passes
from guardrail.sets.items import Item, read_items
from guardrail.text import parse_answer
from guardrail.watch.run_data import RunData

__all__ = ["ItemChange", "worst_items"]

_SHOWN_CHARACTERS = 600
_RATES = {m.name: m.worse for m in METRICS if m.worst is not None and m.name != "similarity"}


@dataclass(frozen=True, slots=True)
class ItemChange:
    """One red-line item that does worse than at look 0; texts are cut, `lengths` are whole."""

    item: str
    ability: str
    """Empty where the red-line items cannot be read."""
    rehearsed: bool
    question: str
    base: str
    now: str
    lengths: tuple[int, int]
    lost: dict[str, tuple[float, float]]
    """Rate metric → mean at look 0 and now, where it got worse."""
    failed_checks: tuple[tuple[str, dict[str, Any]], ...]
    """Kind and parameters of the checks that the shown answer fails."""
    truncated: bool
    """Whether the shown answer ran into the length limit."""


def worst_items(data: RunData, at_most: int = 24) -> tuple[list[ItemChange], list[dict[str, str]]]:
    """Return the items that got worst, grouped by ability, and what kept items from being read.

    Every ability with losses gets its share of the places in turn; the ability with most losses
    comes first. Problems are `{"code": only_look_zero | missing | damaged | red_line |
    changed, "detail"}`; `changed`: an answer recorded as passed fails the item's checks of today.
    """
    problems: list[dict[str, str]] = []
    if len(data.looks) < 2:
        return [], [{"code": "only_look_zero", "detail": ""}]
    before = _answers(data.run / data.looks[0].answers, problems)
    after = _answers(data.run / data.looks[-1].answers, problems)
    items: dict[str, Item] = {}
    try:
        red_line = (data.recipe.get("sets") or {}).get("red_line") or ""
        items = {item.id: item for item in read_items(red_line)}
    except (OSError, ValueError) as error:
        problems.append({"code": "red_line", "detail": str(error)})
    stale = [
        name for name in before.keys() & items.keys() if _contradicts(items[name], before[name])
    ]
    if stale:
        named = ", ".join(sorted(stale)[:3])
        problems.append({"code": "changed", "detail": f"{named} ({len(stale)})"})
    scored: dict[str, list[tuple[tuple[float, ...], ItemChange]]] = {}
    for name in before.keys() & after.keys():
        score, change = _change(name, items.get(name), before[name], after[name])
        if change.lost:
            scored.setdefault(change.ability, []).append((score, change))
    queues = sorted(scored.values(), key=lambda found: (-len(found), found[0][1].ability))
    for queue in queues:
        queue.sort(key=lambda pair: (pair[0], pair[1].item))
    places = [(rank, number) for number, q in enumerate(queues) for rank in range(len(q))]
    chosen = sorted(sorted(places)[:at_most], key=lambda place: (place[1], place[0]))
    return [queues[number][rank][1] for rank, number in chosen], problems


def _answers(path: Path, problems: list[dict[str, str]]) -> dict[str, list[Record]]:
    rows: dict[str, list[Record]] = {}
    damaged = 0
    try:
        with path.open("rb") as file:
            for raw in file:
                try:
                    row = json.loads(raw)
                    rows.setdefault(str(row["item"]), []).append(row)
                except (ValueError, KeyError, TypeError):
                    damaged += 1
    except (OSError, ValueError):  # a name no file system takes is a ValueError
        problems.append({"code": "missing", "detail": str(path)})
    if damaged:
        problems.append({"code": "damaged", "detail": f"{path} ({damaged})"})
    return rows


def _contradicts(item: Item, rows: list[Record]) -> bool:
    passed = [parse_answer(str(r.get("text", ""))).text for r in rows if r.get("passed") == 1.0]
    return any(not check_passes(check, text) for text in passed for check in item.checks)


def _change(
    name: str, item: Item | None, before: list[Record], after: list[Record]
) -> tuple[tuple[float, ...], ItemChange]:
    """One item's losses, and a sort key that puts the worst first."""

    def mean(rows: list[Record], metric: str) -> float | None:
        known = [r[metric] for r in rows if isinstance(r.get(metric), float | int)]
        return math.fsum(known) / len(known) if known else None

    lost, harms = {}, []
    for metric, worse in _RATES.items():
        base, now = mean(before, metric), mean(after, metric)
        harm = (
            0.0 if base is None or now is None else (base - now) * (1 if worse == "lower" else -1)
        )
        harms.append(-harm)
        if harm > 0 and base is not None and now is not None:
            lost[metric] = (base, now)
    similar = (mean(after, "similarity") or 0.0) - (mean(before, "similarity") or 0.0)
    shown = min(after, key=lambda row: 1.0 if row.get("passed") is None else row["passed"])
    texts = [parse_answer(str(row.get("text", ""))).text for row in (before[0], shown)]
    failed = [c for c in item.checks if not check_passes(c, texts[1])] if item is not None else []
    dumped = [c.model_dump(mode="json", by_alias=True, exclude_defaults=True) for c in failed]
    return (*harms, similar), ItemChange(
        item=name,
        ability=item.ability if item is not None else "",
        rehearsed=item is not None and item.rehearsed,
        question=item.question[:_SHOWN_CHARACTERS] if item is not None else "",
        base=texts[0][:_SHOWN_CHARACTERS],
        now=texts[1][:_SHOWN_CHARACTERS],
        lengths=(len(texts[0]), len(texts[1])),
        lost=lost,
        failed_checks=tuple((d.pop("kind"), d) for d in dumped),
        truncated=shown.get("finish_reason") == "length",
    )
