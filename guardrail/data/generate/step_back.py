"""Step-back: an answer grounded in the principle that a more general question asks for; with it and without are compared.

Zheng et al. (2023), "Take a Step Back: Evoking Reasoning via Abstraction in Large Language Models" (arXiv 2310.06117): from
few-shot exemplars a step-back question, its answer (a principle, or facts; with documents at hand by retrieval with the
step-back question), then the final answer grounded in it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from guardrail.data.chat_endpoint import Answerer, ChatRequest, Reply, user_says
from guardrail.data.generate.retrieval import Passages
from guardrail.data.judged_scores import agrees
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.sets.lint.duplicates import plain

__all__ = ["step_back"]


def step_back(
    answerer: Answerer,
    judge: Answerer,
    prompts: Prompts,
    rows: Sequence[DataRow],
    *,
    model: str,
    passages: Passages | None = None,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda name: None,
) -> Made:
    """Return a row a question with the step-back answer, and how it compares with the answer given directly.

    Where a row brings an answer of its own, that is the reference, and a row whose step-back answer disagrees with it is
    dropped. Without a reference a judge compares both answers, in both orders; a preference that turns with the order counts
    as a tie.

    Args:
        answerer: The model that steps back and answers.
        judge: Compares.
        prompts: Templates.
        rows: Questions, with a reference answer or an empty one.
        model: The answerer's name, for provenance.
        passages: Documents to retrieve from; None asks the model itself for the principle.
        seed: Of the requests.
        on_stage: Told what is asked next.
    """
    made = Made()
    on_stage("step-back questions")
    general = answerer(
        [
            user_says(
                prompts("step-back-question", question=row.question),
                "step-back question",
                seed=seed,
                temperature=0.0,
            )
            for row in rows
        ]
    )
    found = [[] if passages is None else [p.text for p in passages.about(r.text)] for r in general]
    on_stage("principles")
    principles = answerer(
        [
            user_says(
                prompts("step-back-principle", step_back=g.text, passages=texts),
                "principle",
                seed=seed,
            )
            for g, texts in zip(general, found, strict=True)
        ]
    )
    on_stage("final answers")
    finals = answerer(
        [
            ChatRequest(
                (
                    *_earlier(row),
                    {
                        "role": "user",
                        "content": prompts(
                            "step-back-final",
                            step_back=g.text,
                            principle=p.text,
                            passages=texts,
                            question=row.question,
                        ),
                    },
                ),
                "final answer",
                seed,
                max_tokens=2048,
            )
            for row, g, p, texts in zip(rows, general, principles, found, strict=True)
        ]
    )
    on_stage("answers without")
    without = answerer(
        [
            ChatRequest(tuple(row.messages[:-1]), "answer without", seed, max_tokens=2048)
            for row in rows
        ]
    )
    on_stage("comparison")
    verdicts = _against_references(judge, prompts, rows, finals, without)
    preferred = _preferences(judge, prompts, rows, finals, without)
    for n, row in enumerate(rows):
        new = made_row(
            row.question,
            finals[n].text,
            method="step-back",
            before=_earlier(row),
            source=row.provenance.get("source", "given"),
            licence=row.provenance.get("licence", "LicenseRef-own"),
            model=model,
            parents=[row.id],
            step_back=general[n].text,
            principle=principles[n].text,
            retrieved=bool(found[n]),
        )
        fault = _fault(row, general[n], principles[n], finals[n])
        if fault is None and verdicts[n][0] is False:
            fault = "disagrees with the reference"
        if fault is None:
            made.rows.append(new)
        else:
            made.drop(fault, new)
    made.facts = {"compared": _compared(verdicts, preferred)}
    return made


def _earlier(row: DataRow) -> list[dict[str, str]]:
    """The turns before the last question."""
    return [dict(m) for m in row.messages[:-2]]


def _fault(row: DataRow, general: Reply, principle: Reply, final: Reply) -> str | None:
    if not general.whole or plain(general.text) == plain(row.question):
        return "no step back"
    if not principle.whole:
        return "no principle"
    return None if final.whole else "answer empty or cut"


def _against_references(
    judge: Answerer,
    prompts: Prompts,
    rows: Sequence[DataRow],
    finals: Sequence[Reply],
    without: Sequence[Reply],
) -> list[tuple[bool | None, bool | None]]:
    """Whether both answers agree with the row's own; None where it has none."""
    known = [n for n, row in enumerate(rows) if row.answer.strip()]
    triples = [
        (rows[n].question, rows[n].answer, replies[n].text)
        for replies in (finals, without)
        for n in known
    ]
    said = agrees(judge, prompts, triples)
    verdicts: list[tuple[bool | None, bool | None]] = [(None, None)] * len(rows)
    for place, n in enumerate(known):
        verdicts[n] = (said[place], said[len(known) + place])
    return verdicts


def _preferences(
    judge: Answerer,
    prompts: Prompts,
    rows: Sequence[DataRow],
    finals: Sequence[Reply],
    without: Sequence[Reply],
) -> list[str]:
    """`with`, `without` or `tie` for each row that has no reference; empty for the others."""
    asked = [n for n, row in enumerate(rows) if not row.answer.strip()]
    texts = [
        prompts("prefer", question=rows[n].question, one=a[n].text, other=b[n].text)
        for n in asked
        for a, b in ((finals, without), (without, finals))
    ]
    said = [
        r.text.strip()[:1]
        for r in judge([user_says(t, "comparison", temperature=0.0, max_tokens=8) for t in texts])
    ]
    found = [""] * len(rows)
    for place, n in enumerate(asked):
        found[n] = {("甲", "乙"): "with", ("乙", "甲"): "without"}.get(
            (said[2 * place], said[2 * place + 1]), "tie"
        )
    return found


def _compared(
    verdicts: Sequence[tuple[bool | None, bool | None]], preferred: Sequence[str]
) -> dict[str, Any]:
    both = [(a, b) for a, b in verdicts if a is not None and b is not None]
    return {
        "with_reference": len(both),
        "right_with": sum(bool(a) for a, _ in both),
        "right_without": sum(bool(b) for _, b in both),
        "without_reference": {name: preferred.count(name) for name in ("with", "without", "tie")},
    }
