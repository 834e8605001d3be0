import math

import numpy as np
import pytest
from scipy import stats

from guardrail.judge.rule import (
    Budget,
    DriftConfig,
    MetricRule,
    MetricValues,
    RuleState,
    judge,
)
from guardrail.judge.verdict import shows_harm

PASSED = MetricRule("lower", 0.03, 0.08, worst=0.0)
GROUPS = ["reasoning"] * 100 + ["writing"] * 180 + ["tiny"] * 20


def config(**kwargs) -> DriftConfig:
    return DriftConfig(metrics={"passed": PASSED}, planned_looks=10, **kwargs)


def values(fallen: int, base_rate: float = 0.9) -> dict[str, MetricValues]:
    """300 items of which `fallen`, from the front, passed under base and fail now."""
    base = np.zeros((300, 4))
    base[: int(300 * base_rate)] = 1.0
    current = base.mean(axis=1).copy()
    current[:fallen] = 0.0
    return {"passed": MetricValues(base, current)}


def by_name(verdict) -> dict[str, object]:
    return {f"{s.metric}/{s.group}": s for s in verdict.streams}


def test_an_unchanged_model_is_ok_everywhere():
    verdict, state = judge(values(0), GROUPS, config(), RuleState())
    assert verdict.level == "ok"
    assert verdict.alarmed == ()
    assert state.looks_used == 1


def test_levels_rise_with_harm():
    levels = [
        judge(values(fallen), GROUPS, config(), RuleState())[0].level
        for fallen in (0, 20, 30, 40, 60, 90)
    ]
    order = ["ok", "warn", "serious", "critical"]
    assert [order.index(level) for level in levels] == sorted(order.index(x) for x in levels)
    assert levels[0] == "ok"
    assert levels[-1] == "critical"
    assert {"warn", "serious"} & set(levels)


def test_the_worst_ability_is_named():
    verdict, _ = judge(values(60), GROUPS, config(), RuleState())
    assert "passed/reasoning" in {f"{s.metric}/{s.group}" for s in verdict.alarmed}
    assert by_name(verdict)["passed/writing"].level == "ok"


def test_a_small_ability_is_reported_never_tested():
    verdict, _ = judge(values(300), GROUPS, config(), RuleState())
    tiny = by_name(verdict)["passed/tiny"]
    assert (tiny.tested, tiny.level) == (False, "untested")
    assert "20 items, 30 are needed" in tiny.reason


def test_a_base_too_weak_to_fall_is_blind_not_ok():
    verdict, _ = judge(values(0, base_rate=0.04), GROUPS, config(), RuleState())
    overall = by_name(verdict)["passed/overall"]
    assert not overall.tested
    assert overall.reason.startswith("blind")
    assert verdict.level == "untested"


def test_looks_beyond_the_plan_are_not_tested_but_the_final_one_is():
    state = RuleState()
    for _ in range(9):
        verdict, state = judge(values(90), GROUPS, config(), state)
        assert verdict.level == "critical"
    verdict, state = judge(values(90), GROUPS, config(), state)
    assert verdict.level == "untested"
    assert not verdict.alarmed
    assert by_name(verdict)["passed/overall"].reason == "all planned looks are used up"
    verdict, state = judge(values(90), GROUPS, config(), state, final=True)
    assert verdict.level == "critical"


def test_items_that_do_not_apply_leave_the_stream_and_never_pass():
    nothing = {"passed": MetricValues(np.full((300, 4), math.nan), np.full(300, math.nan))}
    verdict, _ = judge(nothing, GROUPS, config(), RuleState())
    assert all(not s.tested and s.level == "untested" for s in verdict.streams)
    assert verdict.level == "untested"
    assert verdict.model_dump()["streams"][0]["harm"] is None


def test_a_nan_answer_does_not_count_as_harmless():
    spoiled = values(90)
    spoiled["passed"].current[:45] = math.nan
    verdict, _ = judge(spoiled, GROUPS, config(), RuleState())
    assert by_name(verdict)["passed/overall"].n == 255
    assert verdict.level != "ok"


def test_an_ability_without_a_judged_item_is_told_of_and_not_tested():
    verdict, _ = judge(values(0), GROUPS, config(), RuleState(), expected=["writing", "拒答"])
    lonely = by_name(verdict)["passed/拒答"]
    assert (lonely.tested, lonely.n, lonely.level) == (False, 0, "untested")
    assert lonely.reason == "0 items, 30 are needed"


def test_an_ability_to_which_nothing_applies_is_told_of_and_not_tested():
    spoiled = values(0)
    away = np.array([g == "writing" for g in GROUPS])
    spoiled["passed"].base[away] = math.nan
    verdict, _ = judge(spoiled, GROUPS, config(), RuleState())
    assert by_name(verdict)["passed/writing"].reason == "0 items, 30 are needed"


def test_a_metric_without_values_is_an_error():
    with pytest.raises(ValueError, match="`passed`"):
        judge({}, GROUPS, config(), RuleState())


@pytest.mark.run
def test_false_alarms_over_a_run_at_the_margin_stay_within_the_budget():
    """Least favourable null: true harm equals the margin, items shared by all looks."""
    rng = np.random.default_rng(20261121)
    looks, runs, alarms = 10, 400, 0
    rule = MetricRule("lower", 0.10, 0.22)
    settings = DriftConfig(
        metrics={"length": rule}, planned_looks=looks, overall=Budget(warn=0.05, halt=0.01)
    )
    for _ in range(runs):
        item_effect = rng.normal(0.10, 0.3, size=120)
        state, warned = RuleState(), False
        for _ in range(looks):
            current = -item_effect + rng.normal(0, 0.1, size=120)
            measured = {"length": MetricValues(np.zeros((120, 1)), current)}
            verdict, state = judge(measured, ["all"] * 120, settings, state)
            warned |= shows_harm(verdict.level)
        alarms += warned
    lower_limit = stats.binomtest(alarms, runs).proportion_ci(0.95).low
    assert lower_limit <= 0.05, f"{alarms} of {runs} runs alarmed"
