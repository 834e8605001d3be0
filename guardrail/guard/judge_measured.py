"""What the rule says of what a look measured, before anything is recorded: pure, so that a thread may do it."""

from dataclasses import dataclass

from guardrail.guard.asked_looks import Measurement
from guardrail.guard.measure_look import Meter
from guardrail.guard.pipeline_check import disagreements
from guardrail.guard.state import GuardState
from guardrail.judge.look_values import Measured, anchor_measurements, judge_look, look_values
from guardrail.judge.rule import RuleState, judge
from guardrail.judge.verdict import Verdict

__all__ = ["Judgement", "judge_later", "judge_start"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rule says of a look."""

    measured: Measurement
    verdict: Verdict
    after: RuleState
    """The rule's state after it; look 0 spends nothing."""
    baseline: Measured | None = None
    """Look 0's alone: what later looks are compared with."""
    disagreement: tuple[str, ...] = ()
    """Look 0's alone: streams that failed the pipeline check."""


def judge_later(
    meter: Meter, measured: Measurement, state: GuardState, *, repeat: bool, final: bool
) -> Judgement:
    """Return what the rule says of a look after the first.

    Args:
        meter: The run's.
        measured: By the look.
        state: The guard's, with a baseline; read alone.
        repeat: Whether it is the second look on the same weights, which has the budget of the first.
        final: Whether it is the run's last and may spend what budget is left.
    """
    assert state.baseline is not None
    verdict, after = judge_look(
        meter.judged_items,
        state.baseline,
        measured.values,
        meter.drift_config(state.planned_looks),
        state.rule_before if repeat else state.rule,
        expected=[item.ability for item in meter.red_line],
        final=final,
        business=meter.business,
    )
    return Judgement(measured, verdict, after)


def judge_start(
    meter: Meter, measured: Measurement, planned_looks: int, *, start_is_gold_base: bool
) -> Judgement:
    """Return what the rule says of look 0, against the anchors, and the baseline it gives.

    Args:
        meter: The run's.
        measured: By look 0.
        planned_looks: Of the run.
        start_is_gold_base: Whether the weights are those the anchors were made with, so that what differs is the pipeline.
    """
    config = meter.drift_config(planned_looks)
    anchored = meter.only_judged(
        anchor_measurements(list(meter.red_line), meter.anchors, meter.business)
    )
    verdict, _ = judge_look(
        meter.judged_items, anchored, measured.values, config, RuleState(), business=meter.business
    )
    if not start_is_gold_base:
        judging_new = meter.recipe.on_inherited == "judge_new"
        baseline = measured.values if judging_new else anchored
        return Judgement(measured, verdict, RuleState(), baseline)
    # The items are the same on both sides: what differs is how answers fell, item by item, so
    # clusters do not matter here.
    groups = [item.ability for item in meter.judged_items]
    by_item, _ = judge(look_values(anchored, measured.values), groups, config, RuleState())
    by_noise = None
    if measured.noise is not None:
        by_noise, _ = judge(look_values(*measured.noise), groups, config, RuleState())
    differ = tuple(disagreements(by_item, by_noise))
    return Judgement(measured, verdict, RuleState(), measured.values, differ)
