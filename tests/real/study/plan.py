"""Which cells the study has, in order; those of equal domain loss follow from the sweep before them."""

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.study.arms import ARMS, FIRST, MAIN, SINGLE, WATCHED

SEEDS = (0, 1, 2)
SAME = 0.01
"""Nats a token within which two domain losses count as equal; seeds differ by more."""


@dataclass(frozen=True, slots=True)
class Cell:
    arm: str
    rate: float
    seed: int
    quick: bool = False


def rows_of(study: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(study.glob("cells/*.json"))]


def rate_of(study: Path) -> float:
    """Return the study's own rate, which SFT alone has."""
    return float(json.loads((study / "study.json").read_text())["rate"])


def equal_rate(points: list[tuple[float, float]], target: float) -> tuple[float, bool]:
    """Return the rate at which an arm's domain loss meets `target`, and whether it does within the sweep.

    Between two rates the loss is taken to be straight in the logarithm of the rate; of several crossings the one at
    the lowest rate counts. Where none crosses, the rate that comes nearest is returned.

    Args:
        points: (rate, domain loss), at least one.
        target: Domain loss to meet.
    """
    ordered = sorted(points)
    for (low, above), (high, below) in itertools.pairwise(ordered):
        if min(above, below) <= target <= max(above, below):
            part = 0.0 if above == below else (above - target) / (above - below)
            return math.exp((1 - part) * math.log(low) + part * math.log(high)), True
    rate, loss = min(ordered, key=lambda point: abs(point[1] - target))
    return rate, loss == target


def target_loss(rows: list[dict[str, Any]], rate: float) -> float | None:
    """Return the domain loss of SFT alone at the study's own rate with seed 0, once that cell is done."""
    for row in rows:
        if (row["arm"], row["seed"], f"{row['rate']:.2e}") == ("nothing", 0, f"{rate:.2e}"):
            return float(row["domain"]["loss"])
    return None


def equal_rates(rows: list[dict[str, Any]], rate: float) -> dict[str, dict[str, Any]]:
    """Return each main arm's rate of equal domain loss, as far as its sweep is done.

    The target is `target_loss`. A rate that has been tried and meets it within
    `SAME` is taken, and the arm is swept no further.
    """
    swept = [row for row in rows if row["arm"] in MAIN and row["seed"] == 0]
    by_arm: dict[str, dict[float, float]] = {}
    for row in swept:
        by_arm.setdefault(row["arm"], {})[row["rate"]] = row["domain"]["loss"]
    target = target_loss(rows, rate)
    found: dict[str, dict[str, Any]] = {}
    for name, arm in ((name, arm) for name, arm in MAIN.items() if arm.rate_of is None):
        wanted = {f"{factor * rate:.2e}" for factor in arm.factors}
        points = {r: v for r, v in by_arm.get(name, {}).items() if f"{r:.2e}" in wanted}
        if target is None:
            continue
        near = [r for r, loss in points.items() if abs(loss - target) <= SAME]
        if near or len(points) == len(wanted):
            own, met = (min(near), True) if near else equal_rate(list(points.items()), target)
            found[name] = {"rate": float(f"{own:.2e}"), "met": met, "target": target}
    same = {name: found[arm.rate_of] for name, arm in MAIN.items() if arm.rate_of in found}
    return found | same


def cells(study: Path, *, one_each: bool = False) -> Iterator[Cell]:
    """Yield what is to be done, as far as it follows from what is done; ask again after each cell."""
    rate = rate_of(study)
    yield Cell("base", 0.0, 0)
    if one_each:
        yield from (Cell(name, (arm.factors or (1.0,))[-1] * rate, 0) for name, arm in ARMS.items())
        return
    equal = equal_rates(rows_of(study), rate)
    yield from (Cell(name, rate, 0) for name, arm in MAIN.items() if 1.0 in arm.factors)
    for name, arm in MAIN.items():
        if arm.averaged and "nothing" not in equal:
            continue  # its share is found by the target
        if name not in equal or name == "nothing":
            yield from (Cell(name, f * rate, 0, quick=True) for f in arm.factors if f != 1.0)
    for seed in SEEDS:
        for name in MAIN:
            if name in equal:
                yield Cell(name, equal[name]["rate"], seed)
        if seed == 0:
            yield from (Cell(name, f * rate, 0) for name in FIRST for f in SINGLE[name].factors)
    for seed in SEEDS:
        yield from (
            Cell(name, factor * rate, seed, quick=True)
            for name, arm in WATCHED.items()
            for factor in arm.factors
            if seed == 0 or name != "watched-own"  # no false-alarm test, as its first seed showed
        )
    yield Cell("base", 0.0, 1)  # on the second domain
    for name, arm in SINGLE.items():
        if arm.rate_of is None:
            yield from (Cell(name, factor * rate, 0) for factor in arm.factors)
        elif arm.rate_of in equal:
            yield Cell(name, equal[arm.rate_of]["rate"], 0)
