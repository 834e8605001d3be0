"""The vLLM that writes a GRPO trainer's rollouts, colocated or a server, as the one that answers looks."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
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

__all__ = ["vllm_writer"]

Writer = Callable[[InProcessEngine, Sequence[list[int]], int], list[Completion]]


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


def vllm_writer(vllm: Any) -> Writer:
    """Return what leaves an engine's answers to the trainer's vLLM, given the current weights.

    Log-probabilities still come from this process. Every rank must ask for answers at the same time. The seed has no
    say: vLLM would give every prompt of a call the same one, and answers that share their noise are no separate
    draws. So sampled answers are not the same ones again after a resume.

    Args:
        vllm: TRL's VLLMGeneration.
    """

    def write(engine: InProcessEngine, prompts: Sequence[list[int]], seed: int) -> list[Completion]:
        need = max(map(len, prompts), default=0) + engine.decoding.max_new_tokens
        limit = vllm.max_model_length
        if limit is not None and need > limit:
            raise InputError(
                f"a look needs {need} tokens for its longest prompt and `looks.decoding.max_new_tokens`, and "
                f"the trainer's vLLM holds {limit}; set `vllm_max_model_length` to {need} or more"
            )
        # The trainer cuts what comes back into equal shares of the ranks.
        share = max(gather_object([len(prompts)]))
        filled = [*prompts, *[[engine.profile.stop[0]]] * (share - len(prompts))]
        with kept_training_state(engine.model), _decoding(vllm, engine.decoding, engine.profile):
            vllm.sync_weights()
            ids = vllm.generate(filled, None, 1)[1]
        return [
            completion(engine.tokenizer, list(row), engine.profile) for row in ids[: len(prompts)]
        ]

    return write
