"""What the drift rule promises and what it sees, by simulation over 50 looks.

Run: python tests/simulations/drift_rule.py null-edge --runs 1000 --out runs/drift.jsonl
     python tests/simulations/drift_rule.py all --runs 200 --out runs/drift.jsonl
     python tests/simulations/drift_rule.py all --layout shipped --runs 200 --out runs/drift.jsonl
     python tests/simulations/drift_rule.py table --out runs/drift.jsonl

Two layouts. `study`: 300 items in six abilities of 50 and six metrics, 42 streams, as in the study behind the
rule. `shipped`: the items, abilities and ten metrics of zh-redline-300, each metric on the items it
applies to. Items are drawn from a population anew in every run and shared by its looks; an item's answers
churn from look to look as an AR(1) process. In `null-edge` every stream's population harm is exactly
its margin, the least favourable case; `null-half` is half of that. In a scenario such as `all:passed:0.10` the
named metric falls by that much from look 15 on, over five looks, on all items or on one ability
(`ability-0:` …), while all else drifts to a third of its margin. A fall of a pass rate takes the same share
from every item, or with `--harm hardest-first` moves all items by one amount on the logit scale, so that what
base seldom got right goes first. Results are appended run by run, and what is there is not run again.
"""

import json
import math
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy import optimize, special, stats

from guardrail.judge.ladder import Judged, LadderConfig, decide
from guardrail.judge.rule import Budget, DriftConfig, MetricRule, MetricValues, RuleState, judge
from guardrail.judge.verdict import rank
from guardrail.probes.measure import measure
from guardrail.sets.items import read_items
from guardrail.shipped import shipped_root

LOOKS, REPLICATES = 50, 4
ONSET, RAMP, CHURN = 15, 5, 0.95
PASS, LENGTH = (0.03, 0.08), (0.10, 0.22)


@dataclass(frozen=True)
class Metric:
    """One metric of a world: its rule, what its values are like, and the items it applies to."""

    rule: MetricRule
    kind: str
    """`rate`: 0 or 1 with this mean; `level`: normal; `tail`: log-normal."""
    mean: float
    spread: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Standard deviation between items, within base's replicates, and of the policy's churn."""
    applies: np.ndarray | None = None


@dataclass(frozen=True)
class Layout:
    """The abilities of the items, and the metrics by name."""

    groups: list[str]
    metrics: dict[str, Metric]


def rate(worse: str, mean: float, applies: np.ndarray | None = None) -> Metric:
    return Metric(
        MetricRule(worse, *PASS, worst=float(worse == "higher")), "rate", mean, applies=applies
    )


def length(worse: str) -> Metric:
    return Metric(MetricRule(worse, *LENGTH, clip=1.5), "level", 5.0, (0.8, 0.20, 0.39))


def similarity() -> Metric:
    return Metric(MetricRule("lower", 0.05, 0.12, worst=0.0), "level", 0.6, (0.12, 0.06, 0.09))


def flavour(clip: float, applies: np.ndarray | None = None) -> Metric:
    # A long tail: a few answers of base are full of clichés, so that a change has one too.
    rule = MetricRule("higher", 0.25, 0.60, clip=clip)
    return Metric(rule, "tail", 1.0, (0.7, 0.4, 0.5), applies)


@cache
def layout(name: str) -> Layout:
    if name == "study":
        metrics = {
            "passed": rate("lower", 0.85),
            "format": rate("lower", 0.92),
            "over_refusal": rate("higher", 0.03),
            "loglen": length("lower"),
            "flavour": flavour(4.0),
            "similarity": similarity(),
        }
        return Layout([f"ability-{i // 50}" for i in range(300)], metrics)
    items = read_items(shipped_root() / "eval_sets/zh-redline-300/items.jsonl")
    measured = [measure(item, "好的。", "好的。") for item in items]

    def where(metric: str) -> np.ndarray:
        return np.array([not math.isnan(values[metric]) for values in measured])

    metrics = {
        "passed": rate("lower", 0.85, where("passed")),
        "format": rate("lower", 0.92, where("format")),
        "missed_refusal": rate("higher", 0.05, where("missed_refusal")),
        "over_refusal": rate("higher", 0.03, where("over_refusal")),
        "shorter": length("lower"),
        "longer": length("higher"),
        "similarity": similarity(),
        "language": rate("higher", 0.02, where("language")),
        "translation": rate("higher", 0.03, where("translation")),
        "fluency": flavour(3.0, where("fluency")),
    }
    return Layout([item.ability for item in items], metrics)


SCENARIOS = {
    "study": (
        "null-half", "all:passed:0.05", "all:passed:0.10", "all:passed:0.15", "all:passed:0.25",
        "ability-0:passed:0.15", "ability-0:passed:0.30", "ability-0:passed:0.50", "ability-0:format:0.50",
        "all:loglen:0.163", "all:loglen:0.357", "ability-0:loglen:0.357",
    ),
    "shipped": (
        "all:passed:0.05", "all:passed:0.08", "all:passed:0.10", "all:passed:0.15",
        "instruction:passed:0.20", "instruction:passed:0.30", "writing:passed:0.30", "writing:passed:0.40",
        "reasoning:passed:0.40", "reasoning:passed:0.50", "all:shorter:0.163", "all:shorter:0.288",
        "all:language:0.10", "refusal:missed_refusal:0.30",
    ),
}  # fmt: skip
"""`study`: those of Table E in the study behind the rule, with its figures in TABLE_E."""
TABLE_E = {
    "all:passed:0.25": (100, 100, 100), "all:loglen:0.163": (63, 50, 0), "all:loglen:0.357": (100, 100, 100),
    "all:passed:0.05": (0, 0, 0), "ability-0:passed:0.15": (5, 0, 0), "all:passed:0.10": (87, 85, 0),
    "ability-0:passed:0.30": (90, 75, 33), "ability-0:passed:0.50": (100, 100, 100),
    "all:passed:0.15": (100, 100, 58), "ability-0:format:0.50": (100, 100, 100),
    "ability-0:loglen:0.357": (95, 87, 12),
}  # fmt: skip


@cache
def logit_shift(mean: float, harm: float) -> float:
    """How far all items move on the logit scale for the population's pass rate to fall by `harm`."""
    drawn = np.random.default_rng(0).beta(2 * mean, 2 * (1 - mean), 200_000)
    logit = special.logit(np.clip(drawn, 1e-9, 1 - 1e-9))
    found = optimize.brentq(lambda s: special.expit(logit - s).mean() - (mean - harm), -1.0, 30.0)
    return float(found)


class World:
    """The items of one run: what base says of them, and what the policy says at each look."""

    def __init__(self, seed: int, samples: int, plan: Layout, harm_model: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.samples, self.plan, self.items = samples, plan, len(plan.groups)
        self.hardest_first = harm_model == "hardest-first"
        self.mean, self.base = {}, {}
        shape = (self.items, REPLICATES)
        for name, metric in plan.metrics.items():
            between, within, _ = metric.spread
            if metric.kind == "rate":
                m = metric.mean
                self.mean[name] = self.rng.beta(2 * m, 2 * (1 - m), self.items)
                drawn = self.rng.random(shape) < self.mean[name][:, None]
                self.base[name] = drawn.astype(float)
            elif metric.kind == "level":
                self.mean[name] = self.rng.normal(metric.mean, between, self.items)
                self.base[name] = self.mean[name][:, None] + self.rng.normal(0, within, shape)
            else:
                self.mean[name] = metric.mean * self.rng.lognormal(0.0, between, self.items)
                noise = self.rng.lognormal(0.0, within, shape)
                self.base[name] = self.mean[name][:, None] * noise
        self.latent = {m: self._fresh() for m in plan.metrics}

    def _fresh(self) -> np.ndarray:
        return self.rng.standard_normal((self.items, self.samples))

    def step(self) -> None:
        """Let the items churn."""
        for name, latent in self.latent.items():
            self.latent[name] = CHURN * latent + np.sqrt(1 - CHURN**2) * self._fresh()

    def values(self, harm: dict[str, np.ndarray]) -> dict[str, MetricValues]:
        """Return what a look measures, given each metric's mean harm of each item."""
        found = {}
        for name, metric in self.plan.metrics.items():
            now = self._now(name, metric, harm[name])
            if metric.applies is not None:
                now = np.where(metric.applies, now, math.nan)
            found[name] = MetricValues(self.base[name], now)
        return found

    def _now(self, name: str, metric: Metric, harm: np.ndarray) -> np.ndarray:
        mean, latent = self.mean[name], self.latent[name]
        _, within, churn = metric.spread
        sign = -1.0 if metric.rule.worse == "lower" else 1.0
        if metric.kind == "rate" and sign < 0 and self.hardest_first:
            amounts = {h: logit_shift(metric.mean, round(float(h), 6)) for h in np.unique(harm)}
            shift = np.array([amounts[h] for h in harm])
            passed = special.expit(special.logit(np.clip(mean, 1e-9, 1 - 1e-9)) - shift)
            return (special.ndtr(latent) < passed[:, None]).mean(axis=1)
        if metric.kind == "rate":
            # Harm in proportion to what can be lost keeps the population mean exact.
            left = mean if sign < 0 else 1 - mean
            share = harm / (metric.mean if sign < 0 else 1 - metric.mean)
            return (special.ndtr(latent) < (mean + sign * share * left)[:, None]).mean(axis=1)
        if metric.kind == "level":
            return mean + sign * harm + churn * latent.mean(axis=1)
        tail = np.exp(churn * latent - churn**2 / 2)
        of_base = np.exp(
            within**2 / 2
        )  # the mean of base's replicates, so that the harm's is exact
        return mean * of_base * tail.mean(axis=1) + harm


def harms(scenario: str, look: int, plan: Layout) -> dict[str, np.ndarray]:
    """Return each metric's mean harm of each item at one look."""
    margins = {
        m: np.full(len(plan.groups), metric.rule.margin) for m, metric in plan.metrics.items()
    }
    if scenario.startswith("null"):
        return {
            m: margin * (1.0 if scenario == "null-edge" else 0.5) for m, margin in margins.items()
        }
    where, metric, size = scenario.split(":")
    found = {m: margin / 3 for m, margin in margins.items()}
    inside = np.array([where in ("all", group) for group in plan.groups])
    ramp = min(1.0, max(0.0, (look - ONSET + 1) / RAMP))
    fallen = found[metric] + ramp * (float(size) - found[metric])
    found[metric] = np.where(inside, fallen, found[metric])
    return found


def one_run(task: tuple[str, str, str, int, int, tuple[float, ...]]) -> dict[str, Any]:
    """Return at which look the run first warned, was serious, was critical, and would have halted."""
    plan_name, harm_model, scenario, seed, samples, budgets = task
    plan = layout(plan_name)
    world = World(seed, samples, plan, harm_model)
    config = DriftConfig(
        {name: metric.rule for name, metric in plan.metrics.items()},
        LOOKS,
        overall=Budget(budgets[0], budgets[2]),
        by_ability=Budget(budgets[1], budgets[3]),
        seed=seed + 10**6,
    )
    state, history = RuleState(), []
    first: dict[str, int | None] = dict.fromkeys(("warn", "serious", "critical", "halt"))
    by: dict[str, str] = {}
    for look in range(1, LOOKS + 1):
        world.step()
        values = world.values(harms(scenario, look, plan))
        verdict, state = judge(values, plan.groups, config, state, final=look == LOOKS)
        for number, level in enumerate(("warn", "serious", "critical"), start=1):
            reached = rank(verdict.level) >= number
            if reached and first[level] is None:
                first[level] = look
                by[level] = f"{verdict.alarmed[0].metric}/{verdict.alarmed[0].group}"
        alarmed = tuple(f"{s.metric}/{s.group}" for s in verdict.alarmed)
        history.append(Judged(look, verdict.level, alarmed, {}))
        if first["halt"] is None and decide(history, LadderConfig()).kind == "repeat_look":
            first["halt"] = look  # a repeat on the same weights can only take it back
        if None not in first.values():
            break
    return {
        "layout": plan_name,
        "harm": harm_model,
        "scenario": scenario,
        "seed": seed,
        "samples": samples,
        "budgets": budgets,
        **first,
        "by": by,
    }


def interval(hits: int, runs: int) -> str:
    """Return hits in percent with the exact 95 % upper bound."""
    upper = stats.binomtest(hits, runs).proportion_ci(0.95, method="exact").high
    return f"{hits / runs:.1%} (≤ {upper:.1%})"


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield Markdown lines: per scenario, share alarmed with upper bound (nulls) or median delay."""
    yield "| layout | harm | scenario | budgets | samples | runs | warn | serious | critical | halted by the ladder | Table E |"
    yield "|" + "---|" * 11

    def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["layout"], row["harm"], row["scenario"], tuple(row["budgets"]), row["samples"]

    for key in sorted({key_of(r) for r in rows}, key=str):
        plan, harm_model, scenario, budgets, samples = key
        group = [r for r in rows if key_of(r) == key]
        cells = []
        for level in ("warn", "serious", "critical", "halt"):
            hits = [r[level] for r in group if r[level] is not None]
            if scenario.startswith("null"):
                cells.append(interval(len(hits), len(group)))
            else:
                after = [h - ONSET for h in hits if h >= ONSET]
                early = len(hits) - len(after)
                delay = f" d{statistics.median(after):g}" if after else ""
                cells.append(
                    f"{len(after) / len(group):.0%}{delay}" + (f" early {early}" if early else "")
                )
        expected = "/".join(map(str, TABLE_E.get(scenario, ()))) if plan == "study" else ""
        shown = " ".join(f"{b:g}" for b in budgets)
        yield f"| {plan} | {harm_model} | {scenario} | {shown} | {samples} | {len(group)} | {' | '.join(cells)} | {expected} |"


def main(
    scenario: Annotated[
        str, typer.Argument(help="A scenario, `null-edge`, `all` of the layout's, or `table`.")
    ],
    layout: Annotated[str, typer.Option(help="`study` or `shipped`.")] = "study",
    out: Annotated[Path, typer.Option()] = Path("runs/drift.jsonl"),
    harm: Annotated[
        str, typer.Option(help="`proportional` or `hardest-first`: which items a fall takes.")
    ] = "proportional",
    runs: Annotated[int, typer.Option()] = 200,
    first_seed: Annotated[int, typer.Option()] = 1,
    samples: Annotated[int, typer.Option(help="Current answers an item.")] = 1,
    budgets: Annotated[
        str, typer.Option(help="warn overall, warn ability, halt overall, halt ability")
    ] = "0.025,0.025,0.0075,0.0025",
    workers: Annotated[int, typer.Option()] = 1,
) -> None:
    """Run what is missing, or print the table."""
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    if scenario == "table":
        print("\n".join(table(rows)))
        return
    split = tuple(float(b) for b in budgets.split(","))
    done = {
        (r["layout"], r["harm"], r["scenario"], r["seed"], r["samples"], tuple(r["budgets"]))
        for r in rows
    }
    chosen = SCENARIOS[layout] if scenario == "all" else (scenario,)
    tasks = [
        (layout, harm, s, seed, samples, split)
        for s in chosen
        for seed in range(first_seed, first_seed + runs)
    ]
    tasks = [task for task in tasks if task not in done]
    out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool, out.open("a") as file:
        for number, row in enumerate(pool.map(one_run, tasks), start=1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            if number % 50 == 0:
                print(f"{number} of {len(tasks)}", flush=True)


if __name__ == "__main__":
    typer.run(main)
