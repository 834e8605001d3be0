"""Data distillation: a teacher trained on labelled rows labels others; what it is sure of joins them, and it is trained again.

Not knowledge distillation: no model teaches another here, the data grow by what a model is sure of. Confidence is the
geometric mean of the probabilities of the answer's tokens. Lee (2013), "Pseudo-Label".
"""

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from guardrail.data.chat_endpoint import Answerer, ChatRequest, Reply
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.errors import InputError

__all__ = ["data_distillation"]


def data_distillation(
    train: Callable[[Sequence[DataRow], str], Answerer],
    labelled: Sequence[DataRow],
    unlabelled: Sequence[DataRow],
    *,
    least_confidence: float,
    rounds: int = 2,
    seed: int = 0,
    max_tokens: int = 1024,
    on_stage: Callable[[str], None] = lambda name: None,
) -> Made:
    """Return the last round's pseudo-labelled rows with their confidence; the model trained on both is the last `train` made.

    Every round labels all unlabelled prompts anew, so that what an earlier teacher got wrong does not stay.

    Args:
        train: Trains the base on rows under a name (`teacher-0`, …) and returns the model as an answerer.
        labelled: Rows with right answers.
        unlabelled: Prompts; their answers are not read.
        least_confidence: From which a pseudo-label is kept, 0 to 1.
        rounds: Of labelling and training again, at least one.
        seed: Of the requests.
        max_tokens: Of an answer.
        on_stage: Told what is done next.

    Raises:
        InputError: rounds below 1, a confidence outside 0 to 1, or a teacher that gives none.
    """
    if rounds < 1 or not 0 <= least_confidence <= 1:
        raise InputError(
            f"data distillation needs at least one round and a confidence from 0 to 1, got {rounds} and {least_confidence}"
        )
    facts: list[dict[str, Any]] = []
    made = Made()
    on_stage("teacher-0")
    # One at a time: the last one is out of memory while the next one is trained.
    teachers = [train(labelled, "teacher-0")]
    for number in range(1, rounds + 1):
        requests = [
            ChatRequest(
                tuple(row.messages[:-1]), "pseudo-labels", seed, 0.0, max_tokens, logprobs=True
            )
            for row in unlabelled
        ]
        made = Made()
        sure = []
        for row, reply in zip(unlabelled, teachers.pop()(requests), strict=True):
            labelled_row, confidence = _pseudo(row, reply, number)
            sure.append(confidence)
            if not reply.whole:
                made.drop("answer empty or cut", labelled_row)
            elif confidence < least_confidence:
                made.drop("confidence too low", labelled_row)
            else:
                made.rows.append(labelled_row)
        facts.append(
            {
                "round": number,
                "labelled_by": f"teacher-{number - 1}",
                "kept": len(made.rows),
                "mean_confidence": fmean(sure),
            }
        )
        on_stage(f"teacher-{number}")
        teachers.append(train([*labelled, *made.rows], f"teacher-{number}"))
    made.facts = {"rounds": facts, "labelled": len(labelled)}
    return made


def _pseudo(row: DataRow, reply: Reply, number: int) -> tuple[DataRow, float]:
    if reply.confidence is None:
        raise InputError(
            "the teacher gives no probabilities, so that nothing tells how sure it is; use one that gives `logprobs`"
        )
    new = made_row(
        row.question,
        reply.text,
        method="data-distillation",
        before=row.messages[:-2],
        source=row.provenance.get("source", "given"),
        licence=row.provenance.get("licence", "LicenseRef-own"),
        round=number,
        parents=[row.id],
    )
    return new.scored(confidence=reply.confidence), reply.confidence
