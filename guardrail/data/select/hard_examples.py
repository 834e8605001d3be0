"""Hard examples of three kinds: what the model gets wrong, where it hesitates, where its style wavers.

Each prompt is answered several times by the model that is to be trained. Wrong: most of its answers disagree with the
row's own. Hesitant: some agree and some do not, or the answers differ from one another in what they say. Inconsistent in
style: the answers differ in form (refused or not, list or prose, Markdown or plain, one far longer than another).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from guardrail.data.chat_endpoint import Answerer, ChatRequest
from guardrail.data.judged_scores import agrees
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow
from guardrail.probes.instruction import count_list_items
from guardrail.probes.refusal import is_refusal
from guardrail.sets.lint.duplicates import plain, rouge_l
from guardrail.text import count_characters, plain_text

__all__ = ["HARD", "Hardness", "find_hard", "style_wavers"]

HARD = ("wrong", "hesitant", "inconsistent_in_style")

_ALIKE = 0.3
"""Mean pairwise ROUGE-L below which answers to one prompt count as differing in what they say."""
_LENGTHS = 2.0
"""How many times as long as the shortest the longest answer may be."""


@dataclass(frozen=True, slots=True)
class Hardness:
    """What replicates of one prompt showed."""

    kinds: tuple[str, ...]
    """Those of `HARD` that hold; empty for an easy row."""
    right: float | None
    """Share of replicates that agree with the row's answer; None where no judge could say."""
    alike: float
    """Mean pairwise ROUGE-L of the replicates, 1 where they are the same."""


def find_hard(
    answerer: Answerer,
    judge: Answerer,
    prompts: Prompts,
    rows: Sequence[DataRow],
    *,
    replicates: int = 4,
    seed: int = 0,
    temperature: float = 0.8,
    max_tokens: int = 1024,
) -> list[Hardness]:
    """Return what each row's replicates show.

    Args:
        answerer: The model that is to be trained.
        judge: Who compares an answer with the row's own.
        prompts: Templates.
        rows: Chats with right answers.
        replicates: Answers a prompt, at least two.
        seed: Of the first replicate.
        temperature: Of the replicates.
        max_tokens: Of one answer.
    """
    requests = [
        ChatRequest(tuple(row.messages[:-1]), "replicates", seed + k, temperature, max_tokens)
        for row in rows
        for k in range(replicates)
    ]
    replies = answerer(requests)
    answers = [
        [r.text for r in replies[n * replicates : (n + 1) * replicates]] for n in range(len(rows))
    ]
    triples = [
        (row.question, row.answer, text)
        for row, texts in zip(rows, answers, strict=True)
        for text in texts
    ]
    verdicts = agrees(judge, prompts, triples)
    return [
        _hardness(row.question, texts, verdicts[n * replicates : (n + 1) * replicates])
        for n, (row, texts) in enumerate(zip(rows, answers, strict=True))
    ]


def _hardness(question: str, texts: Sequence[str], verdicts: Sequence[bool | None]) -> Hardness:
    known = [v for v in verdicts if v is not None]
    right = fmean(known) if known else None
    bare = [plain(text) for text in texts]
    alike = fmean(rouge_l(a, b) for a, b in combinations(bare, 2)) if len(bare) > 1 else 1.0
    mixed = right is not None and 0 < right < 1
    # Right every time in other words is no hesitation.
    differs = alike < _ALIKE and right != 1
    found = {
        "wrong": right is not None and right < 0.5,
        "hesitant": mixed or differs,
        "inconsistent_in_style": style_wavers(question, texts),
    }
    return Hardness(tuple(kind for kind in HARD if found[kind]), right, alike)


def style_wavers(question: str, texts: Sequence[str]) -> bool:
    """Return whether answers to one question differ in form: refused, list, Markdown, or one over twice as long as another."""
    forms = {
        (
            is_refusal(text, question),
            count_list_items(text) >= 2,
            plain_text(text).strip() != text.strip(),
        )
        for text in texts
    }
    lengths = [max(1, count_characters(text)) for text in texts]
    return len(forms) > 1 or max(lengths) > _LENGTHS * min(lengths)
