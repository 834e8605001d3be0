"""The drift rule: streams of harm → the verdict of one look, with one promise for the whole run.

P(any warn) <= 5 % and P(any serious or critical) <= 1 % over all looks, metrics and abilities, as long as
every stream's population mean harm stays within its margin: four budgets, two families of streams (overall
and by ability) each for warn and for halt, spent over the planned looks (`guardrail.judge.boundaries`). The
promise is asymptotic in items and rests on simulation: docs/drift-simulation.md has its figures. It covers
everything up to the first false action, since what a run does after it depends on the judged items.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import special

from guardrail.judge.boundaries import (
    Spent,
    bootstrap_maxima,
    draws_needed,
    multipliers,
    spend,
)
from guardrail.judge.statistic import (
    FloatArray,
    IntArray,
    StreamStatistic,
    betting_z,
    item_harm,
    non_inferiority_z,
    stream_interval,
    stream_statistic,
    unit_sums,
)
from guardrail.judge.verdict import UNTESTED, Stream, Verdict, rank

__all__ = [
    "Budget",
    "DriftConfig",
    "MetricRule",
    "MetricValues",
    "RuleState",
    "judge",
    "unit_numbers",
]


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
    """The rule's constants; the defaults are those of a recipe's `drift` section.

    `planned_looks` counts every look that may be tested, reserve included.
    """

    metrics: Mapping[str, MetricRule]
    planned_looks: int
    overall: Budget = field(default_factory=lambda: Budget(warn=0.025, halt=0.0075))
    by_ability: Budget = field(default_factory=lambda: Budget(warn=0.025, halt=0.0025))
    min_items: int = 30
    """Items a stream needs to be tested."""
    min_units: int = 20
    """Clusters and single items a stream needs to be tested."""
    seed: int = 0
    """Of the bootstrap's weights."""

    @property
    def draws(self) -> int:
        """How many bootstrap draws the budgets need."""
        budgets = (self.overall.warn, self.overall.halt, self.by_ability.warn, self.by_ability.halt)
        return draws_needed(self.planned_looks, min(budgets))


@dataclass(frozen=True, slots=True)
class RuleState:
    """What the rule must remember from look to look: the planned looks used up, and each budget."""

    looks_used: int = 0
    spent: Mapping[str, Spent] = field(default_factory=dict)
    """`warn overall`, `halt overall`, `warn by ability`, `halt by ability`."""
    share: float = 0.0
    """Part of the budgets that was released so far, 0 to 1; the final look releases all."""
    draws: int = 0
    """Bootstrap draws of this run, fixed at its first look: a draw is spent by its number."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    metric: str
    group: str
    harm: FloatArray
    units: IntArray
    values: MetricValues
    rule: MetricRule
    statistic: StreamStatistic | None
    """`None` where fewer than two units have an item that applies."""

    @property
    def items(self) -> int:
        return 0 if self.statistic is None else self.statistic.n

    @property
    def unit_count(self) -> int:
        return 0 if self.statistic is None else self.statistic.units


def unit_numbers(clusters: Sequence[str | None]) -> IntArray:
    """Return the unit of each item, numbered by first appearance: a cluster is one, so is an item without."""
    first: dict[Any, int] = {}
    keys = ((i,) if name is None else name for i, name in enumerate(clusters))
    return np.array([first.setdefault(key, len(first)) for key in keys], dtype=np.intp)


def _candidates(
    values: Mapping[str, MetricValues],
    groups: Sequence[str],
    units: IntArray,
    config: DriftConfig,
    expected: Sequence[str],
) -> list[_Candidate]:
    """Every metric overall and on each group; a group that is the whole metric is not repeated.

    A group without any value, or without any item, still has one stream, which then is not tested.
    """
    names = np.asarray(groups)
    found: list[_Candidate] = []
    covered = {"overall"}
    for metric, rule in config.metrics.items():
        if metric not in values:
            raise ValueError(f"metric `{metric}` has a margin but no values in this look")
        measured = values[metric]
        harm = item_harm(measured.base, measured.current, worse=rule.worse, clip=rule.clip)
        applies = ~np.isnan(harm)
        found.append(_candidate(metric, "overall", harm, units, measured, rule))
        for group in dict.fromkeys(groups):
            inside = applies & (names == group)
            covered |= {group} if inside.any() else set()
            if inside.any() and not (inside == applies).all():
                only = np.where(inside, harm, math.nan)
                found.append(_candidate(metric, group, only, units, measured, rule))
    if found:
        first = found[0]
        nothing = np.full(len(units), math.nan)
        for group in dict.fromkeys([*groups, *expected]):
            if group not in covered:
                found.append(
                    _candidate(first.metric, group, nothing, units, first.values, first.rule)
                )
    return found


def _candidate(
    metric: str,
    group: str,
    harm: FloatArray,
    units: IntArray,
    values: MetricValues,
    rule: MetricRule,
) -> _Candidate:
    enough = len(np.unique(units[~np.isnan(harm)])) >= 2
    statistic = stream_statistic(harm, units) if enough else None
    return _Candidate(metric, group, harm, units, values, rule, statistic)


def _evidence(
    statistic: StreamStatistic, harm: FloatArray, units: IntArray, margin: float, rule: MetricRule
) -> float:
    """The stronger of the two tests; the betting one needs to know how low a harm can be."""
    z = non_inferiority_z(statistic, margin)
    lowest = rule.clip if rule.clip is not None else 1.0 if rule.worst is not None else None
    return z if lowest is None else max(z, betting_z(harm, margin, -lowest, units))


def _blind(candidate: _Candidate, boundary: float) -> bool:
    """Whether not even total failure of every item would cross the boundary."""
    rule, units = candidate.rule, candidate.units
    if rule.worst is None or not math.isfinite(boundary):
        return False
    worst = np.where(np.isnan(candidate.harm), math.nan, rule.worst)
    harm = item_harm(candidate.values.base, worst, worse=rule.worse, clip=rule.clip)
    return _evidence(stream_statistic(harm, units), harm, units, rule.margin, rule) <= boundary


def _boundaries(
    countable: Sequence[_Candidate],
    config: DriftConfig,
    state: RuleState,
    share: float,
    draws: int,
) -> tuple[dict[str, float], dict[str, Spent]]:
    """The boundary of each budget at this look, infinite where nothing is tested, and what is spent after it."""
    bounds = {f"{kind} {family}": math.inf for kind in _KINDS for family in _FAMILIES}
    spent = dict(state.spent)
    if not countable:
        return bounds, spent
    units = countable[0].units
    count = int(units.max()) + 1
    sums = np.zeros((len(countable), count), dtype=np.float32)
    sizes = np.zeros_like(sums)
    for k, candidate in enumerate(countable):
        sizes[k] = np.bincount(units[~np.isnan(candidate.harm)], minlength=count)
        sums[k, sizes[k] > 0] = unit_sums(candidate.harm, units)
    weights = multipliers(config.seed, draws, count)
    for family in _FAMILIES:
        members = [k for k, c in enumerate(countable) if _family(c) == family]
        if not members:
            continue
        budget = config.overall if family == "overall" else config.by_ability
        # Streams without any spread leave nothing to draw: no boundary is lower than one stream at one
        # look would need.
        least = {
            kind: -float(special.ndtri(min(0.5, alpha * share)))
            for kind, alpha in (("warn", budget.warn), ("halt", budget.halt))
        }
        maxima = bootstrap_maxima(weights, sums[members], sizes[members], least=min(least.values()))
        for kind, alpha in (("warn", budget.warn), ("halt", budget.halt)):
            name = f"{kind} {family}"
            boundary, spent[name] = spend(maxima, alpha, share, spent.get(name, Spent()))
            bounds[name] = max(boundary, least[kind])
    return bounds, spent


_KINDS, _FAMILIES = ("warn", "halt"), ("overall", "by ability")


def _family(candidate: _Candidate) -> str:
    return "overall" if candidate.group == "overall" else "by ability"


def judge(
    values: Mapping[str, MetricValues],
    groups: Sequence[str],
    config: DriftConfig,
    state: RuleState,
    *,
    clusters: Sequence[str | None] | None = None,
    expected: Sequence[str] = (),
    final: bool = False,
) -> tuple[Verdict, RuleState]:
    """Return the verdict of one look and the state to hand to the next.

    Each tested look may spend budgets up to a share of them, the final one all that is left. With r looks
    planned and not yet used, the share grows by 1/r of what was not released before: (k + 1)/T at the k-th of T
    looks, and where `planned_looks` changes on the way the looks ahead divide what is left. However often it
    changes the share never exceeds 1, so that no more draws die than alpha allows: every schedule keeps the
    promise that is fixed without regard to the verdicts (Lan & DeMets 1983, section 3). The last
    planned look is kept for the final one: earlier looks beyond the plan are measured but not tested.

    Args:
        values: metric → values; every metric of the config must be there.
        groups: The ability of each item, shape (n,). Rehearsed items must already be left out.
        config: Margins, budgets, planned looks.
        state: What the previous look returned, `RuleState()` before the first. Items and their clusters
            must be those of the previous look.
        clusters: The cluster of each item, `None` for an item that stands alone; by default all do.
        expected: Abilities that are told of even where no item of theirs is judged.
        final: Whether this is the run's last look.

    Raises:
        ValueError: a configured metric has no values, or shapes do not fit.
    """
    units = unit_numbers([None] * len(groups) if clusters is None else clusters)
    if len(units) != len(groups):
        raise ValueError(f"`clusters` must name {len(groups)} items, got {len(units)}")
    candidates = _candidates(values, groups, units, config, expected)
    countable = [
        c for c in candidates if c.items >= config.min_items and c.unit_count >= config.min_units
    ]
    has_budget = state.looks_used < config.planned_looks - (0 if final else 1)
    ahead = max(1, config.planned_looks - state.looks_used)
    share = 1.0 if final else state.share + (1.0 - state.share) / ahead
    draws = state.draws or config.draws
    bounds, spent = _boundaries(countable if has_budget else [], config, state, share, draws)
    streams = [
        _judge_stream(
            c, bounds[f"warn {_family(c)}"], bounds[f"halt {_family(c)}"], config, has_budget
        )
        for c in candidates
    ]
    level = max((s.level for s in streams if s.tested), key=rank, default=UNTESTED)
    after = RuleState(
        state.looks_used + int(has_budget), spent, share if has_budget else state.share, draws
    )
    return Verdict(level=level, streams=tuple(streams)), after


def _judge_stream(
    candidate: _Candidate, warn: float, halt: float, config: DriftConfig, has_budget: bool
) -> Stream:
    applies, rule, statistic = ~np.isnan(candidate.harm), candidate.rule, candidate.statistic
    n, units = int(applies.sum()), candidate.unit_count
    mean = se = z = z_critical = math.nan
    low, high = -math.inf, math.inf
    reason = ""
    if n < config.min_items:
        reason = f"{n} items, {config.min_items} are needed"
    elif units < config.min_units:
        reason = f"{units} independent clusters, {config.min_units} are needed"
    elif not has_budget:
        reason = "all planned looks are used up"
    elif math.isinf(warn) and math.isinf(halt):
        reason = "the error budget has nothing left for this look"
    elif _blind(candidate, warn):
        reason = "blind: even total failure could not exceed the margin, base is too weak here"
    if statistic is not None:
        mean, se = statistic.mean, statistic.se
        low, high = stream_interval(statistic)
        harm = candidate.harm
        z = _evidence(statistic, harm, candidate.units, rule.margin, rule)
        z_critical = _evidence(statistic, harm, candidate.units, rule.critical, rule)
    elif n:
        mean = float(candidate.harm[applies].mean())
    level = "ok"
    if reason:
        level = UNTESTED
    elif z_critical > halt:
        level = "critical"
    elif z > halt:
        level = "serious"
    elif z > warn:
        level = "warn"
    return Stream(
        metric=candidate.metric,
        group=candidate.group,
        n=n,
        base=float(candidate.values.base[applies].mean()) if n else math.nan,
        now=float(candidate.values.current[applies].mean()) if n else math.nan,
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
        attention=level == "ok" and low > 0,
    )
