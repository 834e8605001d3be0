"""Scores that a model gives: difficulty, knowledge density, instructions followed, agreement with a reference.

A judge has tastes of its own; scores choose rows and are reported. They never judge a run.
"""

import re
from collections.abc import Sequence

from guardrail.data.chat_endpoint import Answerer, ChatRequest, Reply, user_says
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow
from guardrail.text import count_characters, parse_answer

__all__ = ["agrees", "density", "difficulty", "following"]

_NUMBER = re.compile(r"(?<![\d.])(10|[1-9])(?![\d.])")
_POINT = re.compile(r"^\s*(?:[-•*]|\d{1,2}[.、)）])\s*(?=\S)", re.MULTILINE)
_MET = re.compile(r"^\s*(?:[-•*]|\d{1,2}[.、)）])?\s*(没|未)?做到[:：]", re.MULTILINE)


def _asked(answerer: Answerer, prompts: Sequence[str], purpose: str, most: int) -> list[Reply]:
    requests: list[ChatRequest] = [
        user_says(text, purpose, temperature=0.0, max_tokens=most) for text in prompts
    ]
    return answerer(requests)


def difficulty(
    answerer: Answerer, prompts: Prompts, questions: Sequence[str]
) -> list[float | None]:
    """Return how difficult each question is, 1 to 10, as a judge says; None where it gives no number.

    The scale is Evol-Instruct's, whose rounds went from 5.48 to 7.08; as a score of a row it is its complexity.
    """
    replies = _asked(
        answerer, [prompts("difficulty", question=q) for q in questions], "difficulty", 16
    )
    found = [_NUMBER.search(reply.text) for reply in replies]
    return [float(match[1]) if match else None for match in found]


def density(answerer: Answerer, prompts: Prompts, rows: Sequence[DataRow]) -> list[float | None]:
    """Return each answer's knowledge density: checkable points that a judge lists, per 100 characters.

    None where the judge was cut off, or listed nothing and did not say 无.
    """
    texts = [parse_answer(row.answer).text for row in rows]
    asked = [
        prompts("density", question=r.question, answer=t) for r, t in zip(rows, texts, strict=True)
    ]
    scores: list[float | None] = []
    for text, reply in zip(texts, _asked(answerer, asked, "density", 1024), strict=True):
        points = len(_POINT.findall(reply.text))
        said = reply.finish_reason == "stop" and (points or reply.text.strip().strip("。") == "无")
        scores.append(100 * points / max(1, count_characters(text)) if said else None)
    return scores


def following(answerer: Answerer, prompts: Prompts, rows: Sequence[DataRow]) -> list[float | None]:
    """Return the share of each question's requirements that its answer meets, as a judge takes them apart; None where it lists none."""
    asked = [
        prompts("following", question=r.question, answer=parse_answer(r.answer).text) for r in rows
    ]
    scores: list[float | None] = []
    for reply in _asked(answerer, asked, "following", 1024):
        verdicts = [not missed for missed in _MET.findall(reply.text)]
        scores.append(
            sum(verdicts) / len(verdicts) if verdicts and reply.finish_reason == "stop" else None
        )
    return scores


def agrees(
    answerer: Answerer, prompts: Prompts, triples: Sequence[tuple[str, str, str]]
) -> list[bool | None]:
    """Return whether each answer says what its reference says, as a judge reads them; None where it says neither.

    Args:
        answerer: The judge.
        prompts: Templates.
        triples: Question, reference, answer.
    """
    asked = [prompts("correct", question=q, reference=r, answer=a) for q, r, a in triples]
    verdicts: list[bool | None] = []
    for reply in _asked(answerer, asked, "correct", 16):
        said = reply.text.strip()
        verdicts.append("不一致" not in said if "一致" in said else None)
    return verdicts
