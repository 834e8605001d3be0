"""Dialogues that are written as one text → their turns, told by the marks that speakers have there."""

import re

from guardrail.sets.read.conversation import Turns

__all__ = ["transcript", "unmarked"]

_LINES = (
    re.compile(r"^(Human|Assistant)[:：]", re.MULTILINE),
    re.compile(r"^(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE)[:：]", re.MULTILINE),
)
"""Marks that are words as well, so that they count at the start of a line: BELLE and HH-RLHF, Glaive."""
_SIGNS = (
    re.compile(r"\[\|(Human|AI)\|\]"),
    re.compile(r"\[(Human|MOSS)\][:：]"),
    re.compile(r"<(human|bot)>[:：]"),
    re.compile(r"###\s?(Human|Assistant)[:：]"),
)
"""Marks that nobody writes else, wherever they stand: Baize, MOSS-002, OIG, OpenAssistant-Guanaco."""
_ROLES = {
    "human": "user", "user": "user", "assistant": "assistant", "ai": "assistant", "moss": "assistant", "bot": "assistant",
    "system": "system", "function response": "tool",
}  # fmt: skip
_OPENING = re.compile(r"\A\s*(?:<\|[^|>]{1,40}\|>:?|SYSTEM:)\s*")
_END = re.compile(r"\s*(?:<eo[a-z]{1,2}>|<\|endoftext\|>)\s*\Z")
_CALL = "<functioncall>"


def unmarked(said: str) -> str:
    """Return what a turn says, without its speaker and its end mark."""
    return _END.sub("", _OPENING.sub("", said))


def transcript(said: str, answer: str = "") -> Turns | None:
    """Return the turns of a transcript, None where the text is none.

    Args:
        said: The text. It begins with a mark of the user's (or the system's); before marks that nobody writes else,
            what the dialogue is may be said.
        answer: What follows where its last turn is an empty one of the assistant's.
    """
    said = said.strip()
    marks = _marks(said)
    if not marks:
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(said)]
    turns = [
        _turn(_ROLES[mark[1].lower()], said[mark.end() : end])
        for mark, end in zip(marks, ends, strict=True)
    ]
    if turns[-1] == ("assistant", ""):
        turns[-1] = ("assistant", answer.strip())
    elif turns[-1][0] == "user" and answer.strip():
        turns.append(("assistant", answer.strip()))
    return tuple(turn for turn in turns if turn[1])


def _marks(said: str) -> list[re.Match[str]]:
    for pattern in (*_LINES, *_SIGNS):
        marks = list(pattern.finditer(said))
        roles = [_ROLES[mark[1].lower()] for mark in marks]
        if roles[:1] in (["user"], ["system"]) and (
            marks[0].start() == 0 or (pattern in _SIGNS and "assistant" in roles)
        ):
            return marks
    return []


def _turn(role: str, said: str) -> tuple[str, str]:
    said = _END.sub("", said).strip()
    return ("tool" if role == "assistant" and _CALL in said else role, said)
