"""The vLLM that writes a GRPO trainer's rollouts, colocated or a server, as the one that answers looks."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from accelerate.utils import gather_object

from guardrail.anchors.decoding import Decoding
from guardrail.engines.in_process import (
    Completion,
    InProcessEngine,
    completion,
    kept_training_state,
)
from guardrail.errors import InputError
from guardrail.models.profile import Profile

__all__ = ["RolloutEngine", "with_vllm"]


@contextlib.contextmanager
def _decoding(vllm: Any, decoding: Decoding, profile: Profile) -> Iterator[None]:
    """Let the trainer's vLLM decode as looks do for the body, and as its rollouts after it."""
    sampled = decoding.mode == "sampled"
    wanted: dict[str, Any] = {
        "temperature": decoding.temperature if sampled else 0.0,
        "top_p": decoding.top_p if sampled else 1.0,
        "top_k": decoding.top_k if sampled else 0,
        "min_p": 0.0,
        "repetition_penalty": decoding.repetition_penalty,
        "max_completion_length": decoding.max_new_tokens,
        "logprobs": None,
        "generation_kwargs": {"stop_token_ids": list(profile.stop)},
        "structured_outputs_regex": None,
    }
    before = {name: getattr(vllm, name) for name in wanted}
    for name, value in wanted.items():
        setattr(vllm, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(vllm, name, value)


@dataclass(frozen=True, slots=True)
class RolloutEngine(InProcessEngine):
    """Answers come from the trainer's vLLM, given the current weights; log-probabilities from this process."""

    vllm: Any = field(kw_only=True)
    """TRL's VLLMGeneration."""

    def complete(self, prompts: Sequence[list[int]], *, seed: int) -> list[Completion]:
        """Return one completion per tokenised prompt; every rank must call it at the same time.

        `seed` has no say: vLLM would give every prompt of a call the same one, and answers that share their
        noise are no separate draws. So sampled answers are not the same ones again after a resume.

        Raises:
            InputError: prompt and answer together do not fit into the vLLM the trainer has started.
        """
        need = max(map(len, prompts), default=0) + self.decoding.max_new_tokens
        limit = self.vllm.max_model_length
        if limit is not None and need > limit:
            raise InputError(
                f"a look needs {need} tokens for its longest prompt and `looks.decoding.max_new_tokens`, and "
                f"the trainer's vLLM holds {limit}; set `vllm_max_model_length` to {need} or more"
            )
        # The trainer cuts what comes back into equal shares of the ranks.
        share = max(gather_object([len(prompts)]))
        filled = [*prompts, *[[self.profile.stop[0]]] * (share - len(prompts))]
        with kept_training_state(self.model), _decoding(self.vllm, self.decoding, self.profile):
            self.vllm.sync_weights()
            ids = self.vllm.generate(filled, None, 1)[1]
        return [completion(self.tokenizer, list(row), self.profile) for row in ids[: len(prompts)]]


def with_vllm(engine: InProcessEngine, vllm: Any) -> RolloutEngine:
    """Return the engine with its answers left to the trainer's vLLM."""
    had = {f.name: getattr(engine, f.name) for f in fields(engine)}
    return RolloutEngine(**had, vllm=vllm)
