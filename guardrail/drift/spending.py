"""Alpha spending over looks with the looks' real dependence: a multiplier bootstrap.

The items are drawn once and shared by all looks, metrics and abilities, so an unlucky draw is unlucky
everywhere. One standard normal weight a unit, the same at every look, re-draws them: for draw b, stream k

    Z*[b, k] = sum over units u of eps[b, u] · s[u, k] / sqrt(U/(U-1) · sum_u s[u, k]²)

with s[u, k] the unit's sum of deviations from the stream's mean harm, so that Z* varies as the statistic
does. At each look the boundary of a family is the value its largest Z* exceeds in as many draws as the
budget has left for the look; draws above it are spent. A family's alarm probability over the whole run
is then at most its alpha, up to the normal approximation and the number of draws.

Sources: Chernozhukov, Chetverikov & Kato (2013), "Gaussian approximations and multiplier bootstrap for
maxima of sums", Annals of Statistics 41(6), 2786-2819, for the maximum over streams; Lan & DeMets (1983),
"Discrete sequential boundaries for clinical trials", Biometrika 70, 659-663, for spending alpha linearly
in looks. Putting the two together over looks that share their items is ours, and rests on simulation.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from guardrail.drift.statistic import FloatArray

__all__ = ["Spent", "bootstrap_maxima", "draws_needed", "multipliers", "spend", "standardised"]

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
    """Return the weights, shape (draws, units): the same for the same arguments, in every process."""
    weights = np.random.default_rng(seed).standard_normal((draws, units), dtype=np.float32)
    weights.flags.writeable = False
    return weights


def bootstrap_maxima(
    weights: NDArray[np.float32], sums: NDArray[np.float32], family: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the largest Z* of each draw over the streams of a family, shape (draws,).

    Args:
        weights: Shape (draws, units).
        sums: Standardised unit sums of every stream, shape (units, streams), 0 where a unit is not in it.
        family: Columns of the family's streams.
    """
    best: NDArray[np.float32] = (weights @ sums[:, family]).max(axis=1)
    return best


def standardised(sums: FloatArray, units: NDArray[np.intp], count: int) -> NDArray[np.float32]:
    """Return a stream's unit sums scaled to unit variance of Z*, spread over all units, shape (count,)."""
    full = np.zeros(count, dtype=np.float32)
    scale = math.sqrt(len(sums) / (len(sums) - 1) * float(sums @ sums))
    if scale > 0:
        full[units] = sums / scale
    return full


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
