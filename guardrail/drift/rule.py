"""The drift rule: streams of harm → the verdict of one look, with one promise for the whole run.

P(any warn) <= `alpha_warn` and P(any halt-grade level) <= `alpha_halt` over all looks, metrics and
abilities, as long as every stream's population mean harm stays within its margin. The bound is a
union over looks and streams (Bonferroni), so it holds for any trajectory and any dependence; it
rests on the statistic's level in one look, which is exact only in large samples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import stats

from guardrail.drift.statistic import (
    FloatArray,
    StreamStatistic,
    betting_z,
    item_harm,
    non_inferiority_z,
    stream_statistic,
)

__all__ = [
    "LEVELS",
    "Budget",
    "DriftConfig",
    "Level",
    "MetricRule",
    "MetricValues",
    "RuleState",
    "Stream",
    "Verdict",
    "judge",
    "verdict_as_dict",
]

Level = Literal["ok", "warn", "serious", "critical"]
LEVELS: tuple[Level, ...] = ("ok", "warn", "serious", "critical")
"""Mildest first."""


@dataclass(frozen=True, slots=True)
class MetricRule:
    """What harm means for one metric: direction, tolerated margin, critical margin.

    `worst` is the value of a total failure of a metric that lies in [0, 1], used to find blind
    streams; `clip` bounds item harm.
    """

    worse: Literal["lower", "higher"]
    margin: float
    critical: float
    worst: float | None = None
    clip: float | None = None


@dataclass(frozen=True, slots=True)
class MetricValues:
    """One metric at one look: base replicates, shape (n, K), and current answers, shape (n,)."""

    base: FloatArray
    current: FloatArray


@dataclass(frozen=True, slots=True)
class Budget:
    """Error probability of one family of streams over the whole run."""

    warn: float
    halt: float


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """The rule's constants. `planned_looks` counts every look that may be tested, reserve included."""

    metrics: Mapping[str, MetricRule]
    planned_looks: int
    overall: Budget = field(default_factory=lambda: Budget(warn=0.025, halt=0.0075))
    by_ability: Budget = field(default_factory=lambda: Budget(warn=0.025, halt=0.0025))
    min_items: int = 30


@dataclass(frozen=True, slots=True)
class RuleState:
    """What the rule must remember from look to look: how many planned looks are used up."""

    looks_used: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """One metric on one group at one look.

    `low` and `high` bound the mean harm at 95 % for this look alone: a picture, not the promise.
    `tested` is False with a `reason` where the stream cannot alarm; its level is then `ok` only in
    the sense that nothing was shown.
    """

    metric: str
    group: str
    n: int
    base: float
    now: float
    harm: float
    se: float
    low: float
    high: float
    margin: float
    z: float
    z_critical: float
    boundary_warn: float
    boundary_halt: float
    level: Level
    tested: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of one look: the highest level of any stream, and every stream."""

    level: Level
    streams: tuple[Stream, ...]

    @property
    def alarmed(self) -> tuple[Stream, ...]:
        """The streams above ok, worst first; each may be named (the union bound covers them all)."""
        alarmed = [s for s in self.streams if s.level != "ok"]
        return tuple(sorted(alarmed, key=lambda s: (-LEVELS.index(s.level), -s.z)))


@dataclass(frozen=True, slots=True)
class _Candidate:
    metric: str
    group: str
    harm: FloatArray
    base: FloatArray
    current: FloatArray
    rule: MetricRule


def _candidates(
    values: Mapping[str, MetricValues], groups: Sequence[str], config: DriftConfig
) -> list[_Candidate]:
    """Every metric overall and on each group; a group that is the whole metric is not repeated."""
    names = np.asarray(groups)
    found = []
    for metric, rule in config.metrics.items():
        if metric not in values:
            raise ValueError(f"metric `{metric}` has a margin but no values in this look")
        base, current = values[metric].base, values[metric].current
        harm = item_harm(base, current, worse=rule.worse, clip=rule.clip)
        applies = ~np.isnan(harm)
        found.append(_Candidate(metric, "overall", harm, base, current, rule))
        for group in dict.fromkeys(groups):
            inside = applies & (names == group)
            if inside.any() and not (inside == applies).all():
                found.append(
                    _Candidate(metric, group, np.where(inside, harm, math.nan), base, current, rule)
                )
    return found


def _evidence(harm: FloatArray, margin: float, rule: MetricRule) -> float:
    """The stronger of the two tests; the betting one needs to know how low a harm can be."""
    z = non_inferiority_z(stream_statistic(harm), margin)
    lowest = rule.clip if rule.clip is not None else 1.0 if rule.worst is not None else None
    return z if lowest is None else max(z, betting_z(harm, margin, -lowest))


def _blind(candidate: _Candidate, boundary: float) -> bool:
    """Whether not even total failure of every item would cross the boundary."""
    if candidate.rule.worst is None:
        return False
    worst = np.where(np.isnan(candidate.harm), math.nan, candidate.rule.worst)
    harm = item_harm(candidate.base, worst, worse=candidate.rule.worse, clip=candidate.rule.clip)
    return _evidence(harm, candidate.rule.margin, candidate.rule) <= boundary


def judge(
    values: Mapping[str, MetricValues],
    groups: Sequence[str],
    config: DriftConfig,
    state: RuleState,
    *,
    final: bool = False,
) -> tuple[Verdict, RuleState]:
    """Return the verdict of one look and the state to hand to the next.

    Each tested look spends alpha / (planned_looks * streams of its family). The last planned look is
    kept for the final one: earlier looks beyond the plan are measured but not tested.

    Args:
        values: metric → values; every metric of the config must be there.
        groups: The ability of each item, shape (n,). Rehearsed items must already be left out.
        config: Margins, budgets, planned looks.
        state: What the previous look returned, `RuleState()` before the first.
        final: Whether this is the run's last look.

    Raises:
        ValueError: a configured metric has no values, or shapes do not fit.
    """
    candidates = _candidates(values, groups, config)
    countable = [c for c in candidates if np.sum(~np.isnan(c.harm)) >= config.min_items]
    left = config.planned_looks - state.looks_used - (0 if final else 1)
    has_budget = left > 0
    streams = []
    for candidate in candidates:
        overall = candidate.group == "overall"
        budget = config.overall if overall else config.by_ability
        family = sum((c.group == "overall") == overall for c in countable)
        streams.append(_judge_stream(candidate, budget, family, config, has_budget))
    level = LEVELS[max((LEVELS.index(s.level) for s in streams), default=0)]
    return Verdict(level, tuple(streams)), RuleState(state.looks_used + int(has_budget))


def _boundary(alpha: float, looks: int, streams: int) -> float:
    """Return the z above which one stream alarms: Phi^-1(1 - alpha / (looks * streams))."""
    return float(stats.norm.isf(alpha / (looks * streams)))


def _judge_stream(
    candidate: _Candidate, budget: Budget, family: int, config: DriftConfig, has_budget: bool
) -> Stream:
    applies = ~np.isnan(candidate.harm)
    n = int(applies.sum())
    rule = candidate.rule
    warn = _boundary(budget.warn, config.planned_looks, family) if family else math.inf
    halt = _boundary(budget.halt, config.planned_looks, family) if family else math.inf
    mean = se = z = z_critical = math.nan
    low, high = -math.inf, math.inf
    reason = ""
    if n < config.min_items:
        reason = f"{n} items, {config.min_items} are needed"
    elif not has_budget:
        reason = "all planned looks are used up"
    elif _blind(candidate, warn):
        reason = "blind: even total failure could not exceed the margin, base is too weak here"
    if n >= 2:
        statistic: StreamStatistic = stream_statistic(candidate.harm)
        mean, se = statistic.mean, statistic.se
        half = float(stats.t.ppf(0.975, n - 1)) * se
        low, high = mean - half, mean + half
        z = _evidence(candidate.harm, rule.margin, rule)
        z_critical = _evidence(candidate.harm, rule.critical, rule)
    elif n == 1:
        mean = float(candidate.harm[applies][0])
    level: Level = "ok"
    if not reason:
        if z_critical > halt:
            level = "critical"
        elif z > halt:
            level = "serious"
        elif z > warn:
            level = "warn"
    return Stream(
        metric=candidate.metric,
        group=candidate.group,
        n=n,
        base=float(candidate.base[applies].mean()) if n else math.nan,
        now=float(candidate.current[applies].mean()) if n else math.nan,
        harm=mean,
        se=se,
        low=low,
        high=high,
        margin=rule.margin,
        z=z,
        z_critical=z_critical,
        boundary_warn=warn,
        boundary_halt=halt,
        level=level,
        tested=not reason,
        reason=reason,
    )


def verdict_as_dict(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON-ready values; NaN and infinities become `None`."""
    names = Stream.__dataclass_fields__
    return {
        "level": verdict.level,
        "streams": [{k: _finite(getattr(s, k)) for k in names} for s in verdict.streams],
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
