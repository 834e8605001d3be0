"""Rows that hold a question in fields → their turns: Alpaca, query and response, multiple choice, COIG, seed tasks."""

import json
import re
import string
from collections.abc import Mapping
from typing import Any

from guardrail.sets.read.chat_shapes import (
    ANSWERS,
    QUESTIONS,
    pair,
    thinking_of,
    transcript,
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

__all__ = [
    "CONTEXTS",
    "OPTIONS",
    "belle_evaluation",
    "choice",
    "coig_exam",
    "coig_rounds",
    "coig_translated",
    "has_options",
    "question",
    "seed_task",
]

CONTEXTS = (
    "context", "passage", "article", "paragraph", "document", "documents", "context_text", "background", "material", "sql_context",
    "dialogue", "材料", "文章", "上下文", "背景",
)  # fmt: skip
"""Fields of a text that is asked about."""
OPTIONS = ("options", "choices", "endings")
_RIGHT = ("answer", "answerkey", "answer_idx", "label", "correct_answer", "correct", "gold", "output", "response")  # fmt: skip
_LETTERS = string.ascii_letters + ",，、 "
_LETTER = re.compile(r"\s*[(（]?([A-Za-z])[)）.．、:：]?\s*")
_MARK = re.compile(r"\s*(?:[(（][A-Z][)）]|[A-Z][.．、:：)）])\s*")


def _joined(instruction: str, extra: str) -> str:
    """Instruction and input as one prompt; input synonyms for nothing and repeats are left out."""
    extra = extra.strip()
    if not extra or NO_INPUT.fullmatch(extra) or extra in instruction:
        return instruction
    return f"{instruction}\n{extra}"


def _asked(row: Mapping[str, Any], name: str) -> str:
    """What is asked, with the text that it is asked about: before a question, behind an instruction."""
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
    context = flat_text(row[about])
    if name == "instruction":
        return _joined(asked, context)
    return asked if context in asked else f"{context}\n{asked}"


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
    return pair(_asked(row, asked), thought_before(thinking_of(row), answer))


def _answer(row: Mapping[str, Any], name: str) -> str:
    """The answer in any of its forms: text, a message, SQuAD's `{text: [...]}`, the first of several."""
    value = row[name]
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and "text" in value and "role" not in value:
        value = value["text"]
    while isinstance(value, list) and value and not isinstance(value[-1], dict):
        value = value[0]
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return text({name: value}, name)
    if isinstance(value, list) and name.endswith("s") and not any("role" in v for v in value):
        return flat_text(value[0])
    if isinstance(value, Mapping) and not filled([value.get("content"), value.get("value")]):
        raise WrongRow(f"field `{name}` must be text, got {shown(value)}")
    return with_answer((), {name: value}, name)[0][1]


def has_options(row: Mapping[str, Any]) -> bool:
    """Return whether a question comes with options to choose from."""
    letters = all(letter in row for letter in "abcd")
    return first_filled(row, QUESTIONS) is not None and (
        letters or first_filled(row, OPTIONS) is not None
    )


def _options(row: Mapping[str, Any]) -> list[str]:
    """The options, the letters off that they begin with."""
    name = first_filled(row, OPTIONS)
    if name is None:
        letters = [letter for letter in string.ascii_lowercase if letter in row]
        given: Any = [text(row, x) for x in letters]
        while given and not given[-1].strip():
            given.pop()
    else:
        given = decoded(row[name])
    if isinstance(given, Mapping):
        given = given["text"] if isinstance(given.get("text"), list) else list(given.values())
    if isinstance(given, str):
        given = given.splitlines()
    if not isinstance(given, list) or len(given) > len(string.ascii_uppercase):
        raise WrongRow(f"field `{name}` must be up to 26 options, got {shown(given)}")
    return [_MARK.sub("", flat_text(option) if filled(option) and not isinstance(option, int | float) else str(option), count=1) for option in given]  # fmt: skip


def _right(row: Mapping[str, Any], options: list[str]) -> tuple[str, str | None]:
    """The answer as it is given, and its letter where it is one option: a letter, its text, or its number from 0."""
    name = first_filled(row, _RIGHT)
    if name is None:
        return "", None
    value = decoded(row[name])
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else "".join(map(str, value))
    if isinstance(value, Mapping):
        value = flat_text(value)
    said = _MARK.sub("", str(value), count=1).strip()
    letters = string.ascii_uppercase[: len(options)]
    if said in options:
        letter = letters[options.index(said)]
    elif (found := _LETTER.fullmatch(str(value))) and found[1].upper() in letters:
        letter = found[1].upper()
    elif said.isdecimal() and len(said) < 3 and int(said) < len(options):
        letter = letters[int(said)]
    else:
        return said if isinstance(value, str) else str(value), None
    return letter, letter


def choice(row: Mapping[str, Any]) -> Conversation:
    """Return a multiple-choice question with its options a line each.

    Raises:
        WrongRow: its fields are of the wrong type.
    """
    asked = first_filled(row, ("question", *QUESTIONS))
    if asked is None:
        return Conversation((("user", ""),))
    options = _options(row)
    lines = [f"{x}. {o}" for x, o in zip(string.ascii_uppercase, options, strict=False)]
    answer, letter = _right(row, options)
    if not answer.strip(_LETTERS):  # else it is told in words
        lines.append("只回答选项的字母。")
    prompt = "\n".join([_asked(row, asked), *lines])
    return Conversation(pair(prompt, answer), "multiple choice", choice=letter)


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
