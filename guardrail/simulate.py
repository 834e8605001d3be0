"""What would have happened: a run or a scripted trajectory through the drift rule and the ladder again.

A trajectory is a JSON object:

    {"abilities": [n names], "planned_looks": T,
     "metrics": {NAME: {"worse": "lower"|"higher", "margin": …, "critical": …,
                        "base": [n][K], "looks": [T][n]}}}

with `null` where a metric does not apply to an item. `clusters` ([n] names or null) may be added, and `worst`
and `clip` to a metric. A run folder is replayed from the answers' measurements that its looks wrote down.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from guardrail.errors import InputError
from guardrail.judge.ladder import Action, Judged, LadderConfig, decide, judged_look
from guardrail.judge.look_values import (
    Measured,
    read_business_measured,
    read_measured,
    with_business,
)
from guardrail.judge.rule import DriftConfig, MetricRule, MetricValues, RuleState, judge
from guardrail.judge.statistic import FloatArray
from guardrail.judge.verdict import Verdict
from guardrail.ledger.file import live_records, newest_header, read_ledger
from guardrail.ledger.records import read_looks
from guardrail.probes.business_probes import NO_BUSINESS, BusinessProbes, item_clusters
from guardrail.probes.trusted_probes import trusted_probes
from guardrail.read_back import read_bounded
from guardrail.recipe import Recipe, recorded_recipe
from guardrail.sets.items import Item, read_items

__all__ = [
    "Replayed",
    "Trajectory",
    "judged_against",
    "read_run_trajectory",
    "read_trajectory",
    "simulate",
]


class _Metric(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    worse: Literal["lower", "higher"]
    margin: float = Field(ge=0)
    critical: float = Field(ge=0)
    worst: float | None = None
    clip: float | None = Field(default=None, gt=0)
    base: list[list[float | None]]
    looks: list[list[float | None]]


class _Script(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    abilities: list[str] = Field(min_length=2)
    planned_looks: int = Field(ge=1)
    clusters: list[str | None] | None = None
    metrics: dict[str, _Metric] = Field(min_length=1)

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        items = len(self.abilities)
        if self.clusters is not None and len(self.clusters) != items:
            raise ValueError(f"`clusters` must name {items} items, got {len(self.clusters)}")
        counts = {name: len(metric.looks) for name, metric in self.metrics.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"metrics must have equally many looks, got {counts}")
        for name, metric in self.metrics.items():
            widths = {len(row) for row in metric.base}
            if len(metric.base) != items or len(widths) != 1 or 0 in widths:
                raise ValueError(
                    f"metric `{name}`: `base` must be {items} rows of equally many values"
                )
            for number, look in enumerate(metric.looks, start=1):
                if len(look) != items:
                    raise ValueError(
                        f"metric `{name}`: look {number} must have {items} values, got {len(look)}"
                    )
        return self


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Everything the rule and the ladder see of a run."""

    config: DriftConfig
    ladder: LadderConfig
    groups: Sequence[str]
    clusters: Sequence[str | None]
    steps: Sequence[int]
    """The step of each look; a step that comes twice in a row is a repeat on the same weights."""
    looks: Sequence[Mapping[str, MetricValues]]
    last_step: int
    """A look at this step is the run's final one and may spend what budget is left."""
    planned: Sequence[int] = ()
    """Looks planned in all, as each look knew it; empty where the plan never changed."""
    probe_files: int = 0
    """Files of a business's own probes and cluster rule that the run was judged by and that are left out here."""


class Replayed(NamedTuple):
    """One look of a replay, and what the ladder would have done after it; None where it was left out."""

    number: int
    step: int
    verdict: Verdict
    action: Action | None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        place = {"look": self.number, "step": self.step}
        action = None if self.action is None else asdict(self.action)
        return {**place, **self.verdict.model_dump(mode="json"), "action": action}


_LARGEST_SCRIPT = 64 << 20
"""Bytes of a trajectory file."""


def _array(values: Any) -> FloatArray:
    return np.array(values, dtype=np.float64)  # None becomes NaN


def _is_binary(metric: _Metric) -> bool:
    known = {v for row in (*metric.base, *metric.looks) for v in row if v is not None}
    return known <= {0.0, 1.0}


def _rule(metric: _Metric) -> MetricRule:
    worst = metric.worst
    if worst is None and metric.clip is None and _is_binary(metric):
        worst = 0.0 if metric.worse == "lower" else 1.0
    return MetricRule(metric.worse, metric.margin, metric.critical, worst, metric.clip)


def read_trajectory(path: Path) -> Trajectory:
    """Return the trajectory of a JSON file; a metric whose values are all 0 or 1 is a rate.

    Raises:
        InputError: no such file, broken JSON, a key or a shape that does not fit.
    """
    try:
        script = _Script.model_validate_json(read_bounded(path, _LARGEST_SCRIPT))
    except OSError as error:
        raise InputError(
            f"`{path!s:.300}` cannot be read ({error.strerror}); give a trajectory file or a run folder"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "trajectory"
        raise InputError(
            f"`{path}`: `{where}`: {first['msg'].removeprefix('Value error, ')}; "
            "see `guardrail simulate --help`"
        ) from error
    names = list(script.metrics)
    looks = [
        {
            name: MetricValues(
                _array(script.metrics[name].base), _array(script.metrics[name].looks[t])
            )
            for name in names
        }
        for t in range(len(script.metrics[names[0]].looks))
    ]
    config = DriftConfig(
        metrics={name: _rule(metric) for name, metric in script.metrics.items()},
        planned_looks=script.planned_looks,
    )
    clusters = script.clusters or [None] * len(script.abilities)
    steps = range(1, len(looks) + 1)
    return Trajectory(
        config, LadderConfig(), script.abilities, clusters, steps, looks, script.planned_looks
    )


def read_run_trajectory(run: Path, probes: Sequence[Path] = ()) -> Trajectory:
    """Return the trajectory of a run folder (or of its ledger.jsonl), its own margins and ladder.

    A business's own probes and cluster rule are left out (`Trajectory.probe_files` counts the files) where the user names no files of
    theirs, since a run folder may be a stranger's and its file would have to be carried out.

    Args:
        run: The folder.
        probes: Files of the business's probes, as `trusted_probes` takes them.

    Raises:
        InputError: the folder holds no run, its looks' answers or its red-line set are gone, or `probes` are not its own.
    """
    run = run.parent if run.name == "ledger.jsonl" else run
    ledger = read_ledger(run)
    records, started = live_records(ledger), newest_header(ledger)
    # The best model, loaded when the training is over, is no point on its way.
    looks = [k for k in read_looks(records) if k.trigger != "best"]
    if not started or not looks:
        raise InputError(f"`{run}` holds no look to replay; give the folder of a run that looked")
    recipe = recorded_recipe(run, started.get("recipe"))
    items = [item for item in read_items(recipe.sets.red_line) if not item.rehearsed]
    named = recipe.probes.files
    business = NO_BUSINESS
    if probes or not named:
        business = trusted_probes(run, named, started.get("probes_sha256"), probes)
    ids = [item.id for item in items]
    own = list(recipe.drift_config(1).metrics)
    measured = [
        read_measured(run, look.answers, look.answers_sha256, ids, own)
        | read_business_measured(run, look.answers, look.answers_sha256, items, business)
        for look in looks
    ]
    planned = [look.planned_looks for look in looks if look.planned_looks is not None]
    if len(planned) < len(looks):
        raise InputError(
            f"a look of `{run}` does not say how many were planned: it cannot be replayed"
        )
    config = with_business(recipe.drift_config(planned[0]), business)
    baseline = judged_against(recipe, items, measured[0], business, inherited=looks[0].inherited)
    return Trajectory(
        config=config,
        ladder=recipe.ladder_config(),
        groups=[item.ability for item in items],
        clusters=item_clusters(business, items),
        steps=[look.step for look in looks[1:]],
        looks=[
            {m: MetricValues(baseline[m], now[m].mean(axis=1)) for m in config.metrics}
            for now in measured[1:]
        ],
        last_step=next((look.step for look in looks[1:] if look.final), -1),
        planned=planned[1:],
        probe_files=len(named) - len(business.sha256),
    )


def judged_against(
    recipe: Recipe,
    items: Sequence[Item],
    start: Measured,
    business: BusinessProbes,
    *,
    inherited: bool,
) -> Measured:
    """Return what a run's looks are judged against: look 0, or the anchors where inherited harm counts.

    Args:
        recipe: The run's.
        items: As `start` has them.
        start: Look 0.
        business: Its own probes, as far as they are at hand.
        inherited: Whether it started from another model than the gold base.

    Raises:
        InputError: the anchors are needed and cannot be read.
    """
    if not inherited or recipe.on_inherited != "refuse":
        return start
    from guardrail.anchors.store import read_anchors
    from guardrail.judge.look_values import anchor_measurements

    return anchor_measurements(items, read_anchors(Path(str(recipe.anchors))), business)


def simulate(
    trajectory: Trajectory,
    margins: Mapping[str, tuple[float, float]] | None = None,
    *,
    verdicts_only: bool = False,
) -> list[Replayed]:
    """Return one entry a look; the replay ends where the ladder halts.

    A script cannot answer a repeated look, so a critical look counts as confirmed by itself unless the
    trajectory holds the repeat.

    Args:
        trajectory: What was measured.
        margins: metric → (margin, critical), in place of the trajectory's.
        verdicts_only: Judge every look and leave the ladder out; `action` is None.

    Raises:
        InputError: margins of a metric the trajectory does not have.
    """
    config = _with_margins(trajectory.config, margins or {})
    before = state = RuleState()
    history: list[Judged] = []
    replayed = []
    for number, (step, values) in enumerate(
        zip(trajectory.steps, trajectory.looks, strict=True), start=1
    ):
        repeat = bool(history) and history[-1].step == step
        verdict, after = judge(
            values,
            trajectory.groups,
            replace(config, planned_looks=trajectory.planned[number - 1])
            if trajectory.planned
            else config,
            before if repeat else state,
            clusters=trajectory.clusters,
            final=step == trajectory.last_step,
        )
        if not repeat:  # a repeat is judged with the budget of the look it repeats
            before, state = state, after
        history.append(judged_look(step, verdict, repeat=repeat))
        action = None
        if not verdicts_only:
            action = _decide(history, trajectory, number)
        replayed.append(Replayed(number, step, verdict, action))
        if action is not None and action.kind == "halt":
            break
    return replayed


def _decide(history: list[Judged], trajectory: Trajectory, number: int) -> Action:
    action = decide(history, trajectory.ladder)
    follows = number < len(trajectory.steps) and trajectory.steps[number] == history[-1].step
    if action.kind == "repeat_look" and not follows:
        history.append(replace(history[-1], repeat=True))
        action = decide(history, trajectory.ladder)
    return action


def _with_margins(config: DriftConfig, margins: Mapping[str, tuple[float, float]]) -> DriftConfig:
    rules = dict(config.metrics)
    for name, (margin, critical) in margins.items():
        if name not in rules:
            raise InputError(f"unknown metric `{name}`; the trajectory has {', '.join(rules)}")
        if not 0 <= margin <= critical or math.isinf(critical):
            raise InputError(
                f"metric `{name}`: 0 ≤ margin ≤ critical must hold, got {margin} and {critical}"
            )
        rules[name] = replace(rules[name], margin=margin, critical=critical)
    return replace(config, metrics=rules)
