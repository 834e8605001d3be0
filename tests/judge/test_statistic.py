import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from guardrail.judge.statistic import (
    betting_z,
    item_harm,
    non_inferiority_z,
    stream_statistic,
)


def discordant(n: int, worse: int, better: int) -> np.ndarray:
    """Harm +1 for items that broke, -1 for items that were mended, 0 for the rest."""
    return np.r_[np.ones(worse), -np.ones(better), np.zeros(n - worse - better)]


# Oracle values of the simulation study behind the rule: n, b, c, margin, mean, se, guarded z.
ORACLE = [
    (300, 9, 9, 0.0, 0.0, 0.014166, 0.0),
    (300, 9, 9, 0.03, 0.0, 0.014166, -2.1081),
    (300, 30, 15, 0.0, 0.05, 0.022211, 2.2399),
    (300, 30, 15, 0.03, 0.05, 0.022211, 0.8991),
    (300, 60, 15, 0.03, 0.15, 0.027584, 4.2802),
    (300, 60, 15, 0.08, 0.15, 0.027584, 2.5221),
    (300, 90, 10, 0.08, 0.266667, 0.029614, 6.1027),
    (40, 10, 2, 0.03, 0.2, 0.081650, 1.9844),
    (40, 20, 1, 0.03, 0.475, 0.087614, 3.6478),
    (40, 20, 1, 0.08, 0.475, 0.087614, 3.3764),
    (40, 0, 0, 0.03, 0.0, 0.003953, -5.9125),
    (40, 40, 0, 0.03, 1.0, 0.003953, 15.5472),
]


@pytest.mark.parametrize(("n", "b", "c", "margin", "mean", "se", "z"), ORACLE)
def test_statistic_equals_the_oracle(n, b, c, margin, mean, se, z):
    statistic = stream_statistic(discordant(n, b, c))
    assert statistic.mean == pytest.approx(mean, abs=1e-6)
    assert statistic.se == pytest.approx(se, abs=1e-6)
    assert non_inferiority_z(statistic, margin) == pytest.approx(z, abs=5e-5)


def test_z_without_guard_is_the_t_tests_p_value_on_the_normal_scale():
    rng = np.random.default_rng(3)
    harm = rng.gamma(2.0, 0.05, size=80)  # right-skewed: the guard stays out
    p = stats.ttest_1samp(harm, 0.08, alternative="greater").pvalue
    assert non_inferiority_z(stream_statistic(harm), 0.08) == pytest.approx(stats.norm.isf(p))


def test_guard_lowers_z_of_a_stream_with_a_long_improvement_tail():
    harm = np.r_[np.full(45, 0.3), np.full(5, -1.5)]
    statistic = stream_statistic(harm)
    p = stats.ttest_1samp(harm, 0.0, alternative="greater").pvalue
    assert statistic.skewness < -1
    assert 0 <= non_inferiority_z(statistic, 0.0) < stats.norm.isf(p)


@given(st.lists(st.floats(-1, 1), min_size=30, max_size=60), st.floats(-0.5, 0.5))
def test_shifting_harm_and_margin_together_changes_nothing(values, shift):
    harm = np.array(values)
    before = non_inferiority_z(stream_statistic(harm), 0.05)
    after = non_inferiority_z(stream_statistic(harm + shift), 0.05 + shift)
    assert after == pytest.approx(before, abs=1e-3)


def test_z_stays_finite_for_overwhelming_evidence():
    z = non_inferiority_z(stream_statistic(np.ones(300)), 0.0)
    assert math.isfinite(z)
    assert z > 20


def test_nan_items_are_left_out_and_never_zero():
    with_nan = np.array([0.2, math.nan, 0.4, math.nan, 0.6])
    assert stream_statistic(with_nan).mean == pytest.approx(0.4)
    assert stream_statistic(with_nan).n == 3


def test_a_stream_of_one_item_is_refused():
    with pytest.raises(ValueError, match="at least 2 items"):
        stream_statistic(np.array([0.1, math.nan]))


def test_harm_has_the_sign_of_getting_worse():
    base, current = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0.0, 1.0])
    assert item_harm(base, current, worse="lower").tolist() == [0.5, -0.5]
    assert item_harm(base, current, worse="higher").tolist() == [-0.5, 0.5]
    assert item_harm(base, current, worse="lower", clip=0.2).tolist() == [0.2, -0.2]


def test_harm_refuses_infinite_values_and_unknown_directions():
    with pytest.raises(ValueError, match="finite"):
        item_harm(np.array([[math.inf]]), np.array([0.0]), worse="lower")
    with pytest.raises(ValueError, match="worse"):
        item_harm(np.array([[1.0]]), np.array([0.0]), worse="down")


def test_betting_sees_the_collapse_that_the_skewness_guard_silences():
    """80 % of an ability of 40 falls: the guarded t is far below any boundary, the bet is not."""
    harm = discordant(40, 32, 0)
    assert non_inferiority_z(stream_statistic(harm), 0.03) < 3.0
    assert betting_z(harm, 0.03, -1.0) > 5.0


@given(st.lists(st.floats(-1, 1), min_size=5, max_size=40), st.data())
def test_betting_never_falls_when_an_item_gets_worse(values, data):
    harm = np.array(values)
    worse = harm.copy()
    item = data.draw(st.integers(0, len(values) - 1))
    # An item worse by its last bit alone drowns in the rounding of the sum of logarithms.
    least = float(harm[item]) + 1e-9
    assume(least <= 1)
    worse[item] = data.draw(st.floats(least, 1))
    assert betting_z(worse, 0.03, -1.0) >= betting_z(harm, 0.03, -1.0)


@pytest.mark.parametrize("tail", [0.02, 0.1, 0.5])
def test_betting_holds_its_level_whatever_the_improvement_tail(tail):
    """Mean exactly at the margin, rare large improvements: the trap of the plain t test."""
    rng = np.random.default_rng(7)
    usual = (0.03 + tail) / (1 - tail)  # tail * (-1) + (1 - tail) * usual = 0.03
    draws = np.where(rng.random((4000, 40)) < tail, -1.0, min(usual, 1.0))
    z = np.array([betting_z(one, 0.03, -1.0) for one in draws])
    for boundary in (1.645, 2.326):
        assert np.mean(z > boundary) <= stats.norm.sf(boundary)
