"""The vLLM that writes a GRPO trainer's rollouts, colocated or a server, as the one that answers looks.

What the guard needs of such a vLLM is one function, `write`; each trainer's folder has its own. Whether it wrote with the
weights in training is asked at every look (rollout_weights.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from guardrail.anchors.decoding import Decoding
from guardrail.engines.in_process import (
    Completion,
    InProcessEngine,
    completion,
    kept_training_state,
)
from guardrail.engines.proof import Proof
from guardrail.engines.rollout_weights import Written, prove_handover, prove_now
from guardrail.errors import InputError
from guardrail.models.profile import Profile
from guardrail.models.rounding import coarser, forward_dtype

__all__ = ["RolloutVllm", "RolloutWriter"]


class RolloutVllm(Protocol):
    """A trainer's vLLM."""

    @property
    def dtype(self) -> torch.dtype | None:
        """Precision it computes in, None where it does not say."""

    def write(
        self, prompts: Sequence[list[int]], decoding: Decoding, profile: Profile, seed: int
    ) -> list[Written]:
        """Hand it the weights of the moment, then let it write one text a prompt, of these very tokens.

        Every rank calls at the same time, with prompts of its own. ZeRO-3's parameters lie in pieces then. Whether
        the seed has a say is the trainer's matter: without, sampled texts are not the same ones after a resume.

        Raises:
            InputError: it holds too few tokens, or reads other prompts.
        """


@dataclass(slots=True)
class RolloutWriter:
    """Leaves an engine's answers to a trainer's vLLM; log-probabilities still come from this process."""

    vllm: RolloutVllm
    mixed_precision: str = "no"
    """Accelerate's word for what the trainer's forwards are cast to."""
    handed_over: bool = False
    """Whether it has shown in this process that it takes new weights."""

    def complete(
        self, engine: InProcessEngine, prompts: Sequence[list[int]], seed: int
    ) -> list[Completion]:
        """Return one completion a prompt, written with the weights of the moment. Every rank asks at the same time.

        Raises:
            InputError: an answer ended neither at a stop token nor at the limit.
        """
        answers = [
            completion(engine.tokenizer, one.token_ids, engine.profile)
            for one in self._write(engine, prompts, engine.decoding, seed)
        ]
        for answer in answers:
            tokens, most = len(answer.token_ids), engine.decoding.max_new_tokens
            if answer.finish_reason == "length" and tokens != most:
                raise InputError(
                    f"the trainer's vLLM ended an answer after {tokens} tokens, at none of the profile's stop tokens "
                    f"{list(engine.profile.stop)} and before `max_new_tokens`, {most}; give it room for the prompt and so many "
                    "tokens, and no stop strings or tokens of its own"
                )
        return answers

    def prove(
        self, engine: InProcessEngine, prompts: Sequence[list[int]], seed: int, step: int
    ) -> list[Proof]:
        """Return what shows that it writes with the weights in training; the last is of those weights as they are.

        The first time in a process one parameter is changed, handed over, and put back, so there is a proof before
        that: of the changed weights.

        Raises:
            InputError: it has other weights, or computes with them in another way.
        """

        def write(texts: Sequence[list[int]], decoding: Decoding) -> list[Written]:
            return self._write(engine, texts, decoding, seed)

        own = forward_dtype(engine.model, self.mixed_precision)
        rounding = own if self.vllm.dtype is None else coarser(own, self.vllm.dtype)
        if self.handed_over:
            now = prove_now(write, engine, prompts, rounding)
            _require(now, "has not the weights", "the model without its adapter", step)
            return [now]
        changed, now = prove_handover(write, engine, prompts, rounding)
        _require(changed, "does not take new weights", "the weights before", step, told_apart=True)
        _require(now, "keeps weights it was to give up", "those", step, told_apart=True)
        self.handed_over = True
        return [changed, now]

    def _write(
        self, engine: InProcessEngine, prompts: Sequence[list[int]], decoding: Decoding, seed: int
    ) -> list[Written]:
        with kept_training_state(engine.model), engine.apart():
            return self.vllm.write(prompts, decoding, engine.profile, seed)


def _require(
    proof: Proof, what: str, others_are: str, step: int, *, told_apart: bool = False
) -> None:
    if proof.agrees and not (told_apart and proof.share is None):
        return
    raise InputError(
        f"the trainer's vLLM {what} at step {step}: {proof.said(others_are)}. Looks by it would judge other weights, and rollouts "
        "are theirs too. Its weights are stale, or it computes in another precision or with other settings; take a "
        "version of it that is known to go with this trainer, or let the model itself write (`use_vllm` false)"
    )
