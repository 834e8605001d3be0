"""Are two sets of log-probabilities those of the same weights? Arithmetic over numbers; asks nobody.

How far rounding alone moves the numbers is told by the same weights under more rounding. In 16 bits that may be more
than a short fine-tuning moves them. So a second question is asked where other weights are known that a stale engine would
have: which share of the way from those to the weights here has it gone? Rounding knows nothing of
that direction, and over hundreds of tokens it cancels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LogProbs", "Proof", "compare"]

_BEYOND_NOISE = 5.0
"""What lies this many times beyond the measured noise is no noise: kernels round a few times more or less."""
_FLOAT32 = 1e-6
"""Nats that a log-softmax over logits of some tens loses in float32, in which every engine gives its numbers."""
_SHARE_OFF = 0.2
"""How far the share may be from 1. An adapter's kernels round too, a checkpoint before is rarely this near."""
_TOLD_APART = 0.05
"""Standard error of the share up to which the other weights count as told apart."""
_FAR_ENOUGH = 2.0
"""Times the noise that the other weights must be away: nearer, their own rounding passes for a part of the way."""

LogProbs = Sequence[NDArray[np.floating[Any]]]
"""Those of each text's tokens, in nats."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the comparison found, in nats a token, root mean square over all tokens."""

    tokens: int
    off: float
    """Between engine and weights here."""
    noise: float
    """What one rounding more in every module makes of the weights here, the largest of three, float32's own at least."""
    moved: float | None = None
    """Between the weights here and the others; None where no others are known."""
    share: float | None = None
    """Share of the way from the others to the weights here that the engine has gone, 1 all of it; None where
    the two are too near each other to tell."""

    @property
    def agrees(self) -> bool:
        """Whether the engine has the weights here, as far as log-probabilities can tell."""
        near = self.off <= _BEYOND_NOISE * self.noise
        return near and (self.share is None or abs(self.share - 1) <= _SHARE_OFF)

    def said(self, others_are: str) -> str:
        """Return the numbers in words, for a message; `others_are` says whose the other weights are."""
        words = (
            f"its log-probabilities of {self.tokens} tokens are {self.off:.2g} nats a token from those here, where "
            f"rounding explains {self.noise:.2g}"
        )
        if self.share is None:
            return words
        return f"{words}; of the way from {others_are} it has gone {round(100 * self.share)} %"

    def record(self) -> dict[str, Any]:
        """Return it for manifest and ledger."""
        return asdict(self)


def compare(
    asked: LogProbs, here: LogProbs, noisy: Sequence[LogProbs], others: LogProbs | None
) -> Proof:
    """Compare the log-probabilities of the same tokens, given text by text.

    Args:
        asked: The engine's.
        here: Of the weights in this process.
        noisy: Of the same under more rounding, once a draw.
        others: Of the weights that a stale engine would have, NaN where they are not known.
    """
    s, h = np.concatenate(asked), np.concatenate(here)
    off = _size(s - h)
    noise = max(_FLOAT32, *(_size(np.concatenate(one) - h) for one in noisy))
    if others is None:
        return Proof(len(h), off, noise)
    o = np.concatenate(others)
    known = np.isfinite(o)
    way = (h - o)[known]
    if not way.any():
        return Proof(len(h), off, noise, 0.0)
    # Least squares through the origin: what is left beside the way is the error of the share.
    length = float(way @ way)
    share = float((s - o)[known] @ way) / length
    error = _size((s - o)[known] - share * way) / length**0.5
    told_apart = error <= _TOLD_APART and _size(way) >= _FAR_ENOUGH * noise
    return Proof(len(h), off, noise, _size(way), share if told_apart else None)


def _size(difference: NDArray[np.floating[Any]]) -> float:
    return float(np.sqrt(np.mean(np.square(difference))))
