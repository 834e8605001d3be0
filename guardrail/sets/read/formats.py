"""Raw rows → conversations: a row's shape is told from its fields, and what goes with its question is read with it.

A format is where a file comes from, and decides what is taken from it. Field names were read off the published files or,
where only the readers of others were at hand (COIG, the 1.1 M Firefly rows), off those; docs/sets.md lists them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from guardrail.sets.read.chat_shapes import (
    ANSWERS,
    HISTORIES,
    QUESTIONS,
    THINKING,
    chat,
    history_of,
    moss_chat,
    parallel,
    tree,
    turns_of,
)
from guardrail.sets.read.choice_shapes import OPTIONS, choice, has_options
from guardrail.sets.read.conversation import (
    MEDIA,
    ORDER,
    TOOLS,
    Conversation,
    Turns,
    WrongRow,
    decoded,
    field_names,
    filled,
    first_filled,
    in_order,
    label,
    text,
)
from guardrail.sets.read.question_shapes import (
    CONTEXTS,
    belle_evaluation,
    coig_exam,
    coig_rounds,
    coig_translated,
    question,
    seed_task,
)
from guardrail.sets.read.row_names import with_known_names
from guardrail.sets.read.transcripts import transcript, unmarked

__all__ = [
    "CHATS",
    "FORMATS",
    "MEDIA_FIELDS",
    "SPOKEN",
    "STANDS_BEFORE",
    "Format",
    "read_conversation",
    "recognise",
    "single_rows",
]


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
    least_turns: int = 1
    """Exchanges a dialogue must have to be taken."""


FORMATS: Mapping[str, Format] = {
    "belle": Format("LicenseRef-BELLE-research", limit=2000),
    "coig": Format("LicenseRef-COIG", per_task=48),
    "firefly": Format("LicenseRef-Firefly-unlicensed", limit=2000, rehearsal_only=True),
    "sharegpt": Format("LicenseRef-ShareGPT-research", limit=2000, least_turns=2),
    "cmmlu": Format("CC-BY-NC-SA-4.0", evaluate_only=True),
    "choice": Format("LicenseRef-own", evaluate_only=True),
    "alpaca": Format("LicenseRef-Alpaca-NC", limit=2000, rehearsal_only=True),
    "messages": Format("LicenseRef-own"),
}

_SYSTEM = ("system", "system_prompt", "system_message", "meta_instruction", "系统提示")
_TOOL_FIELDS = ("tools", "functions", "tool_calls", "function_call")
MEDIA_FIELDS = (
    "images", "image", "image_path", "image_url", "img", "pictures", "audios", "audio", "audio_path", "videos", "video", "video_path",
)  # fmt: skip
_MEDIA_TAG = re.compile(r"^\s*<(?:image|audio|video)>|<(?:image|audio|video)>\s*$", re.MULTILINE)
"""Where a picture stands in a turn; in the middle of a line it is HTML."""
_MEDIA_PARTS = ("image", "image_url", "input_image", "audio", "audio_url", "input_audio", "video", "video_url")  # fmt: skip
CHATS = ("messages", "conversations", "conversation", "chat_rounds")
_DIALOGUES = ("dialog", "dialogue")
"""A chat where it is a list and nothing is asked about it."""
_TRANSCRIPTS = ("chat", "plain_text", "text", "sample")
"""Fields that may hold a whole dialogue as one text."""
STANDS_BEFORE = frozenset((*_SYSTEM, *HISTORIES))
"""Fields of what stands before a row's own turns."""
SPOKEN = STANDS_BEFORE.union(
    CHATS, _DIALOGUES, QUESTIONS, ANSWERS, CONTEXTS, OPTIONS, THINKING, _TRANSCRIPTS
)
"""Fields that are read into a row's turns."""
_LISTED_TOOLS = re.compile(r"<tools>|\"parameters\"\s*:\s*\{")
"""How a system turn lists what may be called (Hermes, Glaive)."""
_SEVERAL = ("data", "paragraphs", "qas", "questions", "example")
"""Fields that hold rows: the levels of SQuAD and CMRC, the questions of an exam."""

_Shape = Callable[[Mapping[str, Any]], Conversation]


def _talk(read: Callable[[Mapping[str, Any]], Turns], *labels: str) -> _Shape:
    return lambda row: Conversation(read(row), label(row, *labels))


def _chat(name: str) -> _Shape:
    return _talk(lambda row: chat(row, name), "type", "category", "task")


def _shape(row: Mapping[str, Any]) -> tuple[str, _Shape] | None:
    """The format a row's fields speak for and the function that reads them; most special first."""
    fields = row.keys()
    if "trans_instruction" in fields:
        return "coig", coig_translated
    if "textbox_question" in fields or "textbox_q_instruction" in fields:
        return "coig", coig_exam
    if "round_0" in fields:
        return "coig", coig_rounds
    if "program_lang" in fields:
        return "coig", question
    if "std_answer" in fields:
        return "belle", belle_evaluation
    if "instances" in fields:
        return "belle", seed_task
    if "message_tree_id" in fields and isinstance(row.get("prompt"), dict):
        return "messages", _talk(tree)
    if isinstance(decoded(row.get("chat")), dict):
        return "messages", _talk(moss_chat, "category")
    asks = first_filled(row, QUESTIONS) is not None
    name = first_filled(row, CHATS) or ("" if asks else first_filled(row, _DIALOGUES))
    if name:
        # A preference row in ShareGPT's form is none of its dialogues.
        whose = "messages" if "chosen" in fields else _whose(decoded(row[name]))
        return whose, _chat(name)
    if isinstance(row.get("data"), list) and not asks:
        return "messages", _talk(lambda row: turns_of(row["data"], "data"))
    if has_options(row):
        return "cmmlu" if {"a", "b", "c", "d"} <= fields else "choice", choice
    if {"kind", "input"} <= fields:
        return "firefly", question
    if isinstance(row.get("input"), list) and isinstance(row.get("output"), list | None):
        return "messages", _talk(parallel)
    if "instruction" in fields:
        is_transcript = transcript(str(row["instruction"])) is not None
        return "belle" if is_transcript else "alpaca", question
    if fields & set(QUESTIONS):
        return "messages", question
    name = next((n for n in _TRANSCRIPTS if isinstance(row.get(n), str) and transcript(row[n])), "")
    if name:
        return "messages", _talk(lambda row: turns_of(row[name], name))
    if filled(row.get("chosen")):  # HH-RLHF: the dialogue stands in it, as a transcript
        return "messages", _talk(lambda row: turns_of(row["chosen"], "chosen"))
    empty = next((name for name in CHATS if name in fields), None)
    return None if empty is None else ("messages", _chat(empty))


def _whose(turns: Any) -> str:
    """The format that the turns of a chat speak for."""
    known = [turn for turn in turns if isinstance(turn, dict)] if isinstance(turns, list) else []
    if any("human" in turn for turn in known[:1]):
        return "firefly"
    senders = {str(turn["from"]) for turn in known if "from" in turn}
    if "assistant" in senders:
        return "belle"
    return "sharegpt" if senders else "messages"


def recognise(row: Mapping[str, Any]) -> str | None:
    """Return the name of the format a row's fields speak for, `None` where none fits."""
    shape = _shape(with_known_names(row))
    return None if shape is None else shape[0]


def single_rows(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the row, or, where it holds several (SQuAD, CMRC: questions about one text), one for each, with what is around them."""
    name = next((name for name in _SEVERAL if _holds_rows(row.get(name))), None)
    if name is None or first_filled(row, QUESTIONS) is not None:
        yield row
        return
    around = {field: value for field, value in row.items() if field != name}
    for one in row[name]:
        yield from single_rows({**around, **one})


def _holds_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def read_conversation(row: Mapping[str, Any]) -> Conversation:
    """Return what a row says, with what goes with it: history, system, and why its turns are not all of it.

    Raises:
        WrongRow: its fields fit no known format, or a field is of the wrong type.
    """
    row = with_known_names(row)
    shape = _shape(row)
    if shape is None:
        raise WrongRow(
            f"fields {field_names(row)} fit no known format; known are {', '.join(FORMATS)}"
        )
    said = shape[1](row)
    turns = history_of(row) + said.turns
    system = next((name for name in _SYSTEM if isinstance(row.get(name), str)), None)
    if system and text(row, system).strip() and all(role != "system" for role, _ in turns):
        turns = (("system", unmarked(text(row, system))), *turns)
    return replace(said, turns=turns, lost=_lost(row, turns), annotations=_annotations(row))


def _lost(row: Mapping[str, Any], turns: Turns) -> str | None:
    if any(filled(row.get(name)) and row[name] not in (False, 0) for name in MEDIA_FIELDS):
        return MEDIA
    if any(role == "user" and "<" in said and _MEDIA_TAG.search(said) for role, said in turns):
        return MEDIA
    if any(_has_media_parts(row.get(name)) for name in (*CHATS, "prompt")):
        return MEDIA
    listed = any(role == "system" and _LISTED_TOOLS.search(said) for role, said in turns)
    if listed or any(role == "tool" for role, _ in turns):
        return TOOLS
    if any(filled(decoded(row.get(name))) for name in _TOOL_FIELDS):
        return TOOLS
    return None if in_order(turns) else ORDER


def _has_media_parts(turns: Any) -> bool:
    if not isinstance(turns, list):
        return False
    contents = [turn.get("content") for turn in turns if isinstance(turn, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(isinstance(part, dict) and part.get("type") in _MEDIA_PARTS for part in parts)


def _annotations(row: Mapping[str, Any]) -> dict[str, float] | None:
    given = decoded(row.get("annotation_metrics"))
    if not isinstance(given, dict):
        return None
    return {
        str(name)[:80]: value
        for name, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and filled(value)
    } or None
