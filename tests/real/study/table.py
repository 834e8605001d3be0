"""The study's tables in Markdown and its picture, from the cells that are done.

Run: python -m tests.real.study.table --study runs/study
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import numpy as np
import typer

from tests.real.study.arms import ARMS, MAIN, WATCHED
from tests.real.study.guarding_table import cost_table, detection_table
from tests.real.study.plan import equal_rates, rate_of, rows_of

T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t, two-sided 95 %, by number of seeds."""

DRAWN = {
    "nothing": "SFT alone",
    "ce-golds": "cross-entropy on golds",
    "kl3": "KL-only, short golds",
    "kl3-general": "KL-only, long golds",
    "kl3-ladder": "KL-only and ladder",
    "task-kl": "KL on the task's rows",
    "slow": "½ rate, 2 × steps",
    "slow-kl3": "½ rate, 2 × steps, KL-only",
    "averaged": "averaged with base",
}
"""Arms of the picture, and what it calls them."""
COLOURS = (
    *("#444444", "#b3541e", "#4caf7d", "#1f6f54", "#9c27b0"),
    *("#6a4c93", "#2196f3", "#0d3b86", "#e0a800"),
)

Row = dict[str, Any]
Measure = tuple[str, Callable[[Row], float], int]


def measures(base: Row) -> list[Measure]:
    """Return column heading, value against base, digits."""

    def less(path: tuple[str, str]) -> Callable[[Row], float]:
        return lambda row: row[path[0]][path[1]] - base[path[0]][path[1]]

    return [
        ("domain loss", less(("domain", "loss")), 3),
        ("others' answers", less(("others", "loss")), 3),
        ("passed", lambda row: row["passed"]["all"], 3),
        ("KL there", lambda row: row["others"].get("kl", 0.0), 3),
        ("KL on domain", lambda row: row["domain"].get("kl", 0.0), 3),
        ("language faults", lambda row: row["language_faults"], 3),
        ("字", lambda row: row["characters"], 1),
        ("min", lambda row: row["spent"].get("training", 0.0) / 60, 1),
        ("GB", lambda row: row["spent"]["peak_gb"], 1),
    ]


def spread(values: list[float], digits: int) -> str:
    """Return mean and half the width of its 95 % interval over seeds; the value alone for one seed."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    half = T95.get(len(values), 2.0) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.{digits}f} ± {half:.{digits}f}"


def kind_of(item: str) -> str:
    """Return the kind of task of an item of zh-easy-200, which its id ends with."""
    return item.split("-", 4)[-1]


def passed_interval(arm: list[Row], other: list[Row]) -> tuple[float, float, float]:
    """Return how much more of the items one arm passes than another, with a 95 % interval over kinds of task.

    A model that answers one kind in another form loses all of its items at once, so kinds are drawn again, 2,000 times, with their
    items, the same for both arms; an item's value is its mean over seeds. Seeds are not drawn again: three say little of their spread.
    """
    kinds: dict[str, list[float]] = defaultdict(list)
    for item in sorted(arm[0]["passed_items"]):
        values = (fmean(r["passed_items"][item] for r in rows) for rows in (arm, other))
        kinds[kind_of(item)].append(next(values) - next(values))
    sums = np.array([sum(values) for values in kinds.values()])
    counts = np.array([len(values) for values in kinds.values()])
    drawn = np.random.default_rng(0).integers(0, len(sums), (2000, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(sums.sum() / counts.sum()), float(low), float(high)


def passed_by_kind(groups: dict[str, list[Row]], base: Row) -> str:
    """Return the share of items passed of each kind of task, the mean over seeds, and the least and most of any seed."""
    kinds = [kind for kind in base["passed"] if kind != "all"]
    lines = ["| arm | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for name, rows in {"base": [base], **groups}.items():
        cells = []
        for kind in kinds:
            values = [row["passed"][kind] for row in rows]
            among = f" ({min(values):.2f}–{max(values):.2f})" if len(values) > 1 else ""
            cells.append(f"{fmean(values):.2f}{among}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def acted(row: Row) -> str:
    trained = row["trained"]
    actions = [
        f"{action}@{step}" for step, action in trained.get("actions", []) if action != "none"
    ]
    ended = [f"ended@{trained['steps']}"] if trained.get("halted") else []
    return ", ".join([*actions, *ended])


def table(groups: dict[str, list[Row]], base: Row) -> str:
    columns = measures(base)
    lines = [
        "| arm | rate | seeds | " + " | ".join(name for name, *_ in columns) + " | acted |",
        "|---" * (len(columns) + 4) + "|",
    ]
    own = "| base | | | 0 | 0 | "
    own += f"{base['passed']['all']:.3f} | 0 | 0 | {base['language_faults']:.3f} | {base['characters']:.1f} | | | |"
    lines.append(own)
    for name, rows in groups.items():
        values = [spread([value(row) for row in rows], digits) for _, value, digits in columns]
        rates = ", ".join(sorted({f"{row['rate']:.1e}" for row in rows}))
        did = "; ".join(filter(None, map(acted, rows)))
        seeds = len({row["seed"] for row in rows})
        lines.append(f"| {name} | {rates} | {seeds} | {' | '.join(values)} | {did} |")
    return "\n".join(lines)


def frontier(rows: list[Row], base: Row) -> str:
    """Return an SVG: domain loss to the left is learnt, others' loss downwards is kept.

    A circle a run, a line an arm through the means of its rates. Empty where there is no run.
    """
    points: dict[str, dict[float, list[tuple[float, float]]]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: row["rate"]):
        if row["arm"] in DRAWN:
            at = row["domain"]["loss"] - base["domain"]["loss"]
            kept = row["others"]["loss"] - base["others"]["loss"]
            points[row["arm"]].setdefault(row["rate"], []).append((at, kept))
    every = [point for arm in points.values() for group in arm.values() for point in group]
    if not every:
        return ""
    lowest, highest = min(0.0, *(y for _, y in every)), max(0.001, *(y for _, y in every))
    left, right = min(x for x, _ in every), max(x for x, _ in every)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = 70 + 480 * (point[0] - left) / max(1e-9, right - left)
        return x, 330 - 290 * (point[1] - lowest) / (highest - lowest)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 380" font-family="sans-serif" font-size="13">',
        '<rect width="800" height="380" fill="#fff"/>',
        '<text x="310" y="372" text-anchor="middle">change of held-out domain loss, nats a token (left: more learnt)</text>',
        '<text x="16" y="185" transform="rotate(-90 16 185)" text-anchor="middle">lost on others\' answers, nats a token</text>',
    ]
    for y in sorted({lowest, 0.0, highest}):
        height, shown = place((left, y))[1], y or 0.0
        label = "base" if y == 0 else f"{shown:+.2f}"
        if y == 0 or abs(height - place((left, 0.0))[1]) > 12:
            parts.append(
                f'<path d="M70 {height:.1f}H550" stroke="{"#888" if y == 0 else "#ddd"}"/>'
                f'<text x="64" y="{height + 4:.1f}" text-anchor="end">{label}</text>'
            )
    for x in (left, right):
        parts.append(
            f'<text x="{place((x, 0))[0]:.1f}" y="352" text-anchor="middle">{x:+.2f}</text>'
        )
    for number, name in enumerate(name for name in DRAWN if name in points):
        colour, rates = COLOURS[number % len(COLOURS)], points[name]
        means = [tuple(map(fmean, zip(*group, strict=True))) for group in rates.values()]
        path = " ".join("{:.1f},{:.1f}".format(*place(mean)) for mean in means)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in (point for group in rates.values() for point in group):
            x, y = place(point)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" stroke="#fff"/>'
            )
        top = 56 + 24 * number
        parts.append(f'<circle cx="578" cy="{top - 4}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="590" y="{top}">{DRAWN[name]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main(study: Annotated[Path, typer.Option(help="folder of the study")]) -> None:
    """Print the tables, and write them to OUT/tables.md, the picture to OUT/frontier.svg, all rows to OUT/cells.jsonl."""
    rows = rows_of(study)
    bases = {row["seed"]: row for row in rows if row["arm"] == "base"}
    if 0 not in bases:
        raise SystemExit("the base is not evaluated yet; run the plan")
    whole = [row for row in rows if "passed" in row and row["arm"] != "base"]
    equal = equal_rates(rows, rate_of(study))
    kept: dict[str, list[Row]] = defaultdict(list)
    for name in ARMS:
        wanted = equal.get(name, {}).get("rate")
        for row in whole:
            if row["arm"] == name and (name not in MAIN or wanted in (None, row["rate"])):
                kept[name].append(row)
    out = []
    for domain, number in (("medical", 0), ("finance", 1)):
        groups = {n: r for n, r in kept.items() if r and ARMS[n].domain == domain}
        if groups and number in bases:
            out += [f"### {domain}", "", table(groups, bases[number]), ""]
            out += ["Passed by kind of task:", "", passed_by_kind(groups, bases[number]), ""]
    if reference := kept.get("ce-golds"):
        out += ["Items passed, less those of `ce-golds` (95 % over kinds of task):", ""]
        for name, group in kept.items():
            if group and name != "ce-golds" and ARMS[name].domain == "medical":
                mean, low, high = passed_interval(group, reference)
                out.append(f"- {name}: {mean:+.3f} ({low:+.3f} to {high:+.3f})")
        out.append("")
    watched = {name: [r for r in rows if r["arm"] == name] for name in WATCHED}
    if any(watched.values()):
        out += ["### When the guard spoke", "", detection_table(watched, bases[0]), ""]
    every = {name: [r for r in rows if r["arm"] == name] for name in ARMS}
    out += ["### What guarding cost", "", cost_table(every), ""]
    out.append("Rates of equal domain loss: " + json.dumps(equal))
    text = "\n".join(out)
    (study / "tables.md").write_text(text + "\n", "utf-8")
    (study / "frontier.svg").write_text(frontier(rows, bases[0]), "utf-8")
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (study / "cells.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    print(text)


if __name__ == "__main__":
    typer.run(main)
