"""Answers and log-probabilities of a model in this process."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from jinja2 import TemplateError
from typing_extensions import Self

from guardrail.anchors.decoding import Decoding
from guardrail.anchors.store import TopK
from guardrail.engines.batches import rows_at_once
from guardrail.engines.decode import answer_tokens
from guardrail.engines.proof import Proof
from guardrail.errors import InputError
from guardrail.kl.divergence import reference_topk, topk_shortfall
from guardrail.models.profile import Profile
from guardrail.models.teacher_forcing import each_answer
from guardrail.sets.items import Item

__all__ = [
    "Completion",
    "InProcessEngine",
    "Writer",
    "completion",
    "encode_prompts",
    "kept_training_state",
]

Result = TypeVar("Result")

_PIECE = 256
"""Tokens whose distribution is computed at a time: 160 MB of float32 for a vocabulary of 152,000."""


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


class Writer(Protocol):
    """Who writes the answers in the place of a model in this process, and shows that it has its weights."""

    def complete(
        self, engine: "InProcessEngine", prompts: Sequence[list[int]], seed: int
    ) -> list[Completion]:
        """Return one completion per tokenised prompt, written with the engine's weights of the moment."""

    def prove(
        self, engine: "InProcessEngine", prompts: Sequence[list[int]], seed: int, step: int
    ) -> list[Proof]:
        """Return what shows which weights write, the last of them of those at this step.

        Raises:
            InputError: they are others.
        """


@dataclass(frozen=True, slots=True)
class InProcessEngine:
    """A model that answers in this process, with the decoding and the profile it was made with."""

    model: Any
    tokenizer: Any
    decoding: Decoding
    profile: Profile
    batch_size: int | None
    """Prompts a batch at most; None: as many as memory holds and the device is fast with."""
    encoded: dict[str, list[int]] = field(default_factory=dict)
    """Prompt token ids by item id, filled as they are asked for; engines of one run may share it."""
    stop: Callable[[], bool] = lambda: False
    """Asked at every token of an answer whether to end at once."""
    writer: Writer | None = None
    """Who writes the answers in the model's place."""
    apart: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    """Gives the model up for the body, where it was put together of what lies on several ranks."""

    @property
    def rows_at_once(self) -> int:
        """How many items it pays to ask at once."""
        return rows_at_once(self.model, self.batch_size)

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
            return self.writer.complete(self, prompts, seed)
        with kept_training_state(self.model):
            answers = answer_tokens(
                self.model,
                prompts,
                self.decoding,
                self.profile.stop,
                seed=seed,
                most_rows=self.batch_size,
                stop=self.stop,
            )
        return [completion(self.tokenizer, ids, self.profile) for ids in answers]

    def cut_answers(self, tokens: int) -> Self:
        """Return the engine with its answers cut to so many tokens, given by the model itself.

        A trainer's vLLM may be asked for items alone, and what is cut is none's answer.
        """
        most = min(tokens, self.decoding.max_new_tokens)
        shorter = self.decoding.model_copy(update={"max_new_tokens": most})
        return replace(self, decoding=shorter, writer=None)

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
