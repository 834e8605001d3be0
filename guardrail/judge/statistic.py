"""The non-inferiority statistic of one stream: is the mean harm shown to exceed the margin?"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

__all__ = [
    "FloatArray",
    "IntArray",
    "StreamStatistic",
    "betting_z",
    "guarded",
    "half_width",
    "item_harm",
    "non_inferiority_z",
    "stream_interval",
    "stream_statistic",
    "unit_sums",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

_BETS = np.array([0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95])
"""Bets as shares of the largest one that cannot ruin; a mixture, so that none must be chosen."""

_Z_CAP = 38.0  # beyond it the normal quantile of a float64 probability is infinite


@dataclass(frozen=True, slots=True)
class StreamStatistic:
    """Moments of one stream's harm.

    `units` counts what was drawn independently: clusters of items made from one template, and single
    items. `se` is the standard error of the mean over units, `sd` = se·sqrt(n) the spread an item would
    have if all items were units, `skewness` that of the units.
    """

    n: int
    units: int
    mean: float
    sd: float
    se: float
    skewness: float


def item_harm(
    base: FloatArray, current: FloatArray, *, worse: str, clip: float | None = None
) -> FloatArray:
    """Return each item's harm: positive where the current answer is worse than base.

    Args:
        base: Metric values of the base replicates, shape (n, K); NaN where not applicable.
        current: Metric values of the current answers, shape (n,); NaN where not applicable.
        worse: `lower` or `higher`, the direction in which the metric is harm.
        clip: Bound on the absolute harm, for metrics without natural bounds.

    Returns:
        Shape (n,), unit of the metric; NaN where base or current is NaN.

    Raises:
        ValueError: shapes do not fit, `worse` is neither word, or a value is infinite.
    """
    if base.ndim != 2 or current.shape != (base.shape[0],):
        raise ValueError(
            f"`base` must be (n, K) and `current` (n,), got {base.shape} and {current.shape}"
        )
    if worse not in ("lower", "higher"):
        raise ValueError(f"`worse` must be 'lower' or 'higher', got {worse!r}")
    if np.isinf(base).any() or np.isinf(current).any():
        raise ValueError("metric values must be finite or NaN; got an infinite one")
    difference: FloatArray = base.mean(axis=1) - current
    harm = difference if worse == "lower" else -difference
    return harm if clip is None else np.clip(harm, -clip, clip)


def unit_sums(harm: FloatArray, units: IntArray | None = None) -> FloatArray:
    """Return each unit's sum of deviations from the mean harm, shape (units,); NaN items left out.

    Without `units` every item is one. A unit all of whose items are NaN is left out.
    """
    applies = ~np.isnan(harm)
    deviation: FloatArray = harm[applies] - harm[applies].mean()
    if units is None:
        return deviation
    sums: FloatArray = np.bincount(units[applies], weights=deviation).astype(np.float64)
    return sums[np.bincount(units[applies]) > 0]


def stream_statistic(harm: FloatArray, units: IntArray | None = None) -> StreamStatistic:
    """Return the moments of a stream's harm, NaN items left out; sd is floored at 1/n.

    With G units whose deviations from the mean sum to s_g: se² = G/(G-1) · sum s_g² / n², the
    cluster-robust variance of a mean (Liang & Zeger 1986, Biometrika 73, 13-22, with the usual
    small-sample factor); with one item a unit that is sd²/n with ddof 1.

    Args:
        harm: Shape (n,).
        units: The unit of each item, shape (n,); `None`: every item is one.

    Raises:
        ValueError: fewer than two units have an item that is not NaN.
    """
    n = int((~np.isnan(harm)).sum())
    sums = unit_sums(harm, units) if n else np.empty(0)
    count = len(sums)
    if count < 2:
        raise ValueError(
            f"a stream needs at least 2 items or clusters to have a spread, got {count}"
        )
    spread = math.sqrt(float(sums @ sums) / (count - 1))
    sd = max(spread * math.sqrt(count / n), 1.0 / n)
    # Over the floored spread, so that one of rounding errors gives 0 and not noise over noise.
    skewness = float(np.mean(sums**3)) / (sd * math.sqrt(n / count)) ** 3
    return StreamStatistic(n, count, float(np.nanmean(harm)), sd, sd / math.sqrt(n), skewness)


def stream_interval(statistic: StreamStatistic) -> tuple[float, float]:
    """Return the two-sided 95 % t interval of the mean harm over units, for one stream at one look: a picture, no promise."""
    half = half_width(statistic.sd, statistic.n, statistic.units)
    return statistic.mean - half, statistic.mean + half


def half_width(sd: float, n: int, units: int) -> float:
    """Return half of the two-sided 95 % t interval of a mean harm: the smallest one that it tells from zero.

    Where the true mean is as large, half of the measurements tell it; does not promise more.

    Args:
        sd: Of an item, as `StreamStatistic` has it; that of other items of the same kind gives an estimate.
        n: Items.
        units: Clusters and single items among them, at least two.
    """
    return float(special.stdtrit(units - 1, 0.975)) * (sd / math.sqrt(n))


def non_inferiority_z(statistic: StreamStatistic, margin: float) -> float:
    """Return z for the null hypothesis "population mean harm <= margin"; large z is evidence of harm.

    t = (mean - margin) / se with n units, z = Phi^-1(F_{t, n-1}(t)), computed in the lower tail and capped so
    that it stays finite. For z > 0 the skewness guard applies: with
    g = min(skewness - sqrt(6/n), 0), z <- max(0, z + g / (6 sqrt n) + g min(z, 8)^2 / (3 sqrt n)).
    The correction terms are those of Johnson's (1978, JASA 73, 536-544) modified t for the bias and
    the skewness of the t statistic; the shrinkage of g by sqrt(6/n), the standard error of a sample
    skewness, and the cap of 8 are ours: they make the guard one-sided and finite.

    Does not promise an exact level in small samples; the promise rests on simulation.
    """
    n = statistic.units
    t = (statistic.mean - margin) / statistic.se
    tail = float(special.stdtr(n - 1, -abs(t)))
    size = -float(special.ndtri(tail)) if tail > 0 else _Z_CAP
    z = math.copysign(min(size, _Z_CAP), t)
    if z <= 0:
        return z
    return max(0.0, float(guarded(np.float64(z), statistic.skewness, n)))


def guarded(
    z: FloatArray | np.float64, skewness: FloatArray | float, units: int
) -> FloatArray | np.float64:
    """Return positive z scores less the skewness guard of `non_inferiority_z`, element by element."""
    g, root = np.minimum(skewness - math.sqrt(6.0 / units), 0.0), math.sqrt(units)
    shrunk: FloatArray | np.float64 = z + g / (6 * root) + g * np.minimum(z, 8.0) ** 2 / (3 * root)
    return shrunk


def betting_z(
    harm: FloatArray, margin: float, lowest: float, units: IntArray | None = None
) -> float:
    """Return the same evidence as a z score from a test that assumes nothing but a bounded harm.

    E = mean over bets b of prod_i (1 + b / (margin - lowest) * (harm_i - margin)) has expectation at
    most 1 if the population mean harm is at most the margin, so 1/E bounds the p-value (Markov) and
    z = Phi^-1(1 - 1/E). It grows with every item's harm. The skewness guard of
    `non_inferiority_z` does not: it silences collapses, where most items fall and the few that hold
    look like a long tail; there this test speaks.

    Args:
        harm: Item harms, NaN left out.
        margin: Tolerated mean harm, above `lowest`.
        lowest: Smallest harm an item can have: -1 for values in [0, 1], -clip for clipped ones.
        units: The unit of each item; the bets are on the units' means, each counted once.

    Returns:
        z, -inf where the bet lost.

    Source: Waudby-Smith & Ramdas (2024), "Estimating means of bounded random variables by betting",
    JRSS B 86(1), the capital process of section 4 with constant bets; the mixture of bets is ours.
    """
    applies = ~np.isnan(harm)
    values = harm[applies]
    if units is not None:
        sizes = np.bincount(units[applies])
        values = (np.bincount(units[applies], weights=values) / np.maximum(sizes, 1))[sizes > 0]
    stakes = _BETS / (margin - lowest)
    logs = np.log1p(stakes[:, None] * (values - margin)).sum(axis=1)
    largest = float(logs.max())
    log_e = largest + math.log(float(np.mean(np.exp(logs - largest))))
    if log_e <= 0.0:
        return -math.inf
    return min(-float(special.ndtri(math.exp(-log_e))), _Z_CAP) if log_e < 700 else _Z_CAP
