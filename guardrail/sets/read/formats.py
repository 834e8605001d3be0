"""Raw rows → conversations: the shapes of BELLE, COIG, Firefly, ShareGPT, CMMLU, Alpaca and chat files.

A row's shape is told from its fields; a format is where the file comes from, and decides what is taken
from it. Field names were read off the published files or, where only the readers of others were at hand
(COIG, the 1.1 M Firefly rows), off those.
"""

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from guardrail.errors import InputError

__all__ = [
    "FORMATS",
    "Conversation",
    "Format",
    "WrongRow",
    "field_names",
    "read_conversation",
    "recognise",
]


class WrongRow(InputError):
    """A row that is not of its format; the message names field, rule and value."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a row says: turns as (role, text), the user's first, and the source's own labels."""

    turns: tuple[tuple[str, str], ...]
    task: str | None = None
    """The source's name for the kind of task."""
    cluster: str | None = None
    """The source's name for rows that are variants of one."""
    translated: bool = False
    """Whether the row itself says that it was translated into Chinese."""
    choice: str | None = None
    """The letter of the right option, for multiple choice."""


@dataclass(frozen=True, slots=True)
class Format:
    """Where a file comes from and what is taken from it."""

    licence: str
    """What the file's publisher says; `LicenseRef-` where no SPDX identifier fits."""
    per_task: int | None = None
    """Most rows kept of one task, by default."""
    limit: int | None = None
    """Most rows kept of all files, by default."""
    rehearsal_only: bool = False
    """Whether its rows may be injected but never judged."""
    evaluate_only: bool = False
    """Whether its rows may be judged but never injected."""


FORMATS: Mapping[str, Format] = {
    "belle": Format("LicenseRef-BELLE-research", limit=2000),
    "coig": Format("LicenseRef-COIG", per_task=48),
    "firefly": Format("LicenseRef-Firefly-unlicensed", limit=2000, rehearsal_only=True),
    "sharegpt": Format("LicenseRef-ShareGPT-research", limit=2000),
    "cmmlu": Format("CC-BY-NC-SA-4.0", evaluate_only=True),
    "alpaca": Format("LicenseRef-Alpaca-NC", limit=2000, rehearsal_only=True),
    "messages": Format("LicenseRef-own"),
}

_USER = {"user", "human", "usr", "questioner"}
_ASSISTANT = {"assistant", "gpt", "bot", "model", "sys", "chatgpt", "bing"}
_TOOL = {"function_call", "observation", "tool", "tool_call", "tool_response", "function_response"}
_NO_INPUT = re.compile(
    r"[“\"`<（(]*(?:&lt;)?(?:无输入|没有输入|无需输入|无)(?:&gt;)?[”\"`>）)]*。?", re.IGNORECASE
)
_TURN = re.compile(r"^(Human|Assistant)[:：]", re.MULTILINE)
_QUERY = ("query", "prompt", "question", "instruction", "input", "problem", "ask")
_RESPONSE = (
    "response",
    "answer",
    "output",
    "target",
    "targets",
    "completion",
    "solution",
    "chosen",
)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise WrongRow(f"field `{name}` must be text, got {_shown(value)}")
    return value


def field_names(row: Mapping[str, Any]) -> str:
    """Return the names of a row's fields for an error's text, not more than a line holds."""
    names = [repr(name)[:40] for name in row]
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    return f"{type(value).__name__} {text[:60]}{'…' if len(text) > 60 else ''}"


def _pair(question: str, answer: str) -> tuple[tuple[str, str], ...]:
    turns = (("user", question), ("assistant", answer.lstrip("\n")))
    return turns if turns[1][1] else turns[:1]


def _joined(instruction: str, extra: str) -> str:
    """Instruction and input as one prompt; input synonyms for nothing and repeats are left out."""
    extra = extra.strip()
    if not extra or _NO_INPUT.fullmatch(extra) or extra in instruction:
        return instruction
    return f"{instruction}\n{extra}"


def _marked(text: str, answer: str) -> tuple[tuple[str, str], ...] | None:
    """Split BELLE's `Human:` / `Assistant:` transcript, markers at line starts only; `None` without one."""
    marks = list(_TURN.finditer(text))
    if not marks or marks[0].start() or marks[0][1] != "Human":
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = [
        ("user" if mark[1] == "Human" else "assistant", text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    ]
    if turns[-1] == ("assistant", ""):
        turns[-1] = ("assistant", answer.strip())
    return tuple(turn for turn in turns if turn[1])


def _alpaca(row: Mapping[str, Any]) -> Conversation:
    instruction, answer = _text(row, "instruction"), _text(row, "output")
    transcript = _marked(instruction, answer)
    if transcript is not None:
        return Conversation(transcript)
    turns = _pair(_joined(instruction, _text(row, "input")), answer)
    task = _text(row, "task_type") or _text(row, "category") or None
    cluster = row.get("example_id")
    return Conversation(
        _history(row) + turns, task, None if cluster is None else f"{task or 'example'}-{cluster}"
    )


def _history(row: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    history = row.get("history") or ()
    if isinstance(history, str):
        return ()
    turns: list[tuple[str, str]] = []
    for pair in history:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise WrongRow(
                f"field `history` must hold [question, answer] pairs, got {_shown(pair)}"
            )
        turns += [("user", str(pair[0])), ("assistant", str(pair[1]))]
    return tuple(turns)


def _belle_eval(row: Mapping[str, Any]) -> Conversation:
    task = _text(row, "class").replace("\u00a0", " ")
    return Conversation(_pair(_text(row, "question"), _text(row, "std_answer")), task or None)


def _seed_task(row: Mapping[str, Any]) -> Conversation:
    instances = row["instances"]
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        raise WrongRow(f"field `instances` must be a list of objects, got {_shown(instances)}")
    question = _joined(_text(row, "instruction"), _text(instances[0], "input"))
    return Conversation(_pair(question, _text(instances[0], "output")))


def _coig_translated(row: Mapping[str, Any]) -> Conversation:
    question = _joined(_text(row, "trans_instruction"), _text(row, "trans_input"))
    return Conversation(_pair(question, _text(row, "trans_output")), "translated", translated=True)


def _coig_exam(row: Mapping[str, Any]) -> Conversation:
    parts = ("textbox_q_instruction", "textbox_q_context", "textbox_question")
    question = "\n".join(text for text in (_text(row, part).strip() for part in parts) if text)
    answer = "\n".join(
        filter(None, (_text(row, "textbox_answer"), _text(row, "textbox_answer_analysis")))
    )
    task = "exam" if "textbox_answer_analysis" in row else "human value"
    return Conversation(_pair(question, answer), task)


def _coig_rounds(row: Mapping[str, Any]) -> Conversation:
    """COIG's counterfactual dialogues: each round's `response` is JSON text that holds Q and A."""
    turns: list[tuple[str, str]] = []
    for number in range(len(row)):
        response = (row.get(f"round_{number}") or {}).get("response", "")
        body = re.sub(r"\A\s*```(?:json)?\s*|\s*```\s*\Z", "", str(response))
        try:
            said = json.loads(body)
            turns += _pair(str(said["Q"]), str(said["A"]))
        except (json.JSONDecodeError, KeyError, TypeError):
            break  # what follows a broken round lost its context
    if not turns:
        raise WrongRow("no round holds readable JSON with `Q` and `A`")
    return Conversation(tuple(turns), "counterfactual correction")


def _firefly(row: Mapping[str, Any]) -> Conversation:
    return Conversation(
        _pair(_text(row, "input"), _text(row, "target")), _text(row, "kind") or None
    )


def _firefly_chat(row: Mapping[str, Any]) -> Conversation:
    turns: list[tuple[str, str]] = []
    for turn in _list(row, "conversation"):
        turns += [("user", _text(turn, "human")), ("assistant", _text(turn, "assistant"))]
    return Conversation(tuple(turns), _text(row, "category") or None)


def _list(row: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    value = row[name]
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise WrongRow(
                f"field `{name}` must be a list of turns, got {_shown(value)}"
            ) from error
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
        raise WrongRow(f"field `{name}` must be a list of turns, got {_shown(value)}")
    return value


def _content(turn: Mapping[str, Any]) -> str:
    for name in ("content", "value", "message"):
        if name in turn:
            value = turn[name]
            if isinstance(value, list):  # parts; OpenAI says `text`, LLaMA-Factory `value`
                return "".join(str(p.get("text") or p.get("value") or "") for p in value)
            return _text(turn, name)
    raise WrongRow(f"a turn has none of `content`, `value`, `message`: {_shown(dict(turn))}")


def _chat(row: Mapping[str, Any], name: str) -> Conversation:
    turns: list[tuple[str, str]] = []
    for number, turn in enumerate(_list(row, name)):
        role = str(
            turn.get("role") or turn.get("from") or ("user", "assistant")[number % 2]
        ).lower()
        if role in _USER:
            role = "user"
        elif role in _ASSISTANT:
            role = "assistant"
        elif role in _TOOL:
            role = "tool"
        elif role != "system":
            raise WrongRow(f"field `{name}`: unknown role `{role:.40}`")
        turns.append((role, _content(turn)))
    if turns[-1][0] == "user" and row.get("chosen"):
        chosen = row["chosen"]
        turns.append(("assistant", chosen if isinstance(chosen, str) else _content(_last(chosen))))
    return Conversation(tuple(turns), _text(row, "type") or None)


def _last(chosen: Any) -> Mapping[str, Any]:
    last = chosen[-1] if isinstance(chosen, list) and chosen else chosen
    if not isinstance(last, dict):
        raise WrongRow(f"field `chosen` must be text or a message, got {_shown(chosen)}")
    return last


def _parallel(row: Mapping[str, Any]) -> Conversation:
    """Chinese-Vicuna's chat rows: `input` holds the user's turns, `output` the answers."""
    asked, said = row["input"], row["output"]
    if not isinstance(said, list) or not 0 <= len(asked) - len(said) <= 1:
        raise WrongRow(
            f"fields `input` and `output` must be equally long lists, got {_shown(said)}"
        )
    pairs = zip_longest(asked, said, fillvalue="")
    turns = [turn for q, a in pairs for turn in _pair(str(q), str(a))]
    return Conversation(tuple(turns))


def _choice(row: Mapping[str, Any]) -> Conversation:
    question = _text(row, "Question") or _text(row, "question")
    options = "\n".join(f"{letter}. {_text(row, letter)}" for letter in "ABCD")
    answer = _text(row, "Answer") or _text(row, "answer")
    prompt = f"{question}\n{options}\n只回答选项的字母。"
    right = answer.strip().upper()
    return Conversation(
        _pair(prompt, answer), "multiple choice", choice=right if right in tuple("ABCD") else None
    )


def _query(row: Mapping[str, Any]) -> Conversation:
    query = next((name for name in _QUERY if row.get(name)), None)
    if query is None:
        raise WrongRow(f"no question field is filled; fields are {field_names(row)}")
    if isinstance(row[query], list):
        chat = _chat(row, query)
        response = next((name for name in _RESPONSE if row.get(name)), None)
        if response is None or chat.turns[-1][0] != "user":
            return chat
        said = row[response] if isinstance(row[response], str) else _content(_last(row[response]))
        return replace(chat, turns=(*chat.turns, ("assistant", said)))
    question = _text(row, query)
    if query == "ask" and _NO_INPUT.fullmatch(question.strip()):
        question = _text(row, "title")
    response = next((name for name in _RESPONSE if name != query and row.get(name)), None)
    answer = ""
    if response is not None:
        answer = row[response] if isinstance(row[response], str) else _content(_last(row[response]))
    system = _text(row, "system")
    turns = _history(row) + _pair(question, answer)
    task = _text(row, "task") or _text(row, "domain_zh") or _text(row, "department") or None
    return Conversation(((("system", system),) if system else ()) + turns, task)


_Shape = Callable[[Mapping[str, Any]], Conversation]


def _shape(row: Mapping[str, Any]) -> tuple[str, _Shape] | None:
    """The format a row's fields speak for and the function that reads them; most special first."""
    fields = row.keys()
    if "trans_instruction" in fields:
        return "coig", _coig_translated
    if "textbox_question" in fields or "textbox_q_instruction" in fields:
        return "coig", _coig_exam
    if "round_0" in fields:
        return "coig", _coig_rounds
    if "program_lang" in fields:
        return "coig", _alpaca
    if {"A", "B", "C", "D"} <= fields and fields & {"Question", "question"}:
        return "cmmlu", _choice
    if "std_answer" in fields:
        return "belle", _belle_eval
    if "instances" in fields:
        return "belle", _seed_task
    if {"kind", "input"} <= fields:
        return "firefly", _firefly
    if "conversation" in fields:
        turns = row["conversation"]
        if isinstance(turns, list) and turns and isinstance(turns[0], dict) and "human" in turns[0]:
            return "firefly", _firefly_chat
        return "messages", lambda row: _chat(row, "conversation")
    if "conversations" in fields:
        turns = row["conversations"]
        senders = (
            {str(t.get("from")) for t in turns if isinstance(t, dict)}
            if isinstance(turns, list)
            else set()
        )
        return "belle" if "assistant" in senders else "sharegpt", lambda row: _chat(
            row, "conversations"
        )
    if "messages" in fields:
        return "messages", lambda row: _chat(row, "messages")
    if isinstance(row.get("input"), list):
        return "messages", _parallel
    if "instruction" in fields:
        is_transcript = _TURN.match(str(row["instruction"])) is not None
        return "belle" if is_transcript else "alpaca", _alpaca
    if fields & set(_QUERY):
        return "messages", _query
    return None


def recognise(row: Mapping[str, Any]) -> str | None:
    """Return the name of the format a row's fields speak for, `None` where none fits."""
    shape = _shape(row)
    return None if shape is None else shape[0]


def read_conversation(row: Mapping[str, Any]) -> Conversation:
    """Return what a row says.

    Raises:
        WrongRow: its fields fit no known format, or a field is of the wrong type.
    """
    shape = _shape(row)
    if shape is None:
        raise WrongRow(
            f"fields {field_names(row)} fit no known format; known are {', '.join(FORMATS)}"
        )
    return shape[1](row)
