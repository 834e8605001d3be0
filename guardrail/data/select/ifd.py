"""IFD: how much harder or easier the instruction makes its answer for the model that is to be trained.

Li et al. (2023), "From Quantity to Quality: Boosting LLM Performance with Self-Guided Data Selection for Instruction
Tuning" (arXiv 2308.12032): IFD(Q, A) = s(A|Q) / s(A), mean losses over the same tokens of the answer, with the instruction
and without. Above 1 the instruction did not help, so that the two do not belong together; close below 1 there is most to
learn. Li et al. (2024), "Superfiltering" (arXiv 2402.00530): a far smaller model orders the rows alike.

s(A) is taken after the assistant's opening of the same chat template, without any turn before it. The end-of-turn token is
no part of the answer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from guardrail.data.rows import DataRow
from guardrail.engines.in_process import encode_prompts
from guardrail.errors import InputError
from guardrail.models.teacher_forcing import each_answer, undisturbed
from guardrail.trainers.task_prompts import opening_tokens

__all__ = ["IfdScore", "ifd_scores", "same_order"]


@dataclass(frozen=True, slots=True)
class IfdScore:
    """Both losses of one row in nats a token; `truncated` where it does not fit the training length whole."""

    conditioned: float
    """s(A|Q)."""
    direct: float
    """s(A)."""
    tokens: int
    truncated: bool

    @property
    def ifd(self) -> float:
        """s(A|Q) / s(A)."""
        return self.conditioned / self.direct if self.direct else float("inf")


def ifd_scores(
    model: Any,
    tokenizer: Any,
    rows: Sequence[DataRow],
    *,
    thinking: bool,
    max_length: int,
    pad_id: int,
    chunk: int = 64,
    on_scored: Callable[[int], None] = lambda count: None,
) -> list[IfdScore]:
    """Return the score of each row, in order; a row that would be truncated in training is not asked.

    Args:
        model: The model to be trained, or for superfiltering a smaller one.
        tokenizer: Its tokenizer, with the chat template of the training.
        rows: Chats with their answers.
        thinking: `enable_thinking` of the training.
        max_length: Tokens of prompt and answer that the training keeps.
        pad_id: Padding token.
        chunk: Rows between two calls of `on_scored`.
        on_scored: Told how many rows are done.

    Raises:
        InputError: the chat template refuses a chat, or opens an assistant's turn with nothing.
    """
    opening = opening_tokens(tokenizer, thinking=thinking)
    if not opening:
        raise InputError(
            "the chat template opens the assistant's turn with no token; IFD needs one before the answer"
        )
    prompts = encode_prompts(
        tokenizer, [list(row.messages[:-1]) for row in rows], thinking=thinking
    )
    answers = [list(tokenizer(row.answer, add_special_tokens=False)["input_ids"]) for row in rows]
    fits = [
        n
        for n, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        if answer and len(prompt) + len(answer) <= max_length
    ]
    losses: dict[int, tuple[float, float]] = {}
    with undisturbed(model):
        for start in range(0, len(fits), chunk):
            part = fits[start : start + chunk]
            golds = [answers[n] for n in part]
            with_question = _losses(model, [prompts[n] for n in part], golds, pad_id)
            alone = _losses(model, [opening] * len(part), golds, pad_id)
            losses |= dict(zip(part, zip(with_question, alone, strict=True), strict=True))
            on_scored(start + len(part))
    nothing = (float("nan"), float("nan"))
    return [
        IfdScore(*losses.get(n, nothing), tokens=len(answers[n]), truncated=n not in losses)
        for n in range(len(rows))
    ]


def _losses(
    model: Any, prompts: Sequence[Sequence[int]], golds: Sequence[Sequence[int]], pad_id: int
) -> list[float]:
    """Mean negative log-likelihood of each gold's tokens."""

    def loss(number: int, logits: Tensor) -> float:
        target = torch.tensor(list(golds[number]), device=logits.device)
        return float(torch.nn.functional.cross_entropy(logits.float(), target))

    return each_answer(model, prompts, golds, loss, pad_id=pad_id)


def same_order(one: Sequence[IfdScore], other: Sequence[IfdScore]) -> float:
    """Return Spearman's rank correlation of two models' IFD over the rows both could score, `nan` for fewer than three.

    It is what superfiltering rests on: measure it on a sample before a small model chooses for a large one.
    """
    pairs = [
        (a.ifd, b.ifd) for a, b in zip(one, other, strict=True) if not (a.truncated or b.truncated)
    ]
    if len(pairs) < 3:
        return float("nan")
    return float(spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)
