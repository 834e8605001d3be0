"""Which items got worse since look 0, with both answers: for a page that shows them side by side."""

import json
import math
from pathlib import Path
from typing import Any

from guardrail.judge.look_values import ChangedFile, answer_lines
from guardrail.judge.verdict import Facts
from guardrail.ledger.file import Record
from guardrail.ledger.records import LookFacts
from guardrail.probes.fluency import MACHINE_FLAVOURED, machine_flavour
from guardrail.probes.fluency_spans import Span, flavour_spans
from guardrail.probes.measure import check_passes
from guardrail.probes.metrics import METRICS
from guardrail.report.differences import window
from guardrail.report.named_items import named_items
from guardrail.report.run_data import RunData
from guardrail.sets.items import Item
from guardrail.text import parse_answer

__all__ = ["SHOWN_CHARACTERS", "Compared", "ItemChange", "Problem", "worst_items"]

SHOWN_CHARACTERS = 600
_READ_CHARACTERS = 20_000
"""What is kept of an answer: the longest shown, checked and compared."""
_LONGEST_ID = 200
_ASKED_CHARACTERS = 4_000
"""What is kept of a question: every chain of the answer is looked up in it."""
_RATES = {
    m.name: m.worse
    for m in METRICS
    if (m.worst is not None and m.name != "similarity") or m.name == "fluency"
}


class Flavour(Facts):
    """The machine flavour of one answer: points per 100 characters, and where it stands in the shown text."""

    score: float
    parts: dict[str, float]
    spans: tuple[tuple[int, int, str], ...]


class ItemChange(Facts):
    """One red-line item that does worse than at look 0; texts are cut, `lengths` are whole."""

    item: str
    ability: str
    """Empty where the red-line items cannot be read."""
    rehearsed: bool
    question: str
    base: str
    now: str
    starts: tuple[int, int]
    """Characters left out before `base` and `now`: the same in both, up to shortly before they differ."""
    lengths: tuple[int, int]
    lost: dict[str, tuple[float, float]]
    """Metric → mean at look 0 and now, where it got worse."""
    failed_checks: tuple[tuple[str, dict[str, Any]], ...]
    """Kind and parameters of the checks that the shown answer fails."""
    truncated: bool
    """Whether the shown answer ran into the length limit."""
    flavour: Flavour | None
    """Machine flavour of the answer now, where it reads machine-made."""


class Problem(Facts):
    """What kept items from being read.

    `code` is only_look_zero, missing, damaged, rewritten (not the answers the look wrote), red_line or changed (an
    answer recorded as passed fails the item's checks of today).
    """

    code: str
    detail: str = ""


class Compared(Facts):
    """Look 0 and the newest look, item by item."""

    items: tuple[ItemChange, ...] = ()
    """The worst, grouped by ability; rehearsed ones last."""
    problems: tuple[Problem, ...] = ()
    rehearsed: int = 0
    """How many red-line items stand in the rehearsal set too."""


def worst_items(data: RunData, at_most: int = 24) -> Compared:
    """Return the items that got worst, and what kept items from being read.

    Every ability with losses gets its share of the places in turn; the ability with most losses comes
    first, and within it the worst item. Rehearsed items have places of their own, six at most.
    """
    problems: list[Problem] = []
    if len(data.looks) < 2:
        return Compared(problems=(Problem(code="only_look_zero"),))
    before = _answers(data.run, data.looks[0], problems)
    after = _answers(data.run, data.looks[-1], problems)
    items: dict[str, Item] = {}
    try:
        items = {item.id: item for item in named_items(data, "red_line")}
    except (OSError, ValueError) as error:
        problems.append(Problem(code="red_line", detail=str(error)[:500]))
    stale = [n for n in before.keys() & items.keys() if _contradicts(items[n], before[n])]
    if stale:
        named = ", ".join(sorted(stale)[:3])
        problems.append(Problem(code="changed", detail=f"{named} ({len(stale)})"))
    judged: dict[str, list[tuple[tuple[float, ...], str]]] = {}
    rehearsed: list[tuple[tuple[float, ...], str]] = []
    for name in before.keys() & after.keys():
        item, lost = items.get(name), _lost(before[name], after[name])
        if lost:
            ability = item.ability if item else ""
            scored = (_badness(lost, before[name], after[name]), name)
            (rehearsed if item and item.rehearsed else judged.setdefault(ability, [])).append(
                scored
            )
    queues = sorted(judged.items(), key=lambda found: (-len(found[1]), found[0]))
    ordered = [sorted(queue) for _, queue in queues]
    places = [(rank, number) for number, q in enumerate(ordered) for rank in range(len(q))]
    chosen = sorted(sorted(places)[:at_most], key=lambda place: (place[1], place[0]))
    names = [ordered[number][rank][1] for rank, number in chosen]
    names += [name for _, name in sorted(rehearsed)[:6]]
    return Compared(
        items=tuple(_change(n, items.get(n), before[n], after[n]) for n in names),
        problems=tuple(problems),
        rehearsed=sum(item.rehearsed for item in items.values()),
    )


def _answers(run: Path, look: LookFacts, problems: list[Problem]) -> dict[str, list[Record]]:
    rows: dict[str, list[Record]] = {}
    damaged, name = 0, look.answers
    try:
        lines = answer_lines(run, name, look.answers_sha256)
    except ChangedFile as error:
        problems.append(Problem(code="rewritten", detail=str(error)))
        return {}
    except (OSError, ValueError):  # a name no file system takes is a ValueError
        problems.append(Problem(code="missing", detail=f"{run / name!s:.300}"))
        return {}
    for raw in lines:
        if not raw.strip():
            continue
        try:
            row = json.loads(raw, parse_constant=lambda _: None)
            text = parse_answer(str(row.get("text", ""))).text
            row |= {"text": text[:_READ_CHARACTERS], "length": len(text)}
            rows.setdefault(str(row["item"])[:_LONGEST_ID], []).append(row)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            damaged += 1
    if damaged:
        problems.append(Problem(code="damaged", detail=f"{run / name} ({damaged})"))
    return rows


def _contradicts(item: Item, rows: list[Record]) -> bool:
    passed = [r["text"] for r in rows if r.get("passed") == 1.0 and r["length"] <= _READ_CHARACTERS]
    return any(not check_passes(check, text) for text in passed for check in item.checks)


def _mean(rows: list[Record], metric: str) -> float | None:
    known = [r[metric] for r in rows if isinstance(r.get(metric), float | int)]
    return math.fsum(known) / len(known) if known else None


def _lost(before: list[Record], after: list[Record]) -> dict[str, tuple[float, float]]:
    lost = {}
    for metric, worse in _RATES.items():
        base, now = _mean(before, metric), _mean(after, metric)
        if base is None or now is None:
            continue
        harm = base - now if worse == "lower" else now - base
        # A machine flavour of the margin's size is no loss that a reader would see in one answer.
        if harm > (0.5 if metric == "fluency" else 0.0):
            lost[metric] = (base, now)
    return lost


def _badness(
    lost: dict[str, tuple[float, float]], before: list[Record], after: list[Record]
) -> tuple[float, ...]:
    """A sort key that puts the worst first: what was lost, then how far the answer moved."""
    harms = [-abs(lost[m][0] - lost[m][1]) if m in lost else 0.0 for m in _RATES]
    return (*harms, (_mean(after, "similarity") or 0.0) - (_mean(before, "similarity") or 0.0))


def _change(name: str, item: Item | None, before: list[Record], after: list[Record]) -> ItemChange:
    shown = min(after, key=lambda row: 1.0 if row.get("passed") is None else row["passed"])
    base, now = before[0]["text"], shown["text"]
    cut_base, cut_now = window(base, now, SHOWN_CHARACTERS)
    failed = [c for c in item.checks if not check_passes(c, now)] if item is not None else []
    dumped = [c.model_dump(mode="json", by_alias=True, exclude_defaults=True) for c in failed]
    lost = _lost(before, after)
    prose = shown.get("fluency") is not None
    return ItemChange(
        item=name,
        ability=item.ability if item is not None else "",
        rehearsed=item is not None and item.rehearsed,
        question=item.question[:SHOWN_CHARACTERS] if item is not None else "",
        base=cut_base.text,
        now=cut_now.text,
        starts=(cut_base.start, cut_now.start),
        lengths=(before[0]["length"], shown["length"]),
        lost=lost,
        failed_checks=tuple((d.pop("kind"), d) for d in dumped),
        truncated=shown.get("finish_reason") == "length",
        flavour=_flavour(item, now, cut_now.start) if item is not None and prose else None,
    )


def _flavour(item: Item, now: str, start: int) -> Flavour | None:
    asked = item.asked[:_ASKED_CHARACTERS]
    found = machine_flavour(asked, now)
    if found.score < MACHINE_FLAVOURED:
        return None

    def inside(span: Span) -> bool:
        return start <= span.start and span.end <= start + SHOWN_CHARACTERS

    spans = [s for s in flavour_spans(asked, now, found) if inside(s)]
    return Flavour(
        score=round(found.score, 3),
        parts={k: round(v, 3) for k, v in found.parts.items() if v > 0},
        spans=tuple((s.start - start, s.end - start, s.part) for s in spans),
    )
