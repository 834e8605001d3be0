"""Which weights answer at a server? A few texts scored there and by the weights here must agree within rounding.

A server that goes on with the weights it had answers well, and a look at it says "no drift". How far rounding
alone moves the numbers is measured on the weights here (`one_rounding_more`). In 16 bits that may be more than
a short fine-tuning moves them. So a second question is asked where other weights are known that a stale server would
have: which share of the way from those to the weights here has the server gone? Rounding knows nothing of
that direction, and over hundreds of tokens it cancels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.engines.in_process import InProcessEngine, kept_training_state
from guardrail.engines.vllm_server import ServerEngine
from guardrail.errors import InputError
from guardrail.models.rounding import coarser, forward_dtype, one_rounding_more
from guardrail.models.teacher_forcing import each_answer

__all__ = ["Proof", "compare", "prove_weights"]

_BEYOND_NOISE = 5.0
"""What lies this many times beyond the measured noise is no noise: kernels round a few times more or less."""
_NOISE_DRAWS = 3
_SHARE_OFF = 0.2
"""How far the share may be from 1. An adapter's kernels round too, a checkpoint before is rarely this near."""
_TOLD_APART = 0.05
"""Standard error of the share up to which the other weights count as told apart."""
_FAR_ENOUGH = 2.0
"""Times the noise that the other weights must be away: nearer, their own rounding passes for a part of the way."""

Texts = Sequence[Sequence[int]]
LogProbs = Sequence[NDArray[np.floating[Any]]]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the comparison found, in nats a token, root mean square over all tokens."""

    tokens: int
    off: float
    """Between server and weights here."""
    noise: float
    """What one rounding more in every module makes of the weights here, the largest of three."""
    moved: float | None = None
    """Between the weights here and the others; None where no others are known."""
    share: float | None = None
    """Share of the way from the others to the weights here that the server has gone, 1 all of it; None where
    the two are too near each other to tell."""

    @property
    def agrees(self) -> bool:
        """Whether the server has the weights here, as far as log-probabilities can tell."""
        near = self.off <= _BEYOND_NOISE * self.noise
        return near and (self.share is None or abs(self.share - 1) <= _SHARE_OFF)

    def record(self) -> dict[str, Any]:
        """Return it for manifest and ledger."""
        return asdict(self)


def compare(
    asked: LogProbs, here: LogProbs, noisy: Sequence[LogProbs], others: LogProbs | None
) -> Proof:
    """Compare the log-probabilities of the same tokens, given text by text.

    Args:
        asked: The server's.
        here: Of the weights in this process.
        noisy: Of the same under more rounding, once a draw.
        others: Of the weights that a stale server would have, NaN where they are not known.
    """
    s, h = np.concatenate(asked), np.concatenate(here)
    off = _size(s - h)
    noise = max(_size(np.concatenate(one) - h) for one in noisy)
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


def prove_weights(
    engine: ServerEngine,
    local: InProcessEngine,
    prompts: Texts,
    golds: Texts,
    *,
    what: str,
    dtype: torch.dtype | None = None,
    others: LogProbs | None = None,
    others_are: str = "",
) -> Proof:
    """Return how well a server's log-probabilities of golds agree with those of the weights here.

    Args:
        engine: Asks the server.
        local: The weights it must have.
        prompts: Token ids before each gold.
        golds: The tokens that are scored.
        what: The model's name, for the message.
        dtype: Precision the server may compute in, if it is coarser than that of the weights here.
        others: Log-probabilities of the weights a stale server would have, NaN where not known.
        others_are: Whose those are, for the message.

    Raises:
        InputError: the server has other weights, or computes with them in another way.
    """
    asked = engine.token_logprobs(prompts, golds)
    here = _logprobs(local, prompts, golds)
    own = forward_dtype(local.model)
    rounding = own if dtype is None else coarser(own, dtype)
    noisy = []
    for seed in range(_NOISE_DRAWS):
        with one_rounding_more(local.model, rounding, seed):
            noisy.append(_logprobs(local, prompts, golds))
    proof = compare(asked, here, noisy, others)
    if proof.agrees:
        return proof
    seen = (
        f"its log-probabilities of {proof.tokens} tokens are {proof.off:.2g} nats a token from those of `{what}` here, where "
        f"rounding explains {proof.noise:.2g}"
    )
    if proof.share is not None:
        seen += (
            f"; of the way from {others_are} to `{what}` it has gone {round(100 * proof.share)} %"
        )
    raise InputError(
        f"server `{engine.server.url}` does not answer as `{engine.served.name}` with the weights of `{what}`: {seen}. Its "
        f"weights are stale or another model's ({engine.served.root or 'it does not say which'}), or it computes in "
        f"another precision: start it anew with `{what}` and `--dtype {str(own).removeprefix('torch.')}`"
    )


def _logprobs(local: InProcessEngine, prompts: Texts, golds: Texts) -> list[NDArray[np.float64]]:
    def scored(row: int, logits: torch.Tensor) -> NDArray[np.float64]:
        ids = torch.tensor(list(golds[row]), device=logits.device)
        logprobs = torch.log_softmax(logits.double(), dim=-1).gather(1, ids[:, None])[:, 0]
        found: NDArray[np.float64] = logprobs.cpu().numpy()
        return found

    with kept_training_state(local.model):
        return each_answer(local.model, prompts, golds, scored, pad_id=local.profile.pad)
