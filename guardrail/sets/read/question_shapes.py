"""Rows that hold a question in fields → their turns: Alpaca, query and response, COIG, seed tasks."""

import json
import re
from collections.abc import Mapping
from typing import Any

from guardrail.sets.read.chat_shapes import (
    ANSWERS,
    QUESTIONS,
    pair,
    rank_of,
    thinking_of,
    turns_of,
    with_answer,
)
from guardrail.sets.read.conversation import (
    NO_INPUT,
    Conversation,
    Turns,
    WrongRow,
    decoded,
    filled,
    first_filled,
    flat_text,
    label,
    shown,
    text,
    thought_before,
)
from guardrail.sets.read.transcripts import transcript

__all__ = [
    "CONTEXTS",
    "asked_text",
    "belle_evaluation",
    "coig_exam",
    "coig_rounds",
    "coig_translated",
    "question",
    "seed_task",
]

CONTEXTS = (
    "context", "passage", "article", "paragraph", "document", "documents", "context_text", "background", "material", "sql_context",
    "dialogue", "材料", "文章", "上下文", "背景",
)  # fmt: skip
"""Fields of a text that is asked about."""
_PROSE = ("paragraphs", "passage", "passage_text", "text", "content", "sentences")
"""What of a document is its text, where other fields stand beside (DuReader)."""


def _joined(instruction: str, extra: str) -> str:
    """Instruction and input as one prompt; input synonyms for nothing and repeats are left out."""
    extra = extra.strip()
    if not extra or NO_INPUT.fullmatch(extra) or extra in instruction:
        return instruction
    return f"{instruction}\n{extra}"


def asked_text(row: Mapping[str, Any], name: str) -> str:
    """Return what a field asks, with the text that it is asked about: before a question, behind an instruction."""
    asked = text(row, name)
    if name == "ask" and NO_INPUT.fullmatch(asked.strip()):
        asked = text(row, "title")
    extras = ("input", "question", "query") if name == "instruction" else ("input",)
    extra = first_filled(row, [field for field in extras if field != name])
    if extra is not None and not isinstance(decoded(row[extra]), list):
        asked = _joined(asked, text(row, extra))
    about = first_filled(row, CONTEXTS)
    if about is None:
        return asked
    context = _prose(row[about])
    if name == "instruction":
        return _joined(asked, context)
    return asked if context in asked else f"{context}\n{asked}"


def _prose(value: Any) -> str:
    """The text of documents in any form, without what stands beside it: titles, words cut apart, ranks."""
    value = decoded(value)
    if isinstance(value, Mapping):
        name = first_filled(value, _PROSE)
        return flat_text(value if name is None else value[name])
    if isinstance(value, list):
        return "\n".join(filter(None, map(_prose, value)))
    return flat_text(value)


def question(row: Mapping[str, Any]) -> Conversation:
    """Return a question and its answer, whatever their fields are called; an empty turn where none is filled.

    Raises:
        WrongRow: a field is of the wrong type.
    """
    asked = first_filled(row, QUESTIONS)
    if asked is None:
        return Conversation((("user", ""),))
    said = first_filled(row, [name for name in ANSWERS if name != asked])
    cluster = row.get("example_id")
    task = label(row, "task_type", "task", "category", "domain_zh", "department", "kind", "domain")
    return Conversation(
        _turns(row, asked, said),
        task,
        None if cluster is None else f"{task or 'example'}-{cluster}",
    )


def _turns(row: Mapping[str, Any], asked: str, said: str | None) -> Turns:
    value = decoded(row[asked])
    if isinstance(value, list) and asked != "instruction":
        turns = turns_of(value, asked)
        return turns if said is None or turns[-1][0] != "user" else with_answer(turns, row, said)
    answer = _answer(row, said) if said is not None else ""
    spoken = transcript(text(row, asked), answer)
    if spoken is not None:
        return spoken
    return pair(asked_text(row, asked), thought_before(thinking_of(row), answer))


def _answer(row: Mapping[str, Any], name: str) -> str:
    """The answer in any of its forms: text, a message, SQuAD's `{text: [...]}`, the first of several."""
    value = row[name]
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and "text" in value and "role" not in value:
        value = value["text"]
    if _only_letters(value):
        return "".join(value)
    while isinstance(value, list) and value and not isinstance(value[-1], dict):
        value = value[0]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return text({name: value}, name)
    if isinstance(value, list) and name.endswith("s") and not any("role" in v for v in value):
        best = min(value, key=rank_of)  # of several answers (Nectar, UltraFeedback), SQuAD's one
        named = first_filled(best, ("text", "answer", "response", *_PROSE))
        return flat_text(best if named is None else best[named])
    if isinstance(value, Mapping) and not filled([value.get("content"), value.get("value")]):
        raise WrongRow(f"field `{name}` must be text, got {shown(value)}")
    return with_answer((), {name: value}, name)[0][1]


def _only_letters(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(v, str) and re.fullmatch("[A-Z]", v) for v in value
    )


def belle_evaluation(row: Mapping[str, Any]) -> Conversation:
    """Return a row of BELLE's evaluation set."""
    return Conversation(pair(text(row, "question"), text(row, "std_answer")), label(row, "class"))


def seed_task(row: Mapping[str, Any]) -> Conversation:
    """Return a seed task with its first instance.

    Raises:
        WrongRow: it has none.
    """
    instances = row["instances"]
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        raise WrongRow(f"field `instances` must be a list of objects, got {shown(instances)}")
    asked = _joined(text(row, "instruction"), text(instances[0], "input"))
    return Conversation(pair(asked, text(instances[0], "output")))


def coig_translated(row: Mapping[str, Any]) -> Conversation:
    """Return the Chinese side of COIG's translated instructions."""
    asked = _joined(text(row, "trans_instruction"), text(row, "trans_input"))
    return Conversation(pair(asked, text(row, "trans_output")), "translated", translated=True)


def coig_exam(row: Mapping[str, Any]) -> Conversation:
    """Return a row of COIG's exams, or of its human values."""
    parts = ("textbox_q_instruction", "textbox_q_context", "textbox_question")
    asked = "\n".join(said for said in (text(row, part).strip() for part in parts) if said)
    answer = "\n".join(
        filter(None, (text(row, "textbox_answer"), text(row, "textbox_answer_analysis")))
    )
    task = "exam" if "textbox_answer_analysis" in row else "human value"
    return Conversation(pair(asked, answer), task)


def coig_rounds(row: Mapping[str, Any]) -> Conversation:
    """Return COIG's counterfactual dialogues: each round's `response` is JSON text that holds Q and A.

    Raises:
        WrongRow: no round can be read.
    """
    turns: Turns = ()
    for number in range(len(row)):
        response = (row.get(f"round_{number}") or {}).get("response", "")
        body = re.sub(r"\A\s*```(?:json)?\s*|\s*```\s*\Z", "", str(response))
        try:
            said = json.loads(body)
            turns += pair(str(said["Q"]), str(said["A"]))
        except (json.JSONDecodeError, KeyError, TypeError):
            break  # what follows a broken round lost its context
    if not turns:
        raise WrongRow("no round holds readable JSON with `Q` and `A`")
    return Conversation(turns, "counterfactual correction")
