"""The rule of the study behind the drift rule, in the worlds of `drift_rule.py`: is a difference rule or world?

Run: python tests/simulations/study_rule.py ability-0:passed:0.30 --harm hardest-first --runs 200

It differs from `guardrail.judge` in what the study says of itself: normal multipliers, the guarded z alone, 4000
draws, and at a look without budget the last boundary once more.
"""

import json
import math
import statistics
from typing import Annotated

import numpy as np
import typer
from drift_rule import LOOKS, ONSET, World, harms, layout

from guardrail.judge.boundaries import Spent, spend
from guardrail.judge.statistic import item_harm, non_inferiority_z, stream_statistic, unit_sums

DRAWS = 4000
BUDGETS = {
    ("warn", "overall"): 0.025,
    ("warn", "by ability"): 0.025,
    ("halt", "overall"): 0.0075,
    ("halt", "by ability"): 0.0025,
}


def one_run(scenario: str, harm: str, seed: int) -> dict[str, int]:
    """Return the look at which the run first warned, was serious and was critical, where it did."""
    plan = layout("study")
    groups = np.asarray(plan.groups)
    world = World(seed, 1, plan, harm)
    shape = (len(groups), DRAWS)
    normal = np.random.default_rng(seed + 2 * 10**6).standard_normal(shape).astype(np.float32)
    members = [("overall", np.arange(len(groups)))]
    members += [("by ability", np.flatnonzero(groups == g)) for g in dict.fromkeys(groups)]
    spent = dict.fromkeys(BUDGETS, Spent())
    last = dict.fromkeys(BUDGETS, math.inf)
    first: dict[str, int] = {}
    for look in range(1, LOOKS + 1):
        world.step()
        values = world.values(harms(scenario, look, plan))
        largest = {family: np.zeros(DRAWS, np.float32) for family in ("overall", "by ability")}
        z = {(family, beyond): -math.inf for family in largest for beyond in ("margin", "critical")}
        for name, metric in plan.metrics.items():
            rule, found = metric.rule, values[name]
            item = item_harm(found.base, found.current, worse=rule.worse, clip=rule.clip)
            for family, inside in members:
                stream = stream_statistic(item[inside])
                drawn = unit_sums(item[inside]).astype(np.float32) @ normal[inside]
                drawn /= stream.sd * math.sqrt(len(inside))
                np.maximum(largest[family], drawn, out=largest[family])
                for beyond in ("margin", "critical"):
                    tested = non_inferiority_z(stream, getattr(rule, beyond))
                    z[family, beyond] = max(z[family, beyond], tested)
        for budget, alpha in BUDGETS.items():
            bound, spent[budget] = spend(largest[budget[1]], alpha, look / LOOKS, spent[budget])
            last[budget] = last[budget] if math.isinf(bound) else bound
        for level, kind, beyond in (
            ("warn", "warn", "margin"),
            ("serious", "halt", "margin"),
            ("critical", "halt", "critical"),
        ):
            if any(z[family, beyond] > last[kind, family] for family in largest):
                first.setdefault(level, look)
    return first


def main(
    scenario: str,
    harm: Annotated[str, typer.Option(help="`proportional` or `hardest-first`.")] = "proportional",
    runs: Annotated[int, typer.Option()] = 200,
) -> None:
    """Print the share of runs at each level after the fall, with the median delay in looks."""
    found = [one_run(scenario, harm, seed) for seed in range(1, runs + 1)]
    told: dict[str, object] = {"scenario": scenario, "harm": harm, "runs": runs}
    for level in ("warn", "serious", "critical"):
        after = [f[level] - ONSET for f in found if f.get(level, 0) >= ONSET]
        told[level] = round(100 * len(after) / runs, 1)
        told[f"{level}_delay"] = statistics.median(after) if after else None
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    typer.run(main)
