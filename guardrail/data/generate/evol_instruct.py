"""Evol-Instruct: questions grown harder and rarer, round by round, by the model that answers them.

Xu et al. (2023), "WizardLM: Empowering Large Language Models to Follow Complex Instructions" (arXiv 2304.12244). Five
operations in depth and one in breadth, each with the same chance; elimination; four rounds; the first rows and those of
every round are merged. What is eliminated leaves its parent where it was, and the parent is evolved again next round.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from guardrail.data.chat_endpoint import Answerer, ChatRequest, Reply, user_says
from guardrail.data.diversity import diversity
from guardrail.data.judged_scores import difficulty
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.sets.lint.duplicates import plain
from guardrail.text import count_characters

__all__ = ["BREADTH", "DEPTH", "answer_fault", "evol_instruct", "leaks_the_prompt"]

DEPTH = ("constraints", "deepen", "concretise", "reasoning", "complicate-input")
BREADTH = "breadth"

_SHORT = 80
"""Characters below which an answer that apologises was no answer; the paper counts 80 words."""
_SORRY = re.compile(r"\bsorry\b|抱歉|对不起|很遗憾|无法(?:回答|提供|完成)", re.IGNORECASE)
_LEAK = re.compile(
    r"#?\s*(?:the )?(?:given|rewritten|created|new) prompt\s*#?|#?(?:给定|原来?的?|改写后?的?|改好的?|新的?|全新的)题目#?|改写方法|添二三十个字|改写题目",
    re.IGNORECASE,
)
_LABEL = re.compile(r"\A\s*(?:\*\*)?(?:改写后?的?题目|改好的题目|新题目|题目)(?:\*\*)?\s*[:：]\s*")
_STOP_WORDS = re.compile(
    r"的|了|是|在|和|与|或|而|也|都|就|还|又|这|那|有|个|吧|呢|吗|啊|呀|嗯|哦|我|你|他|她|它|们|很|一|"
    r"\b(?:the|a|an|is|are|of|to|and|or|in|on|it|this|that|i|you|we|be|as|for|with|so|yes|no|ok)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"\w", re.UNICODE)


def evol_instruct(
    answerer: Answerer,
    judge: Answerer,
    prompts: Prompts,
    rows: Sequence[DataRow],
    *,
    model: str,
    rounds: int = 4,
    seed: int = 0,
    on_round: Callable[[int, int], None] = lambda number, rows: None,
) -> Made:
    """Return C0 and the survivors of every round together, each with its round, operation, parent and difficulty.

    Args:
        answerer: The model that evolves and answers.
        judge: Says whether a child adds anything, and how difficult each question is.
        prompts: Templates.
        rows: C0, kept as it is; dialogues of several turns are kept and not evolved.
        model: The answerer's name, for provenance.
        rounds: Four in the paper.
        seed: Draws operations.
        on_round: Told the round and how many rows there are.
    """
    made = Made(rows=[replace(row, provenance={**row.provenance, "round": 0}) for row in rows])
    current = [row for row in made.rows if sum(m["role"] == "user" for m in row.messages) == 1]
    tried = defaultdict[str, Counter[str]](Counter)
    for number in range(1, rounds + 1):
        draw = random.Random(f"{seed}/{number}")
        operations = [draw.choice((*DEPTH, BREADTH)) for _ in current]
        children = _evolved(answerer, prompts, current, operations, seed + number)
        texts = [_LABEL.sub("", reply.text).strip() for reply in children]
        faults = [
            _question_fault(p, r, t) for p, r, t in zip(current, children, texts, strict=True)
        ]
        _judge_gain(judge, prompts, current, texts, faults)
        answers = _answers(answerer, current, texts, faults, seed + number)
        following = []
        for parent, operation, text, fault, answer in zip(
            current, operations, texts, faults, answers, strict=True
        ):
            child = _child(parent, text, answer, operation, number, model)
            fault = fault or answer_fault(answer)
            tried[operation][fault or "kept"] += 1
            if fault is None:
                made.rows.append(child)
            else:
                made.drop(fault, child)
            following.append(parent if fault else child)
        current = following
        on_round(number, len(made.rows))
    scores = difficulty(judge, prompts, [row.question for row in made.rows])
    made.rows = [
        row if score is None else row.scored(difficulty=score)
        for row, score in zip(made.rows, scores, strict=True)
    ]
    made.facts = {
        "operations": {name: dict(tried[name]) for name in (*DEPTH, BREADTH) if name in tried},
        "rounds": _by_round(made.rows),
        "diversity": diversity(made.rows),
    }
    return made


def _evolved(
    answerer: Answerer,
    prompts: Prompts,
    parents: Sequence[DataRow],
    operations: Sequence[str],
    seed: int,
) -> list[Reply]:
    requests = []
    for parent, operation in zip(parents, operations, strict=True):
        if operation == BREADTH:
            text = prompts("evol-breadth", question=parent.question)
        else:
            text = prompts(
                "evol-depth", question=parent.question, method=prompts(f"evol-{operation}")
            )
        requests.append(user_says(text, f"evolve {operation}", seed=seed, temperature=0.9))
    return answerer(requests)


def _question_fault(parent: DataRow, reply: Reply, text: str) -> str | None:
    if not reply.whole or not plain(text):
        return "no question in the reply"
    if leaks_the_prompt(text, parent.question):
        return "words of the evolving prompt leak"
    return "no gain over the parent" if plain(text) == plain(parent.question) else None


def leaks_the_prompt(text: str, parent: str) -> bool:
    """Return whether an evolved question holds words of the prompt that evolved it and its parent does not."""
    return any(match.group() not in parent for match in _LEAK.finditer(text))


def _judge_gain(
    judge: Answerer,
    prompts: Prompts,
    parents: Sequence[DataRow],
    texts: Sequence[str],
    faults: list[str | None],
) -> None:
    """Note where a judge finds a child to be the same as its parent, or says neither."""
    asked = [n for n, fault in enumerate(faults) if fault is None]
    requests = [
        user_says(
            prompts("evol-no-gain", parent=parents[n].question, child=texts[n]),
            "gain",
            temperature=0.0,
            max_tokens=8,
        )
        for n in asked
    ]
    for n, reply in zip(asked, judge(requests), strict=True):
        if "不同" not in reply.text and "不相同" not in reply.text:
            faults[n] = "no gain over the parent"


def _answers(
    answerer: Answerer,
    parents: Sequence[DataRow],
    texts: Sequence[str],
    faults: Sequence[str | None],
    seed: int,
) -> list[Reply]:
    """The same model's answers to children without fault, the parent's system turn kept; an empty reply for the others."""
    asked = [n for n, fault in enumerate(faults) if fault is None]
    requests = [
        ChatRequest(
            (*_system(parents[n]), {"role": "user", "content": texts[n]}),
            "answers",
            seed,
            max_tokens=2048,
        )
        for n in asked
    ]
    answers = [Reply("")] * len(texts)
    for n, reply in zip(asked, answerer(requests), strict=True):
        answers[n] = reply
    return answers


def answer_fault(answer: Reply) -> str | None:
    """Return why an evolved question's answer shows that the model could not cope with it, `None` if it could."""
    if answer.finish_reason != "stop":
        return "answer cut or refused by the endpoint"
    if _SORRY.search(answer.text) and count_characters(answer.text) < _SHORT:
        return "answer apologises and is short"
    if not _WORD.search(_STOP_WORDS.sub("", answer.text)):
        return "answer is only punctuation and stop words"
    return None


def _system(row: DataRow) -> list[dict[str, str]]:
    return [dict(m) for m in row.messages if m["role"] == "system"]


def _child(
    parent: DataRow, text: str, answer: Reply, operation: str, number: int, model: str
) -> DataRow:
    kept: dict[str, Any] = {
        k: parent.provenance[k] for k in ("licence", "cell") if k in parent.provenance
    }
    return made_row(
        text,
        answer.text,
        method="evol-instruct",
        before=_system(parent),
        **kept,
        source=f"evolved from {parent.provenance.get('source', 'given')}",
        model=model,
        round=number,
        operation=operation,
        parents=[parent.id],
        root=parent.provenance.get("root", parent.id),
    )


def _by_round(rows: Sequence[DataRow]) -> list[dict[str, Any]]:
    """Rows and mean difficulty of C0 and each round; None where no judge gave a number."""
    found = []
    for number in sorted({int(row.provenance["round"]) for row in rows}):
        own = [row for row in rows if row.provenance["round"] == number]
        scores = [row.scores["difficulty"] for row in own if "difficulty" in row.scores]
        found.append(
            {"round": number, "rows": len(own), "difficulty": fmean(scores) if scores else None}
        )
    return found
