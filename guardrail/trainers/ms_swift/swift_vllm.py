"""The vLLM of ms-swift's GRPOTrainer, colocated or a `swift rollout` server, as what answers looks.

ms-swift wakes it, hands the weights over, lets it write and puts it to sleep again in one private method, `_fast_infer`, which is
called here as a rollout calls it. For the call two methods are replaced on the instance: `_get_request_config`, how it decodes,
and `_infer_single_or_multi_turn`, what it is asked, by `_rollout` alone, whose outputs tell the tokens. `_last_loaded_step` says
whether the weights are handed over; `_preprocess_inputs` and `to_samples` make requests.
"""

import contextlib
import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from guardrail.anchors.decoding import Decoding
from guardrail.engines.in_process import encode_prompts
from guardrail.engines.rollout_weights import Written
from guardrail.errors import InputError
from guardrail.models.profile import Profile
from guardrail.trainers.guarded_recipe import GuardedRecipe
from guardrail.trainers.ms_swift.command_line import swift_name

__all__ = ["SwiftVllm", "swift_vllm"]

_USED = (
    "_fast_infer",
    "_get_request_config",
    "_infer_single_or_multi_turn",
    "_preprocess_inputs",
    "_rollout",
    "to_samples",
)


def swift_vllm(trainer: Any, guarded: GuardedRecipe) -> "SwiftVllm | None":
    """Return the vLLM that writes a swift trainer's rollouts, or None where the model itself answers looks.

    That it does without vLLM, and where a rollout is more than one answer: with a scheduler of turns, an environment, or
    rollouts written a step ahead, whose queue leaves no room for other questions.

    Raises:
        InputError: a method that is used here is absent.
    """
    arguments = trainer.args
    several = ("async_generate", "multi_turn_scheduler", "use_gym_env")
    if not arguments.use_vllm or any(getattr(arguments, name, None) for name in several):
        return None
    for name in _USED:
        if not callable(getattr(trainer, name, None)):
            raise InputError(
                f"this ms-swift's `{type(trainer).__name__}` has no `{name}`, by which its vLLM would be asked; take a version "
                "that docs/support.md names, or `--use_vllm false`"
            )
    return SwiftVllm(trainer, guarded)


class SwiftVllm:
    """The vLLM of a swift trainer as a `RolloutVllm`; there from the first step on, when it has been started.

    It is asked for chats, not tokens, so what its template makes of each is compared with the tokens that were to be
    answered. Colocated, each prompt has a seed of its own; a server keeps its own draws.
    """

    def __init__(self, trainer: Any, guarded: GuardedRecipe) -> None:
        """Keep the trainer; the recipe's red line is what may be asked."""
        self.trainer, self.thinking = trainer, guarded.recipe.thinking
        chats = [item.chat() for item in guarded.red_line]
        rows = encode_prompts(trainer.processing_class, chats, thinking=self.thinking)
        self.chats = {tuple(row): chat for row, chat in zip(rows, chats, strict=True)}

    @property
    def dtype(self) -> torch.dtype | None:
        """That of the colocated model; a server does not say."""
        if self.trainer.vllm_mode != "colocate":
            return None
        dtype: torch.dtype = self.trainer.engine.engine.model_config.dtype
        return dtype

    def write(
        self, prompts: Sequence[list[int]], decoding: Decoding, profile: Profile, seed: int
    ) -> list[Written]:
        """See `RolloutVllm`.

        Raises:
            InputError: it holds too few tokens, renders other prompts, or has several turns.
        """
        trainer = self.trainer
        colocated = trainer.vllm_mode == "colocate"
        if colocated:
            _check_room(trainer, max(map(len, prompts), default=0) + decoding.max_new_tokens)
        settings = {"enable_thinking": self.thinking}
        rows = [
            {"messages": self.chats[tuple(prompt)], "chat_template_kwargs": settings}
            for prompt in prompts
        ]
        samples = trainer._preprocess_inputs(trainer.to_samples(rows))
        config = self._request(decoding, profile, seed if colocated else None)
        replaced = {
            "_get_request_config": lambda: config,
            "_infer_single_or_multi_turn": lambda samples, config: trainer._rollout(
                samples, config
            ),
        }
        trainer._last_loaded_step = -1  # hand the weights over, whatever it has
        with _replaced(trainer, replaced):
            outputs = trainer._fast_infer(samples)
        return [
            self._written(output, prompt, profile)
            for output, prompt in zip(outputs, prompts, strict=True)
        ]

    def _request(self, decoding: Decoding, profile: Profile, seed: int | None) -> Any:
        sampled = decoding.mode == "sampled"
        if seed is not None:
            # ms-swift adds a request's number to it, so neighbouring seeds would share most of their draws.
            digest = hashlib.sha256(f"{seed}:{self._engine_number()}".encode()).digest()
            seed = int.from_bytes(digest[:4], "big") >> 1
        return swift_name("swift.infer_engine", "RequestConfig")(
            n=1,
            max_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature if sampled else 0.0,
            top_p=decoding.top_p if sampled else 1.0,
            top_k=decoding.top_k if sampled and decoding.top_k else -1,
            min_p=0.0,
            repetition_penalty=decoding.repetition_penalty,
            stop=self.trainer.processing_class.convert_ids_to_tokens(list(profile.stop)),
            seed=seed,
            return_details=True,
            logprobs=True,
        )

    def _engine_number(self) -> int:
        """Which of the colocated engines this rank belongs to; the ranks of one must draw alike."""
        ranks = int(self.trainer.vllm_tensor_parallel_size)
        return int(self.trainer.accelerator.process_index) // ranks

    def _written(self, output: Any, prompt: list[int], profile: Profile) -> Written:
        if output.messages is not None:
            raise InputError(
                "`swift rollout` takes several turns for an answer, and a look needs one; start it without "
                "`--multi_turn_scheduler` and `--use_gym_env`"
            )
        read = list(output.response.prompt_token_ids or ())
        if read != prompt:
            raise InputError(
                f"the trainer's vLLM reads another prompt than the anchors' ({len(read)} tokens for {len(prompt)}); start "
                "`swift rollout` with the trainer's `--template`, `--system` and `--enable_thinking`"
            )
        choice = output.response.choices[0]
        ids, scored = list(choice.token_ids), (choice.logprobs or {}).get("content", [])
        if choice.finish_reason == "stop" and ids[-1] not in profile.stop:
            raise InputError(
                f"the trainer's vLLM ended an answer with token {ids[-1]}, which is none of the profile's stop tokens "
                f"{list(profile.stop)}; leave `--stop_words` away"
            )
        logprobs = [float(one["logprob"]) for one in scored]
        return Written(ids, logprobs if len(logprobs) == len(ids) else [math.nan] * len(ids))


def _check_room(trainer: Any, need: int) -> None:
    limit = trainer.engine.max_model_len
    if limit is not None and need > limit:
        raise InputError(
            f"a look needs {need} tokens for its longest prompt and `looks.decoding.max_new_tokens`, and the trainer's "
            f"vLLM holds {limit}; set `--vllm_max_model_len` to {need} or more"
        )


@contextlib.contextmanager
def _replaced(trainer: Any, methods: dict[str, Any]) -> Iterator[None]:
    """Replace methods on an instance for the body; one that was replaced before gets its own replacement back."""
    before = {name: vars(trainer)[name] for name in methods if name in vars(trainer)}
    for name, method in methods.items():
        setattr(trainer, name, method)
    try:
        yield
    finally:
        for name in methods:
            delattr(trainer, name)
        for name, method in before.items():
            setattr(trainer, name, method)
