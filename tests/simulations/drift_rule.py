"""What the drift rule promises and what it sees, by simulation: 42 streams over 50 looks.

Run: python tests/simulations/drift_rule.py null-edge --runs 1000 --out runs/drift.jsonl
     python tests/simulations/drift_rule.py all --runs 200 --out runs/drift.jsonl
     python tests/simulations/drift_rule.py table --out runs/drift.jsonl

A world has 300 items in six abilities of 50 and six metrics. Items are drawn from a population anew in every
run and shared by its looks; an item's answers churn from look to look as an AR(1) process. In `null-edge`
every stream's population harm is exactly its margin, the least favourable case; `null-half` is half of that.
In a scenario such as `all:passed:0.10` the named metric falls by that much from look 15 on, over five looks,
on all items or (`cat:`) on one ability, while all else drifts to a third of its margin. Results are appended
run by run, and what is there is not run again.
"""

import json
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy import special, stats

from guardrail.drift.rule import Budget, DriftConfig, MetricRule, MetricValues, RuleState, judge
from guardrail.ladder import Judged, LadderConfig, decide

LOOKS, ITEMS, ABILITIES, REPLICATES = 50, 300, 6, 4
ONSET, RAMP, CHURN = 15, 5, 0.95
METRICS = {
    "passed": MetricRule("lower", 0.03, 0.08, worst=0.0),
    "format": MetricRule("lower", 0.03, 0.08, worst=0.0),
    "over_refusal": MetricRule("higher", 0.03, 0.08, worst=1.0),
    "loglen": MetricRule("lower", 0.10, 0.22, clip=1.5),
    "flavour": MetricRule("higher", 0.25, 0.60, clip=4.0),
    "similarity": MetricRule("lower", 0.05, 0.12, worst=0.0),
}
RATE = {"passed": 0.85, "format": 0.92, "over_refusal": 0.03}
GROUPS = [f"ability-{i % ABILITIES}" for i in range(ITEMS)]
SCENARIOS = (
    "null-half", "all:passed:0.05", "all:passed:0.10", "all:passed:0.15", "all:passed:0.25",
    "cat:passed:0.15", "cat:passed:0.30", "cat:passed:0.50", "cat:format:0.50",
    "all:loglen:0.163", "all:loglen:0.357", "cat:loglen:0.357",
)  # fmt: skip
"""Those of Table E in the design's study of the rule, with its figures in TABLE_E."""
TABLE_E = {
    "all:passed:0.25": (100, 100, 100), "all:loglen:0.163": (63, 50, 0), "all:loglen:0.357": (100, 100, 100),
    "all:passed:0.05": (0, 0, 0), "cat:passed:0.15": (5, 0, 0), "all:passed:0.10": (87, 85, 0),
    "cat:passed:0.30": (90, 75, 33), "cat:passed:0.50": (100, 100, 100), "all:passed:0.15": (100, 100, 58),
    "cat:format:0.50": (100, 100, 100), "cat:loglen:0.357": (95, 87, 12),
}  # fmt: skip


class World:
    """The items of one run: what base says of them, and what the policy says at each look."""

    def __init__(self, seed: int, samples: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.samples = samples
        self.rate, self.base, self.mean = {}, {}, {}
        for name, mean in RATE.items():
            self.rate[name] = self.rng.beta(2 * mean, 2 * (1 - mean), ITEMS)
            drawn = self.rng.random((ITEMS, REPLICATES)) < self.rate[name][:, None]
            self.base[name] = drawn.astype(float)
        spread = {"loglen": (0.8, 0.20), "similarity": (0.12, 0.06)}
        for name, (between, within) in spread.items():
            self.mean[name] = self.rng.normal(0.6 if name == "similarity" else 5.0, between, ITEMS)
            noise = self.rng.normal(0, within, (ITEMS, REPLICATES))
            self.base[name] = self.mean[name][:, None] + noise
        # A long tail: a few answers of base are full of clichés, so that a change has one too.
        self.mean["flavour"] = self.rng.lognormal(0.0, 0.7, ITEMS)
        self.base["flavour"] = self.mean["flavour"][:, None] * self.rng.lognormal(
            0.0, 0.4, (ITEMS, REPLICATES)
        )
        self.effect = {"loglen": 0.39, "similarity": 0.09, "flavour": 0.5}
        self.latent = {m: self._fresh() for m in METRICS}

    def _fresh(self) -> np.ndarray:
        return self.rng.standard_normal((ITEMS, self.samples))

    def step(self) -> None:
        """Let the items churn."""
        for name, latent in self.latent.items():
            self.latent[name] = CHURN * latent + np.sqrt(1 - CHURN**2) * self._fresh()

    def values(self, harm: dict[str, np.ndarray]) -> dict[str, MetricValues]:
        """Return what a look measures, given each metric's mean harm of each item."""
        now = {}
        for name, mean in RATE.items():
            p = self.rate[name]
            # Harm in proportion to what can be lost keeps the population mean exact.
            q = (
                p * (1 - harm[name] / mean)
                if METRICS[name].worse == "lower"
                else p + (1 - p) * (harm[name] / (1 - mean))
            )
            above = special.ndtr(self.latent[name]) < q[:, None]
            now[name] = above.mean(axis=1)
        for name in ("loglen", "similarity"):
            moved = self.effect[name] * self.latent[name].mean(axis=1)
            now[name] = self.mean[name] - harm[name] + moved
        tail = np.exp(
            self.effect["flavour"] * self.latent["flavour"] - self.effect["flavour"] ** 2 / 2
        )
        mean_tail = np.exp(0.4**2 / 2)  # of base's replicates, so that the harm's mean is exact
        now["flavour"] = self.mean["flavour"] * mean_tail * tail.mean(axis=1) + harm["flavour"]
        return {m: MetricValues(self.base[m], now[m]) for m in METRICS}


def harms(scenario: str, look: int) -> dict[str, np.ndarray]:
    """Return each metric's mean harm of each item at one look."""
    if scenario.startswith("null"):
        share = 1.0 if scenario == "null-edge" else 0.5
        return {m: np.full(ITEMS, share * rule.margin) for m, rule in METRICS.items()}
    where, metric, size = scenario.split(":")
    found = {m: np.full(ITEMS, rule.margin / 3) for m, rule in METRICS.items()}
    inside = np.array([where == "all" or g == "ability-0" for g in GROUPS])
    ramp = min(1.0, max(0.0, (look - ONSET + 1) / RAMP))
    found[metric] = np.where(
        inside, found[metric] + ramp * (float(size) - found[metric]), found[metric]
    )
    return found


def one_run(task: tuple[str, int, int, tuple[float, ...]]) -> dict[str, Any]:
    """Return at which look the run first warned, was serious, was critical, and would have halted."""
    scenario, seed, samples, budgets = task
    world = World(seed, samples)
    config = DriftConfig(
        METRICS,
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
        values = world.values(harms(scenario, look))
        verdict, state = judge(values, GROUPS, config, state, final=look == LOOKS)
        for number, level in enumerate(("warn", "serious", "critical"), start=1):
            reached = ("ok", "warn", "serious", "critical").index(verdict.level) >= number
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
    yield "| scenario | budgets | samples | runs | warn | serious | critical | halted by the ladder | Table E |"
    yield "|" + "---|" * 9
    keys = sorted({(r["scenario"], tuple(r["budgets"]), r["samples"]) for r in rows}, key=str)
    for key in keys:
        group = [r for r in rows if (r["scenario"], tuple(r["budgets"]), r["samples"]) == key]
        cells = []
        for level in ("warn", "serious", "critical", "halt"):
            hits = [r[level] for r in group if r[level] is not None]
            if key[0].startswith("null"):
                cells.append(interval(len(hits), len(group)))
            else:
                after = [h - ONSET for h in hits if h >= ONSET]
                early = len(hits) - len(after)
                delay = f" d{statistics.median(after):g}" if after else ""
                cells.append(
                    f"{len(after) / len(group):.0%}{delay}" + (f" early {early}" if early else "")
                )
        expected = TABLE_E.get(key[0])
        cells.append("/".join(map(str, expected)) if expected else "")
        yield f"| {key[0]} | {' '.join(f'{b:g}' for b in key[1])} | {key[2]} | {len(group)} | {' | '.join(cells)} |"


def main(
    scenario: Annotated[
        str, typer.Argument(help="A scenario, `null-edge`, `all` for Table E's, or `table`.")
    ],
    out: Annotated[Path, typer.Option()] = Path("runs/drift.jsonl"),
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
    done = {(r["scenario"], r["seed"], r["samples"], tuple(r["budgets"])) for r in rows}
    chosen = SCENARIOS if scenario == "all" else (scenario,)
    tasks = [
        (s, seed, samples, split) for s in chosen for seed in range(first_seed, first_seed + runs)
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
