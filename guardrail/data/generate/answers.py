"""Answers for prompts that have none: plainly distilled, with the teacher's reasoning, or the best of several teachers."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from guardrail.data.chat_endpoint import Answerer, ChatRequest, Reply, user_says
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.sets.read.filters import opens_with_template

__all__ = ["Teacher", "answers"]

_REASONED = re.compile(r"思考\s*[:：](.+?)^\s*答案\s*[:：]\s*(.+)", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Teacher:
    """A model that answers, by name."""

    name: str
    answerer: Answerer


def answers(
    teachers: Sequence[Teacher],
    judge: Answerer,
    prompts: Prompts,
    rows: Sequence[DataRow],
    *,
    how: Literal["plain", "reasoning", "teachers"] = "plain",
    seed: int = 0,
    max_tokens: int = 2048,
) -> Made:
    """Return the rows with new answers; what the rows had for an answer is not read.

    `reasoning` keeps the thinking in a `<think>` block before the answer, as the training templates write it: the teacher's own
    where it thinks, else what the prompt asks it for. `teachers` lets all answer and a judge choose, the answers in an order
    drawn for each row, so that no teacher always stands first.

    Args:
        teachers: One, or for `teachers` at least two.
        judge: Chooses among several.
        prompts: Templates.
        rows: Prompts.
        how: Which of the three.
        seed: Of requests and orders.
        max_tokens: Of an answer.
    """
    made = Made()
    if how == "teachers":
        said = [_asked(t, rows, seed, max_tokens) for t in teachers]
        for row, (teacher, reply) in zip(
            rows, _best(teachers, said, judge, prompts, rows, seed), strict=True
        ):
            _keep(made, row, reply, teacher, how, "no teacher's answer is good enough")
        return made
    if how == "reasoning":
        texts = [prompts("reasoning-answer", question=row.question) for row in rows]
        requests = [
            ChatRequest(
                (*row.messages[:-2], {"role": "user", "content": text}),
                "answers",
                seed,
                max_tokens=max_tokens,
            )
            for row, text in zip(rows, texts, strict=True)
        ]
        replies = [_reasoned(reply) for reply in teachers[0].answerer(requests)]
        reason = "no reasoning apart from the answer"
    else:
        replies, reason = list(_asked(teachers[0], rows, seed, max_tokens)), "answer empty or cut"
    for row, answer in zip(rows, replies, strict=True):
        _keep(made, row, answer, teachers[0].name, how, reason)
    return made


def _asked(teacher: Teacher, rows: Sequence[DataRow], seed: int, most: int) -> list[Reply]:
    return teacher.answerer(
        [ChatRequest(tuple(row.messages[:-1]), "answers", seed, max_tokens=most) for row in rows]
    )


def _reasoned(reply: Reply) -> Reply | None:
    match = _REASONED.search(reply.text)
    text = match[2].strip() if match else reply.text
    thinking = match[1].strip() if match else reply.thinking.strip()
    if not thinking or not text or reply.finish_reason != "stop":
        return None
    return Reply(f"<think>\n{thinking}\n</think>\n\n{text}")


def _best(
    teachers: Sequence[Teacher],
    said: Sequence[Sequence[Reply]],
    judge: Answerer,
    prompts: Prompts,
    rows: Sequence[DataRow],
    seed: int,
) -> list[tuple[str, Reply | None]]:
    """Teacher and reply chosen for each row, none where the judge takes none."""
    orders = []
    for number, row in enumerate(rows):
        whole = [t for t in range(len(teachers)) if said[t][number].whole]
        random.Random(f"{seed}/{row.id}").shuffle(whole)
        orders.append(whole)
    asked = [n for n, order in enumerate(orders) if order]
    texts = [
        prompts(
            "best-answer", question=rows[n].question, answers=[said[t][n].text for t in orders[n]]
        )
        for n in asked
    ]
    verdicts = judge([user_says(text, "choice", temperature=0.0, max_tokens=8) for text in texts])
    chosen: list[tuple[str, Reply | None]] = [("none", None)] * len(rows)
    for n, verdict in zip(asked, verdicts, strict=True):
        match = _NUMBER.search(verdict.text)
        place = int(match[0]) if match else 0
        if 1 <= place <= len(orders[n]):
            teacher = orders[n][place - 1]
            chosen[n] = (teachers[teacher].name, said[teacher][n])
    return chosen


def _keep(
    made: Made, row: DataRow, reply: Reply | None, teacher: str, how: str, reason: str
) -> None:
    text = reply.text if reply is not None else ""
    new = made_row(
        row.question,
        text,
        method=f"answers-{how}",
        before=row.messages[:-2],
        source=row.provenance.get("source", "given"),
        licence=row.provenance.get("licence", "LicenseRef-own"),
        model=teacher,
        parents=[row.id],
    )
    if reply is None or not reply.whole:
        made.drop(reason, new)
    elif opens_with_template(text):
        made.drop("template opening", new)
    else:
        made.rows.append(new)
