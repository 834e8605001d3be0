"""Seconds and memory of one look's statistics: 300 items, 60 streams, the bootstrap included.

Run: python tests/benchmarks/drift_look.py
"""

import resource
import time

import numpy as np
import typer

from guardrail.judge.rule import DriftConfig, MetricRule, MetricValues, RuleState, judge

ITEMS, ABILITIES, METRICS, LOOKS = 300, 5, 10, 50


def main() -> None:
    """Judge five looks; the first also draws the bootstrap's weights."""
    rng = np.random.default_rng(0)
    groups = [f"ability-{i % ABILITIES}" for i in range(ITEMS)]
    base = {f"m{k}": rng.random((ITEMS, 4)) for k in range(METRICS)}
    config = DriftConfig({m: MetricRule("lower", 0.03, 0.08, worst=0.0) for m in base}, LOOKS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    state = RuleState()
    for look in range(1, 6):
        values = {m: MetricValues(b, rng.random(ITEMS)) for m, b in base.items()}
        start = time.perf_counter()
        verdict, state = judge(values, groups, config, state)
        seconds = time.perf_counter() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(
            f"look {look}: {len(verdict.streams)} streams, {config.draws:,} draws, "
            f"{seconds:.3f} s, memory +{grown:.0f} MB"
        )


if __name__ == "__main__":
    typer.run(main)
