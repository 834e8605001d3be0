"""Each score of a selection, put on the rows: by a model in this process, or by an endpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path

from guardrail.data.chat_endpoint import Answerer
from guardrail.data.judged_scores import density, difficulty, following
from guardrail.data.prompt_templates import Prompts
from guardrail.data.rows import DataRow
from guardrail.data.select.hard_examples import find_hard
from guardrail.data.select.ifd import IfdScore, ifd_scores

__all__ = ["JUDGED", "score_by_endpoint", "score_by_model", "with_ifd"]

JUDGED = ("complexity", "density", "following", "hard")


def score_by_model(
    rows: Sequence[DataRow],
    folder: Path,
    *,
    thinking: bool,
    max_length: int,
    on_scored: Callable[[int], None] = lambda count: None,
) -> list[IfdScore]:
    """Return the IFD of each row by the model of a folder.

    Raises:
        InputError: the model's template cannot render the rows.
    """
    from guardrail.models.end_of_turn import resolve_profile
    from guardrail.models.load import load_model, on_accelerator

    model, tokenizer = load_model(folder)
    profile = resolve_profile(folder, tokenizer, thinking=thinking)
    return ifd_scores(
        on_accelerator(model).eval(),
        tokenizer,
        rows,
        thinking=thinking,
        max_length=max_length,
        pad_id=profile.pad,
        on_scored=on_scored,
    )


def with_ifd(
    rows: Sequence[DataRow], scores: Sequence[IfdScore], name: str = "ifd"
) -> list[DataRow]:
    """Return the rows with their IFD under a name; a truncated one has none and is marked."""
    return [
        row.scored(truncated=1.0)
        if score.truncated
        else row.scored(
            **{
                name: score.ifd,
                f"{name}_conditioned": score.conditioned,
                f"{name}_direct": score.direct,
            }
        )
        for row, score in zip(rows, scores, strict=True)
    ]


def score_by_endpoint(
    rows: Sequence[DataRow],
    names: Sequence[str],
    answerer: Answerer,
    judge: Answerer,
    prompts: Prompts,
    *,
    seed: int,
) -> list[DataRow]:
    """Return the rows with the scores of `JUDGED` that are named; what the judge could not say scores 0.

    `hard` is how many of the three kinds hold, and each kind that holds stands beside it.
    """
    scored = list(rows)
    if "complexity" in names:
        found = difficulty(judge, prompts, [row.question for row in rows])
        scored = [r.scored(complexity=v or 0.0) for r, v in zip(scored, found, strict=True)]
    if "density" in names:
        scored = [
            r.scored(density=v or 0.0)
            for r, v in zip(scored, density(judge, prompts, rows), strict=True)
        ]
    if "following" in names:
        scored = [
            r.scored(following=v or 0.0)
            for r, v in zip(scored, following(judge, prompts, rows), strict=True)
        ]
    if "hard" in names:
        hard = find_hard(answerer, judge, prompts, rows, seed=seed)
        scored = [
            r.scored(hard=float(len(h.kinds)), **{f"hard_{kind}": 1.0 for kind in h.kinds})
            for r, h in zip(scored, hard, strict=True)
        ]
    return scored
