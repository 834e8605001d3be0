"""Grounded triples: knowledge, a question on it, an answer whose span stands in the knowledge, word for word.

Knowledge is retrieved for topics of the user's, or taken passage by passage. A span that is not in the passage, or a number
in the answer that is not, drops the triple. Does not see an answer that reads its span wrongly.
"""

import re
from collections.abc import Sequence

from guardrail.data.chat_endpoint import Answerer, Reply, user_says
from guardrail.data.diversity import diversity
from guardrail.data.generate.retrieval import Passage, Passages
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.sets.lint.duplicates import plain
from guardrail.text import plain_text

__all__ = ["grounded", "span_fault"]

_NUMBERED = re.compile(r"^\s*\d{1,2}\s*[.、．)）]\s*(.+?)\s*$", re.MULTILINE)
_SPANS = re.compile(r"依据\s*[:：](.*?)^\s*答案\s*[:：]\s*(.+)", re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r"^\s*[-•]\s*[“\"「]?(.+?)[”\"」]?\s*$", re.MULTILINE)
_FIGURE = re.compile(r"\d+(?:\.\d+)?")
_POINTS_AT_TEXT = re.compile(
    r"文中|上文|原文|资料(?:中|里|显示)|(?:根据|依据)(?:以上|上述|资料|材料|文)|这段(?:话|文字|资料)"
)
_LEAST_SPAN = 4


def grounded(
    answerer: Answerer,
    prompts: Prompts,
    passages: Passages,
    *,
    model: str,
    licence: str,
    topics: Sequence[str] = (),
    questions_each: int = 3,
    seed: int = 0,
) -> Made:
    """Return question and answer rows whose provenance holds the knowledge and the spans, and what was dropped.

    Args:
        answerer: The model that asks and answers.
        prompts: Templates.
        passages: The documents.
        model: Its name, for provenance.
        licence: Of the documents.
        topics: What knowledge is retrieved for; none takes every passage.
        questions_each: A passage.
        seed: Of the requests.
    """
    made = Made()
    found = [p for topic in topics for p in passages.about(topic)] if topics else passages.all
    knowledge = list(dict.fromkeys(found))
    replies = answerer(
        [
            user_says(
                prompts("grounded-question", passage=p.text, wanted=questions_each),
                "questions",
                seed=seed,
            )
            for p in knowledge
        ]
    )
    pairs = [
        (passage, match[1])
        for passage, reply in zip(knowledge, replies, strict=True)
        for match in list(_NUMBERED.finditer(reply.text))[:questions_each]
    ]
    answers = answerer(
        [
            user_says(
                prompts("grounded-answer", passage=p.text, question=q),
                "answers",
                seed=seed,
                temperature=0.0,
            )
            for p, q in pairs
        ]
    )
    seen: set[str] = set()
    for (passage, question), reply in zip(pairs, answers, strict=True):
        spans, answer = _spans(reply)
        row = _row(passage, question, answer, spans, model, licence)
        fault = (
            _question_fault(question, seen)
            or _reply_fault(reply)
            or span_fault(passage.text, spans, answer, question)
        )
        seen.add(plain(question))
        if fault is None:
            made.rows.append(row)
        else:
            made.drop(fault, row)
    made.facts = {"passages": len(knowledge), "diversity": diversity(made.rows)}
    return made


def _spans(reply: Reply) -> tuple[list[str], str]:
    match = _SPANS.search(reply.text)
    if match is None:
        return [], reply.text.strip()
    listed = [m[1].strip() for m in _SPAN.finditer(match[1])]
    return listed or [line.strip() for line in match[1].splitlines() if line.strip()], match[
        2
    ].strip()


def _question_fault(question: str, seen: set[str]) -> str | None:
    if _POINTS_AT_TEXT.search(question):
        return "question points at a text the user does not see"
    return "exact repeat" if plain(question) in seen else None


def _reply_fault(reply: Reply) -> str | None:
    if not reply.whole:
        return "answer empty or cut"
    return (
        "cannot be answered from the passage" if reply.text.strip().startswith("无法回答") else None
    )


def span_fault(knowledge: str, spans: Sequence[str], answer: str, question: str) -> str | None:
    """Return why an answer is not grounded, `None` if it is.

    Spans are compared without punctuation, white space and width of characters. Numbers of the answer must stand in the
    knowledge or in the question.

    Args:
        knowledge: The passage.
        spans: What the answer says it rests on.
        answer: The answer itself.
        question: What was asked.
    """
    if not spans:
        return "no span given"
    bare = plain(knowledge)
    if any(len(plain(span)) < _LEAST_SPAN or plain(span) not in bare for span in spans):
        return "span is not in the passage"
    known = set(_FIGURE.findall(knowledge)) | set(_FIGURE.findall(question))
    if any(figure not in known for figure in _FIGURE.findall(plain_text(answer))):
        return "number is not in the passage"
    return "answer speaks of the text" if _POINTS_AT_TEXT.search(answer) else None


def _row(
    passage: Passage, question: str, answer: str, spans: list[str], model: str, licence: str
) -> DataRow:
    return made_row(
        question,
        answer,
        method="grounded",
        source=passage.source,
        licence=licence,
        model=model,
        knowledge=passage.text,
        spans=spans,
    )
