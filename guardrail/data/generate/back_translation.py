"""Back-translation with self-curation: instructions for answers that have none, curated by models trained for it.

Li et al. (2023), "Self-Alignment with Instruction Backtranslation" (arXiv 2308.06259). A reverse model Myx is trained on the
seeds (answer → instruction) and writes instructions for unlabelled answers. M0, trained on the seeds, scores the candidates;
the best are kept; M1, trained on seeds and kept, scores the rest; the best of them are kept; M2 is trained on all. As in
the paper a system turn tells seeds from augmented rows while they are trained on.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from guardrail.data.chat_endpoint import Answerer, user_says
from guardrail.data.diversity import diversity
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.errors import InputError
from guardrail.sets.lint.duplicates import plain
from guardrail.text import parse_answer

__all__ = ["back_translation"]

_SCORE = re.compile(r"(?<![\d.])[1-5](?![\d.])")


def back_translation(
    train: Callable[[Sequence[DataRow], str], Answerer],
    prompts: Prompts,
    seeds: Sequence[DataRow],
    answers: Sequence[DataRow],
    *,
    keep: Sequence[int] = (200, 300),
    prompted: Answerer | None = None,
    tagged: bool = True,
    seed: int = 0,
    on_stage: Callable[[str], None] = lambda name: None,
) -> Made:
    """Return the rows that trained rounds kept, each with its round and score, and the rest with the reason.

    Args:
        train: Trains the base on rows under a name (`Myx`, `M0`, `M1`, …) and returns the model as an answerer.
        prompts: Templates.
        seeds: Instruction and answer pairs.
        answers: Texts without an instruction, as the answers of rows; their questions are not read.
        keep: Rows kept in each round, 200 and 300 in the notes' example of 1,000; two rounds at least.
        prompted: A model that is only prompted for instructions; its candidates stand beside those of Myx.
        tagged: Whether system turns tell seeds from augmented rows; off for templates without system turns.
        seed: Of the requests.
        on_stage: Told what is done next.

    Raises:
        InputError: fewer than two rounds, or a scorer that gives no candidate a score.
    """
    if len(keep) < 2 or min(keep) < 1:
        raise InputError(
            f"back-translation curates in at least two trained rounds that keep rows, got {list(keep)}"
        )
    on_stage("Myx")
    reverse = [
        made_row(
            prompts("reverse", answer=row.answer), row.question, method="reverse", parents=[row.id]
        )
        for row in seeds
    ]
    made = Made()
    candidates = _candidates(train(reverse, "Myx"), prompts, answers, "Myx", made, seed)
    if prompted is not None:
        candidates += _candidates(prompted, prompts, answers, "prompted", made, seed)
    left = _without_repeats(candidates, made)
    own = [_tagged(row, prompts("tag-seed"), tagged) for row in seeds]
    facts: list[dict[str, Any]] = []
    for number, count in enumerate(keep, start=1):
        on_stage(f"M{number - 1}")
        augmented = [_tagged(row, prompts("tag-augmented"), tagged) for row in made.rows]
        scorer = train([*own, *augmented], f"M{number - 1}")
        scored = _scored(scorer, prompts, left, f"M{number - 1}")
        del scorer  # a model less in memory while the next one is trained
        order = sorted(range(len(scored)), key=lambda n: -scored[n].scores["curation"])
        best = [n for n in order if scored[n].scores["curation"] > 0][:count]
        made.rows += [
            replace(scored[n], provenance={**scored[n].provenance, "round": number}) for n in best
        ]
        left = [scored[n] for n in range(len(scored)) if n not in set(best)]
        facts.append(
            {
                "round": number,
                "scored_by": f"M{number - 1}",
                "scored": len(scored),
                "kept": len(best),
                "scores": _counts(scored),
            }
        )
    on_stage(f"M{len(keep)}")
    train(
        [*own, *(_tagged(row, prompts("tag-augmented"), tagged) for row in made.rows)],
        f"M{len(keep)}",
    )
    for row in left:
        made.drop(
            "no score" if row.scores["curation"] == 0 else "not among the best of its round", row
        )
    made.facts = {"rounds": facts, "diversity": diversity(made.rows)}
    return made


def _candidates(
    answerer: Answerer, prompts: Prompts, answers: Sequence[DataRow], by: str, made: Made, seed: int
) -> list[DataRow]:
    replies = answerer(
        [
            user_says(
                prompts("reverse", answer=row.answer),
                f"instructions by {by}",
                seed=seed,
                max_tokens=256,
            )
            for row in answers
        ]
    )
    found = []
    for row, reply in zip(answers, replies, strict=True):
        candidate = made_row(
            reply.text or "…",
            row.answer,
            method="back-translation",
            source=row.provenance.get("source", "given"),
            licence=row.provenance.get("licence", "LicenseRef-own"),
            instruction_by=by,
            parents=[row.id],
        )
        if not reply.whole or not plain(reply.text):
            made.drop("no instruction in the reply", candidate)
        elif plain(reply.text) in plain(parse_answer(row.answer).text):
            made.drop("instruction repeats the answer", candidate)
        else:
            found.append(candidate)
    return found


def _without_repeats(candidates: Sequence[DataRow], made: Made) -> list[DataRow]:
    seen: set[str] = set()
    kept = []
    for row in candidates:
        key = plain(row.question)
        if key in seen:
            made.drop("exact repeat", row)
        else:
            seen.add(key)
            kept.append(row)
    return kept


def _tagged(row: DataRow, text: str, tagged: bool) -> DataRow:
    if not tagged or row.messages[0]["role"] == "system":
        return row
    return replace(row, messages=({"role": "system", "content": text}, *row.messages))


def _scored(
    scorer: Answerer, prompts: Prompts, rows: Sequence[DataRow], name: str
) -> list[DataRow]:
    """Candidates with the score 1 to 5 that the model gives, 0 where it gives none."""
    texts = [prompts("curate", question=row.question, answer=row.answer) for row in rows]
    replies = scorer([user_says(text, "curation", temperature=0.0, max_tokens=8) for text in texts])
    found = [_SCORE.search(reply.text) for reply in replies]
    if rows and not any(found):
        raise InputError(
            f"{name} gives none of {len(rows)} candidates a score from 1 to 5, but says such as {replies[0].text[:40]!r}; give it "
            "more seeds, some of them prompts of `curate` answered by a number, or take a larger base"
        )
    return [
        row.scored(curation=float(match[0]) if match else 0.0)
        for row, match in zip(rows, found, strict=True)
    ]


def _counts(rows: Sequence[DataRow]) -> dict[str, int]:
    return {str(score): sum(row.scores["curation"] == score for row in rows) for score in range(6)}
