"""Which weights answer? A few texts scored by an engine and by the weights here must agree within rounding.

An engine that goes on with the weights it had answers well, and a look at it says "no drift". How far rounding
alone moves the numbers is measured on the weights here (`one_rounding_more`); proof.py tells what the numbers say.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from guardrail.engines.in_process import InProcessEngine, kept_training_state
from guardrail.engines.proof import LogProbs, Proof, compare
from guardrail.engines.vllm_server import ServerEngine
from guardrail.errors import InputError
from guardrail.models.rounding import coarser, forward_dtype, one_rounding_more
from guardrail.models.teacher_forcing import each_answer

__all__ = ["logprobs_here", "prove_weights", "with_more_rounding"]

_NOISE_DRAWS = 3
"""The largest of them counts."""

Texts = Sequence[Sequence[int]]


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
    here = logprobs_here(local, prompts, golds)
    own = forward_dtype(local.model)
    rounding = own if dtype is None else coarser(own, dtype)
    noisy = with_more_rounding(local, prompts, golds, rounding)
    proof = compare(asked, here, noisy, others)
    if proof.agrees:
        return proof
    raise InputError(
        f"server `{engine.server.url}` does not answer as `{engine.served.name}` with the weights of `{what}`: "
        f"{proof.said(others_are)}. Its weights are stale or another model's ({engine.served.root or 'it does not say which'}), or it computes in "
        f"another precision: start it anew with `{what}` and `--dtype {str(own).removeprefix('torch.')}`"
    )


def with_more_rounding(
    local: InProcessEngine, prompts: Texts, texts: Texts, dtype: torch.dtype
) -> list[LogProbs]:
    """Return what `logprobs_here` does under one rounding of `dtype` more in every module, once a draw."""
    noisy: list[LogProbs] = []
    for seed in range(_NOISE_DRAWS):
        with one_rounding_more(local.model, dtype, seed):
            noisy.append(logprobs_here(local, prompts, texts))
    return noisy


def logprobs_here(
    local: InProcessEngine, prompts: Texts, texts: Texts
) -> list[NDArray[np.float64]]:
    """Return the log-probabilities that the weights here give each text's tokens after its prompt."""

    def scored(row: int, logits: torch.Tensor) -> NDArray[np.float64]:
        ids = torch.tensor(list(texts[row]), device=logits.device)
        logprobs = torch.log_softmax(logits.double(), dim=-1).gather(1, ids[:, None])[:, 0]
        found: NDArray[np.float64] = logprobs.cpu().numpy()
        return found

    with kept_training_state(local.model):
        return each_answer(local.model, prompts, texts, scored, pad_id=local.profile.pad)
