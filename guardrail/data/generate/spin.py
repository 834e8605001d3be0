"""SPIN, self-play fine-tuning: pairs of a row's own answer and what the model of iteration t answers in its place.

Chen et al. (2024), "Self-Play Fine-Tuning Converts Weak Language Models to Strong Language Models" (arXiv 2401.01335),
algorithm 1: the opponent of iteration t is the model of iteration t, its answers are drawn at temperature 1; the model of
t + 1 is trained to tell them from the rows' own by the logistic loss against that opponent, which is DPO with the opponent as
reference; then it becomes the opponent. As in the paper's experiments (section 6.1: 50k pairs at iteration 0, 100k from then on;
the authors' `configs/config_iter1.yaml` to `config_iter3.yaml` name two sets each) an iteration is trained on its own pairs and those
of the one before. Does not see which of two answers is better: the row's own is taken to be.
"""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from guardrail.anchors.store import read_anchors
from guardrail.data.chat_endpoint import Answerer, ChatRequest, Reply
from guardrail.data.judged_text import WITHHELD
from guardrail.data.preference_pairs import preference_pair
from guardrail.data.rows import DataRow, made_row
from guardrail.data.stage_folder import Made
from guardrail.errors import InputError
from guardrail.sets.items import read_items

__all__ = ["as_pair", "gold_rows", "mix_in", "newest_iteration", "play", "with_golds"]

METHOD = "spin"


def play(
    opponent: Answerer,
    rows: Sequence[DataRow],
    iteration: int,
    *,
    name: str,
    seed: int = 0,
    max_tokens: int = 1024,
) -> Made:
    """Return a row for each in which the opponent answers otherwise, what it said under `provenance.rejected`.

    A row's id is that of its chosen answer, the same in every iteration; `provenance` has iteration, opponent, and the side:
    `domain` for the business's rows, `rehearsal` for golds of base's.

    Args:
        opponent: The model of this iteration.
        rows: Chats whose last turn is the answer to prefer.
        iteration: Counted from 0, where the opponent is the model that SPIN starts from.
        name: The opponent's.
        seed: Of the draws, which are another's in every iteration.
        max_tokens: Of an answer.
    """
    requests = [
        ChatRequest(tuple(row.messages[:-1]), METHOD, seed + iteration, 1.0, max_tokens)
        for row in rows
    ]
    made = Made()
    for row, reply in zip(rows, opponent(requests), strict=True):
        said = _as_written(reply)
        pair = DataRow(
            row.messages,
            {
                "licence": "LicenseRef-own",
                "source": "given",
                **row.provenance,
                "method": METHOD,
                "side": "rehearsal" if row.provenance.get("method") == "gold" else "domain",
                "iteration": iteration,
                "opponent": name,
                "rejected": said,
                "parents": [row.id],
            },
        )
        if reply.finish_reason == "withheld":
            made.drop(WITHHELD, pair)
        elif not reply.whole:
            made.drop("answer empty or cut", pair)
        elif said.strip() == row.answer.strip():
            made.drop("rejected equals chosen", pair)
        else:
            made.rows.append(pair)
    made.preferences = [as_pair(row) for row in made.rows]
    made.facts = {"iteration": iteration, "opponent": name, "pairs": len(made.rows)}
    return made


def as_pair(row: DataRow) -> dict[str, Any]:
    """Return the preference pair of a row that `play` made."""
    known = {name: row.provenance[name] for name in ("iteration", "opponent", "side")}
    rejected = str(row.provenance["rejected"])
    return preference_pair(row.messages[:-1], row.answer, rejected, id=row.id, **known)


def mix_in(made: Made, before: Sequence[DataRow]) -> None:
    """Put the pairs of the iteration before in front of an iteration's own, to be trained together; each keeps its iteration.

    Where the iteration has no pair of its own there is nothing to train, and none is put in. How many were is told as `mixed_in`.

    Args:
        made: What `play` made of this iteration.
        before: Rows of the iteration before; none for the first.
    """
    mixed = [as_pair(row) for row in before] if made.preferences else []
    made.preferences = [*mixed, *made.preferences]
    made.facts["mixed_in"] = len(mixed)


def newest_iteration(rows: Sequence[DataRow], place: Path) -> tuple[int, list[DataRow]]:
    """Return the number of the newest iteration among rows that `play` made, and its rows.

    Args:
        rows: As they were read back.
        place: Where they stood, for the message.

    Raises:
        InputError: there is none, or one that `play` did not make.
    """
    needed = {"iteration": int, "rejected": str, "opponent": str, "side": str}
    pairs = [
        row
        for row in rows
        if all(type(row.provenance.get(name)) is kind for name, kind in needed.items())
    ]
    if not pairs or len(pairs) < len(rows):
        raise InputError(
            f"`--previous {place}` holds no pairs of an iteration of SPIN; give the folder that `guardrail data spin` wrote for the "
            "iteration before"
        )
    newest = max(row.provenance["iteration"] for row in pairs)
    return newest, [row for row in pairs if row.provenance["iteration"] == newest]


def _as_written(reply: Reply) -> str:
    """An answer as it would stand in a training row, its thinking before it."""
    return f"<think>\n{reply.thinking}\n</think>\n\n{reply.text}" if reply.thinking else reply.text


def gold_rows(folder: Path) -> list[DataRow]:
    """Return base's golds of the rehearsal items of anchors as rows, but those that were cut.

    Raises:
        InputError: no anchors are there, or they are not as they were written.
    """
    anchors = read_anchors(folder)
    rows = []
    for item in read_items(folder / "rehearsal.jsonl"):
        gold = anchors.answers[item.id][0]
        if gold.finish_reason == "length" or not gold.text.strip():
            continue
        turns = [{"role": m.role, "content": m.content} for m in item.messages]
        made = made_row(
            turns[-1]["content"],
            gold.text,
            method="gold",
            before=turns[:-1],
            source=item.source,
            licence=item.licence,
            ability=item.ability,
            item=item.id,
        )
        rows.append(made)
    return rows


def with_golds(
    rows: Sequence[DataRow], golds: Sequence[DataRow], share: float, seed: int
) -> list[DataRow]:
    """Return the rows, and behind them so many golds, drawn at random, that these are the share of all.

    Raises:
        InputError: a share of 0 or less, or above the 10 % that general data may have.
    """
    if not 0 < share <= 0.1:
        raise InputError(
            f"`--general-share` must be above 0 and at most 0.1, got {share:g}; 0.01 to 0.03 is usual"
        )
    count = min(len(golds), max(1, round(share / (1 - share) * len(rows))))
    return [*rows, *Random(seed).sample(list(golds), count)]
