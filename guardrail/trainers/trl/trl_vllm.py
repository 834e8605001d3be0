"""The vLLM of TRL's GRPOTrainer, colocated or a server, as what answers looks.

Hooks: none; called are `VLLMGeneration.sync_weights` and `generate` (public), and its settings of how rollouts are written are
changed for the call. Both versions wake a vLLM that sleeps. TRL 0.29 then loads the weights of the first checkpoint again
(`reload_weights`), after the handover: with `vllm_enable_sleep_mode` it writes with base's, as the proof of a look says.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate.utils import gather_object

from guardrail.anchors.decoding import Decoding
from guardrail.engines.rollout_weights import Written
from guardrail.errors import InputError
from guardrail.models.profile import Profile

__all__ = ["TrlVllm"]


class TrlVllm:
    """TRL's `VLLMGeneration` as a `RolloutVllm`.

    The seed has no say: it would be the same one for every prompt of a call, and answers that share their noise are no
    separate draws. So sampled answers are not the same ones again after a resume.
    """

    def __init__(self, vllm: Any) -> None:
        """Keep the trainer's `vllm_generation`."""
        self.vllm = vllm

    @property
    def dtype(self) -> torch.dtype | None:
        """That of the colocated model; a server does not say."""
        if self.vllm.mode != "colocate":
            return None
        dtype: torch.dtype = self.vllm.llm.llm_engine.model_config.dtype
        return dtype

    def write(
        self, prompts: Sequence[list[int]], decoding: Decoding, profile: Profile, seed: int
    ) -> list[Written]:
        """See `RolloutVllm`; the seed is not used."""
        need = max(map(len, prompts), default=0) + decoding.max_new_tokens
        limit = self.vllm.max_model_length
        if limit is not None and need > limit:
            raise InputError(
                f"a look needs {need} tokens for its longest prompt and `looks.decoding.max_new_tokens`, and "
                f"the trainer's vLLM holds {limit}; set `vllm_max_model_length` to {need} or more"
            )
        # The trainer cuts what comes back into equal shares of the ranks.
        share = max(gather_object([len(prompts)]))
        filled = [*prompts, *[[profile.stop[0]]] * (share - len(prompts))]
        with self._decoding(decoding, profile):
            self.vllm.sync_weights()
            _, ids, logprobs, *_ = self.vllm.generate(filled, None, 1)
        return [
            Written(list(row), [math.nan if one[0] is None else one[0] for one in scores])
            for row, scores in zip(ids[: len(prompts)], logprobs, strict=False)
        ]

    @contextlib.contextmanager
    def _decoding(self, decoding: Decoding, profile: Profile) -> Iterator[None]:
        """Let it write as looks do for the body, and as its rollouts after it."""
        sampled = decoding.mode == "sampled"
        wanted: dict[str, Any] = {
            "temperature": decoding.temperature if sampled else 0.0,
            "top_p": decoding.top_p if sampled else 1.0,
            "top_k": decoding.top_k if sampled else 0,
            "min_p": 0.0,
            "repetition_penalty": decoding.repetition_penalty,
            "max_completion_length": decoding.max_new_tokens,
            "logprobs": 0,  # of the token taken, no others
            "generation_kwargs": {"stop_token_ids": list(profile.stop)},
            "structured_outputs_regex": None,
        }
        before = {name: getattr(self.vllm, name) for name in wanted}
        for name, value in wanted.items():
            setattr(self.vllm, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self.vllm, name, value)
