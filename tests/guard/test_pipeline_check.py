"""Look 0 against the anchors: greedy answers that rounding explains are let in, another pipeline is not."""

import numpy as np
import pytest

from guardrail.guard.pipeline_check import disagreements
from guardrail.judge.rule import DriftConfig, MetricRule, MetricValues, RuleState, judge

CONFIG = DriftConfig({"similarity": MetricRule("lower", 0.05, 0.5, 0.0)}, planned_looks=5)


def verdict(turned: int, items: int = 300, to: float = 0.4):
    """Greedy answers of which some took another turn: similar to their anchor by `to`, the others equal."""
    now = np.ones(items)
    now[:turned] = to + 0.05 * np.arange(turned) / max(1, turned)
    values = {"similarity": MetricValues(np.ones((items, 1)), now)}
    return judge(values, ["writing"] * items, CONFIG, RuleState())[0]


@pytest.mark.parametrize("turned", [0, 3, 40, 120])
def test_answers_turn_away_no_more_often_than_under_one_rounding_more(turned):
    assert disagreements(verdict(turned), verdict(round(turned * 0.9))) == []


def test_without_the_noise_the_same_answers_would_be_refused():
    (found,) = disagreements(verdict(120))
    assert found.startswith("similarity/overall is off by +")


def test_answers_that_rounding_does_not_explain_are_refused():
    assert disagreements(verdict(120), verdict(30))
    assert disagreements(verdict(290, to=0.1), verdict(290, to=0.6))
