"""What a source calls its fields, in the words that the readers know; and which of two answers its judges preferred."""

from collections.abc import Mapping
from typing import Any

from guardrail.sets.read.conversation import filled, first_filled

__all__ = ["with_known_names"]

_KNOWN_AS: tuple[tuple[frozenset[str], Mapping[str, str]], ...] = (
    # TAL-SCQ5K
    (frozenset({"answer_option_list"}), {"answer_option_list": "options", "answer_value": "answer"}),
    # LogiQA
    (frozenset({"options", "correct_option"}), {"correct_option": "answer"}),
    # Math23K, Ape210K
    (frozenset({"original_text", "equation"}), {"original_text": "question", "ans": "answer"}),
    # webtext2019zh, baike2018qa: a title that asks, a description that goes with it
    (frozenset({"qid", "title", "desc"}), {"title": "query", "desc": "input"}),
    # DISC-Law-SFT: the articles that an answer rests on
    (frozenset({"reference", "input", "output"}), {"reference": "context"}),
    # CValues-Comparison
    (frozenset({"prompt", "pos_resp"}), {"pos_resp": "chosen"}),
)  # fmt: skip
"""Where a row has these fields: what of it is known under which name."""
_TWO_ANSWERS = (
    ("conversation_a", "conversation_b"), ("response_a", "response_b"), ("answer_a", "answer_b"), ("response_0", "response_1"),
    ("response_1", "response_2"), ("response1", "response2"),
)  # fmt: skip
_VERDICTS = (
    "winner",
    "better_response_id",
    "overall_preference",
    "preference_strength",
    "preference",
)


def with_known_names(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the names of its fields in small letters (the first of two alike), and what it has under names of its own also under known ones."""
    low: dict[str, Any] = {}
    for name, value in row.items():
        low.setdefault(str(name).strip().lower(), value)
    for needed, names in _KNOWN_AS:
        if needed <= low.keys():
            for theirs, ours in names.items():
                if theirs in low and not filled(low.get(ours)):
                    low[ours] = low[theirs]
    better = _preferred(low)
    if better is not None:
        low.setdefault(
            "conversation" if better.startswith("conversation") else "chosen", low[better]
        )
    return low


def _preferred(row: Mapping[str, Any]) -> str | None:
    """The name of the better of two answers, the first where the judges did not tell; None where there are not two."""
    pair = next(
        (pair for pair in _TWO_ANSWERS if all(filled(row.get(name)) for name in pair)), None
    )
    if pair is None:
        return None
    name = first_filled(row, _VERDICTS)
    said = row[name] if name else 0
    if isinstance(said, str):
        return pair[said.strip().lower().endswith(("b", "2", "_1"))]
    return pair[isinstance(said, int | float) and said > 0]
