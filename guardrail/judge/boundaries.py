"""Alpha spending over looks with the looks' real dependence: a bootstrap of the items, shared by all looks.

The items are drawn once and shared by all looks, metrics and abilities, so an unlucky draw is unlucky
everywhere. One bootstrap draw of the units, the same at every look, re-draws them: for draw b, stream k

    Z*[b, k] = sum_u w[b, u] · s[u, k] / sqrt(U/(U-1) · v[b, k])

with w[b, u] how often draw b holds unit u, s[u, k] the unit's sum of deviations from the stream's mean
harm, and v[b, k] the sum of squares. Where harm has the longer tail, as rare failures have, v is that
of the draw, sum_u w[b, u] · (s[u, k] - m[u, k] · d[b, k])² with m[u, k] the unit's items and d[b, k] the draw's
mean deviation, and Z* goes through Student's t to the normal, as the statistic does: a draw with more of
the tail has a larger spread too, so that its upper tail is thin, as the statistic's is. The plain sum of
squares, which takes no notice of that, gave every stream of the family a needlessly high boundary.
Where improvement has the longer tail v is that plain sum, sum_u s[u, k]²: draws that miss the tail would
look certain of harm and lift the boundary for all, and the statistic's own guard pays there already.
That guard takes something from streams without any tail too, a z of 4.3 on 50 items loses 0.3; half of what
it takes from a stream whose improvements have no tail is taken from Z*, so that such streams do not pay twice.

At each look the boundary of a family is the value its largest Z* exceeds in as many draws as the budget
has left for the look; draws above it are spent. A family's alarm probability over the whole run is
then about its alpha at most, up to the number of items and of draws: docs/drift-simulation.md has figures.

Sources: Hall (1992), "The Bootstrap and Edgeworth Expansion", chapter 3, for studentizing; Hanley & MacGibbon
(2006), "Creating non-parametric bootstrap samples using Poisson frequencies", Computer Methods and Programs in
Biomedicine 83, 57-62, for the weights; Chernozhukov, Chetverikov & Kato (2013), "Gaussian
approximations and multiplier bootstrap for maxima of sums", Annals of Statistics 41(6), 2786-2819, for the
maximum over streams; Lan & DeMets (1983), "Discrete sequential boundaries for clinical trials",
Biometrika 70, 659-663, for spending alpha linearly in looks. Studentizing one side only, and putting it all
together over looks that share their items, are ours, and rest on simulation.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from guardrail.judge.statistic import guarded

__all__ = ["Spent", "bootstrap_maxima", "draws_needed", "multipliers", "spend"]

LEAST_DRAWS = 20_000


@dataclass(frozen=True, slots=True)
class Spent:
    """What one family has spent: which draws are above an earlier boundary.

    `dead` packs one bit a draw (numpy.packbits) as hexadecimal text, so that the state is plain JSON.
    """

    dead: str = ""

    def alive(self, draws: int) -> NDArray[np.bool_]:
        """Return which draws are not spent, shape (draws,)."""
        if not self.dead:
            return np.ones(draws, dtype=bool)
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(self.dead), dtype=np.uint8), count=draws)
        return ~bits.astype(bool)


def draws_needed(looks: int, smallest_alpha: float) -> int:
    """Return how many draws give every look of every budget at least one to spend."""
    return max(LEAST_DRAWS, math.ceil(looks / smallest_alpha))


@lru_cache(maxsize=1)
def multipliers(seed: int, draws: int, units: int) -> NDArray[np.float32]:
    """Return how often each draw holds each unit, shape (units, draws), Poisson with mean 1.

    The same for the same arguments, in every process.
    """
    counts = np.random.default_rng(seed).poisson(1.0, (units, draws)).astype(np.float32)
    counts.flags.writeable = False
    return counts


def bootstrap_maxima(
    weights: NDArray[np.float32],
    sums: NDArray[np.float32],
    sizes: NDArray[np.float32],
    *,
    least: float = 1.0,
) -> NDArray[np.float32]:
    """Return the largest Z* of each draw over the streams of a family, shape (draws,).

    Args:
        weights: Shape (units, draws).
        sums: Every unit's sum of deviations in every stream, shape (streams, units), 0 where not in it.
        sizes: Its items in the stream, shape (streams, units), 0 where not in it.
        least: Z* below it may count as 0: the caller has no use for a boundary there. Saves time.
    """
    best = np.zeros(weights.shape[1], dtype=np.float32)
    # Streams over the same items, such as all metrics of an ability, share their draws.
    kinds, kind = np.unique(sizes, axis=0, return_inverse=True)
    for number, size in enumerate(kinds):
        inside = np.flatnonzero(size)
        # Units that stand together are a view; others are copied, which costs more than the product.
        together = inside[-1] - inside[0] + 1 == len(inside)
        held = slice(inside[0], inside[-1] + 1) if together else inside
        streams = sums[kind.ravel() == number][:, inside]
        best = np.maximum(best, _maxima(weights[held], streams, size[inside], least))
    # The last bits of a product depend on how many streams it is taken over, and on the machine.
    rounded: NDArray[np.float32] = best.round(4)
    return rounded


def _maxima(
    weights: NDArray[np.float32],
    sums: NDArray[np.float32],
    size: NDArray[np.float32],
    least: float,
) -> NDArray[np.float32]:
    """The largest Z* of each draw over streams that hold the same units."""
    units = len(size)
    correction = units / (units - 1)
    whole = (sums * sums).sum(axis=1)
    moved, squares = sums @ weights, (sums * sums) @ weights
    # A studentized Z* is at most √2 times the plain one, since the spread counts as half at least.
    flat = np.flatnonzero(moved > least / math.sqrt(2) * np.sqrt(correction * whole)[:, None])
    stream, draw = np.divmod(flat, moved.shape[1])
    at, items = moved.ravel()[flat], (size @ weights)[draw]
    crossed, squared_items = at, items
    if size.max() > 1:
        crossed = ((sums * size) @ weights).ravel()[flat]
        squared_items = ((size * size) @ weights)[draw]
    mean = at / np.maximum(items, 1)
    spread = squares.ravel()[flat] - mean * (2 * crossed - mean * squared_items)
    # A draw of nearly equal units knows little of the spread: at least half the plain one.
    cubed = (sums**3).sum(axis=1)
    studentized = (cubed > 0)[stream]
    spread = np.where(studentized, np.maximum(spread, whole[stream] / 2), whole[stream])
    z = (at / np.sqrt(correction * spread)).astype(np.float64)
    z[studentized] = -special.ndtri(special.stdtr(units - 1, -z[studentized]))
    # Of what the statistic's guard takes from a stream without a tail of improvements, half.
    skewness = cubed / units / np.maximum(whole / (units - 1), 1e-12) ** 1.5
    z = (z + guarded(z, np.maximum(skewness, 0.0)[stream], units)) / 2
    best = np.zeros(moved.shape[1], dtype=np.float32)
    np.maximum.at(best, draw, z.astype(np.float32))
    return best


def spend(
    maxima: NDArray[np.float32], alpha: float, share: float, spent: Spent
) -> tuple[float, Spent]:
    """Return the boundary of one family at one look, and what is spent after it.

    The cumulative budget is floor(alpha · share · (B + 1)) of B draws. The boundary is the value that
    as many living draws exceed as the budget has left; where it has none the boundary is infinite,
    which means that the family is not tested at this look.

    Args:
        maxima: The family's largest Z* of each draw, shape (B,).
        alpha: Error budget of the whole run.
        share: Part of the budget that may be spent by now, 0 to 1.
        spent: What the earlier looks spent.
    """
    alive = spent.alive(len(maxima))
    left = int(alpha * min(1.0, share) * (len(maxima) + 1)) - int((~alive).sum())
    if left <= 0:
        return math.inf, spent
    living = maxima[alive]
    if left >= len(living):
        return math.inf, spent
    boundary = float(np.partition(living, len(living) - left - 1)[len(living) - left - 1])
    dead = ~alive | (maxima > boundary)
    return boundary, Spent(np.packbits(dead).tobytes().hex())
