"""Answers and log-probabilities of a model in this process.

Generation runs through `generate` in length-sorted, left-padded batches with a KV cache.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from jinja2 import TemplateError
from peft import PeftModel
from transformers import (
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from typing_extensions import Self

from guardrail.anchors.decoding import Decoding
from guardrail.anchors.store import TopK
from guardrail.errors import InputError
from guardrail.kl.divergence import reference_topk, topk_shortfall
from guardrail.models.profile import Profile
from guardrail.models.teacher_forcing import each_answer
from guardrail.sets.items import Item

__all__ = [
    "Completion",
    "GenerationStopped",
    "InProcessEngine",
    "completion",
    "encode_prompts",
    "generate",
    "kept_training_state",
]

Result = TypeVar("Result")

_PIECE = 256
"""Tokens whose distribution is computed at a time: 160 MB of float32 for a vocabulary of 152,000."""


class GenerationStopped(RuntimeError):
    """The caller asked for an end before every prompt was answered."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer: raw text, its token ids without padding, and why it ended (`stop`, `length`)."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str


def encode_prompts(
    tokenizer: Any, chats: Sequence[list[dict[str, str]]], *, thinking: bool
) -> list[list[int]]:
    """Return the prompt token ids of each chat, assistant opening included, thinking mode pinned.

    Raises:
        InputError: the chat template refuses a chat, as some do with system turns.
    """
    try:
        return [
            tokenizer.apply_chat_template(
                chat, add_generation_prompt=True, enable_thinking=thinking, return_dict=False
            )
            for chat in chats
        ]
    except TemplateError as error:
        roles = sorted({" ".join(turn["role"] for turn in chat) for chat in chats}, key=len)
        raise InputError(
            f"the chat template refuses a prompt of the sets ({error}); roles asked for are "
            f"{'; '.join(roles[-3:])}. Take those items out, or give the model a template that takes them"
        ) from error


@contextlib.contextmanager
def kept_training_state(model: torch.nn.Module) -> Iterator[None]:
    """Run the body in eval mode without gradients; restore modes and every random state after it.

    Restored: the train flag of every submodule, the generators of Python, NumPy, torch and CUDA.
    """
    modes = [(module, module.training) for module in model.modules()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)


def _generation_config(profile: Profile, decoding: Decoding) -> GenerationConfig:
    sampling: dict[str, Any] = {"do_sample": False}
    if decoding.mode == "sampled":
        sampling = {
            "do_sample": True,
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "top_k": decoding.top_k,
        }
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        repetition_penalty=decoding.repetition_penalty,
        num_beams=1,
        eos_token_id=list(profile.stop),
        pad_token_id=profile.pad,
        use_cache=True,
        **sampling,
    )


@contextlib.contextmanager
def _without_own_decoding(model: Any) -> Iterator[None]:
    """Take the model's own generation settings away for the body.

    `generate` fills whatever its argument leaves open from them: penalties, forbidden words, beams, stop
    strings. Qwen2.5 ships a repetition penalty, and trainers write their own options there. A router's loss,
    which training may ask for, is computed from whole sequences and fails on single tokens.
    """
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    own, routers = inner.generation_config, getattr(inner.config, "output_router_logits", None)
    inner.generation_config = GenerationConfig()
    if routers:
        inner.config.output_router_logits = False
    try:
        yield
    finally:
        inner.generation_config = own
        if routers:
            inner.config.output_router_logits = routers


class _AtOnce(StoppingCriteria):  # type: ignore[misc, unused-ignore]
    """Ends all rows of a batch at the next token once `wanted` says so."""

    def __init__(self, wanted: Callable[[], bool]) -> None:
        self._wanted = wanted

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **rest: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self._wanted(), device=input_ids.device)


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    decoding: Decoding,
    profile: Profile,
    *,
    seed: int,
    batch_size: int,
    stop: Callable[[], bool] = lambda: False,
) -> list[Completion]:
    """Return one completion per prompt, in the order of `prompts`.

    Decoding is the argument's alone, whatever the model's generation_config says; what ends an answer is
    the profile's. Prompts are sorted by length, so a batch holds little padding. The same weights, prompts, seed
    and batch size give the same answers on one device; another batch size may not, since padding
    changes the last bits of the logits. The caller keeps the training state (`kept_training_state`).

    Args:
        model: A causal language model, unwrapped.
        tokenizer: Its tokenizer.
        prompts: Token ids of each prompt.
        decoding: Greedy or sampled, and the length limit.
        profile: What ends an answer and pads a batch.
        seed: Seeds torch before the first batch.
        batch_size: Prompts a batch.
        stop: Asked at every token whether to end at once.

    Raises:
        GenerationStopped: `stop` said so.
    """
    config = _generation_config(profile, decoding)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    completions: dict[int, Completion] = {}
    device = next(model.parameters()).device
    # Under ZeRO-3 `generate` keeps step with the other ranks unless told not to, and would wait for ever for one
    # that has fewer batches or failed; the model is whole here, so nobody is needed.
    alone = {"synced_gpus": False} if is_deepspeed_zero3_enabled() else {}
    torch.manual_seed(seed)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        width = max(len(prompts[i]) for i in chosen)
        ids = torch.full((len(chosen), width), profile.pad)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(chosen):
            ids[row, width - len(prompts[i]) :] = torch.tensor(prompts[i])
            mask[row, width - len(prompts[i]) :] = 1
        with _without_own_decoding(model):
            output = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([_AtOnce(stop)]),
                **alone,
            )
        if stop():
            raise GenerationStopped(f"{len(prompts) - len(completions)} prompts are left")
        for row, i in enumerate(chosen):
            completions[i] = completion(tokenizer, output[row, width:].tolist(), profile)
    return [completions[i] for i in range(len(prompts))]


def completion(tokenizer: Any, new_ids: list[int], profile: Profile) -> Completion:
    """Return the completion of newly generated token ids; what follows the first stop token is cut off.

    A thinking block that the prompt opened stands before the text, so that one which was cut off is told
    from an answer.
    """
    end = next((at for at, token in enumerate(new_ids) if token in profile.stop), None)
    if end is None:
        text = profile.opened + tokenizer.decode(new_ids)
        return Completion(text, tuple(new_ids), "length")
    text = profile.opened + tokenizer.decode(new_ids[:end])
    return Completion(text, tuple(new_ids[: end + 1]), "stop")


@dataclass(frozen=True, slots=True)
class InProcessEngine:
    """A model that answers in this process, with the decoding and the profile it was made with."""

    model: Any
    tokenizer: Any
    decoding: Decoding
    profile: Profile
    batch_size: int
    encoded: dict[str, list[int]] = field(default_factory=dict)
    """Prompt token ids by item id, filled as they are asked for; engines of one run may share it."""
    stop: Callable[[], bool] = lambda: False
    """Asked at every token of an answer whether to end at once."""
    writer: "Callable[[InProcessEngine, Sequence[list[int]], int], list[Completion]] | None" = None
    """Given engine, prompts and seed: who writes the answers in the model's place."""

    def prompts(self, items: Sequence[Item]) -> list[list[int]]:
        """Return each item's prompt token ids."""
        new = [item for item in items if item.id not in self.encoded]
        chats = [item.chat() for item in new]
        rows = encode_prompts(self.tokenizer, chats, thinking=self.profile.thinking)
        self.encoded.update(zip((item.id for item in new), rows, strict=True))
        return [self.encoded[item.id] for item in items]

    def answer(self, items: Sequence[Item], *, seed: int) -> list[Completion]:
        """Return one completion per item; the model's training state is kept.

        Raises:
            GenerationStopped: `stop` said so.
        """
        return self.complete(self.prompts(items), seed=seed)

    def _each_answer(
        self,
        prompts: Sequence[Sequence[int]],
        golds: Sequence[Sequence[int]],
        use: Callable[[int, torch.Tensor], Result],
    ) -> list[Result]:
        """What `use` makes of each row's number and logits at its gold; the model's training state is kept."""
        with kept_training_state(self.model):
            return each_answer(self.model, prompts, golds, use, pad_id=self.profile.pad)

    def topk(self, items: Sequence[Item], golds: Sequence[Sequence[int]], k: int) -> list[TopK]:
        """Return the k best log-probabilities at every gold token, and the tail's."""

        def stored(row: int, logits: torch.Tensor) -> TopK:
            pieces = [reference_topk(piece, k) for piece in torch.split(logits, _PIECE)]
            ids, logprobs, tail = (torch.cat(parts) for parts in zip(*pieces, strict=True))
            return TopK(
                ids.int().cpu().numpy(), logprobs.float().cpu().numpy(), tail.float().cpu().numpy()
            )

        return self._each_answer(self.prompts(items), golds, stored)

    def topk_error(
        self, items: Sequence[Item], golds: Sequence[Sequence[int]], ks: Sequence[int], *, seed: int
    ) -> dict[int, float]:
        """Return for each k the share of the full KL that k log-probabilities and a tail miss.

        Measured against a policy whose every logit is moved by a standard normal (`topk_shortfall`).
        """
        generator = torch.Generator(device=next(self.model.parameters()).device).manual_seed(seed)

        def missed(row: int, logits: torch.Tensor) -> list[tuple[dict[int, float], float]]:
            return [topk_shortfall(piece, ks, generator) for piece in torch.split(logits, _PIECE)]

        rows = self._each_answer(self.prompts(items), golds, missed)
        found = [piece for row in rows for piece in row]
        full = sum(whole for _, whole in found)
        return {k: 1 - sum(kept[k] for kept, _ in found) / full for k in ks}

    def complete(self, prompts: Sequence[list[int]], *, seed: int) -> list[Completion]:
        """Return one completion per tokenised prompt; the model's training state is kept."""
        if self.writer is not None:
            return self.writer(self, prompts, seed)
        with kept_training_state(self.model):
            return generate(
                self.model,
                self.tokenizer,
                prompts,
                self.decoding,
                self.profile,
                seed=seed,
                batch_size=self.batch_size,
                stop=self.stop,
            )

    def cut_answers(self, tokens: int) -> Self:
        """Return the engine with its answers cut to so many tokens."""
        most = min(tokens, self.decoding.max_new_tokens)
        return replace(self, decoding=self.decoding.model_copy(update={"max_new_tokens": most}))

    def likeliest_first_token(
        self, prompts: Sequence[Sequence[int]], among: Sequence[int]
    ) -> list[int]:
        """Return for each prompt the index of the token in `among` that most likely comes next."""
        letters = list(among)

        def likeliest(row: int, logits: torch.Tensor) -> int:
            return int(logits[0, letters].argmax())

        return self._each_answer(prompts, [letters[:1]] * len(prompts), likeliest)

    def mean_logprobs(
        self, prompts: Sequence[Sequence[int]], golds: Sequence[Sequence[int]]
    ) -> list[float]:
        """Return each gold's mean log-probability a token after its prompt, in nats."""

        def mean(row: int, logits: torch.Tensor) -> float:
            ids = torch.tensor(list(golds[row]), device=logits.device)
            wide = logits if logits.dtype == torch.float64 else logits.float()
            return -float(torch.nn.functional.cross_entropy(wide, ids))

        return self._each_answer(prompts, golds, mean)
