"""Rows that hold a question with options → their turns: options in a field, a field each, or inside of the question."""

import re
import string
from collections.abc import Mapping
from typing import Any

from guardrail.sets.read.chat_shapes import QUESTIONS, pair
from guardrail.sets.read.conversation import (
    Conversation,
    WrongRow,
    decoded,
    filled,
    first_filled,
    flat_text,
    shown,
    text,
)
from guardrail.sets.read.question_shapes import asked_text

__all__ = ["OPTIONS", "choice", "has_options"]

OPTIONS = ("options", "choices", "choice", "endings")
_RIGHT = ("answer", "answerkey", "answer_idx", "label", "correct_answer", "correct", "gold", "output", "response")  # fmt: skip
_ONLY_THE_LETTER = "只回答选项的字母。"
_LETTERS = string.ascii_letters + ",，、 "
_LETTER = re.compile(r"\s*[(（]?([A-Za-z])[)）.．、:：]?\s*")
_INLINE = re.compile(r"(?<![A-Za-z])([A-H])\s*[.．、](?!\d)")
_MARK = re.compile(r"\s*(?:[(（][A-Z][)）]|[A-Z][.．、:：)）])\s*")


def has_options(row: Mapping[str, Any]) -> bool:
    """Return whether a question comes with options to choose from."""
    letters = all(letter in row for letter in "abcd")
    return first_filled(row, QUESTIONS) is not None and (
        letters or _option_field(row) is not None or _inline_letter(row) is not None
    )


def _option_field(row: Mapping[str, Any]) -> str | None:
    """The field with the options; a `choice` in text is one that somebody made."""
    names = [name for name in OPTIONS if name != "choice" or not isinstance(row.get(name), str)]
    return first_filled(row, names)


def _inline_letter(row: Mapping[str, Any]) -> str | None:
    """The right letter of a question that holds its options itself (GAOKAO-Bench), None where it does not."""
    asked, answer = row.get("question"), decoded(row.get("answer"))
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(asked, str) or not isinstance(answer, str) or "instruction" in row:
        return None
    found = _LETTER.fullmatch(answer)
    marked = {mark[1] for mark in _INLINE.finditer(asked)}
    return found[1].upper() if found and {"A", "B", found[1].upper()} <= marked else None


def _option(option: Any) -> str:
    """One option without the letter that it begins with, or that stands beside it."""
    while isinstance(option, list) and len(option) == 1:
        option = option[0]
    if isinstance(option, Mapping):
        name = first_filled(option, ("content", "text", "value"))
        option = option if name is None else option[name]
    said = (
        flat_text(option) if filled(option) and not isinstance(option, int | float) else str(option)
    )
    return _MARK.sub("", said, count=1)


def _options(row: Mapping[str, Any]) -> list[str]:
    """The options, the letters off that they begin with."""
    name = _option_field(row)
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
    return [_option(option) for option in given]


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
    inline = _inline_letter(row) if _option_field(row) is None else None
    if inline is not None:
        prompt = f"{asked_text(row, asked)}\n{_ONLY_THE_LETTER}"
        return Conversation(pair(prompt, inline), "multiple choice", choice=inline)
    options = _options(row)
    lines = [f"{x}. {o}" for x, o in zip(string.ascii_uppercase, options, strict=False)]
    answer, letter = _right(row, options)
    if not answer.strip(_LETTERS):  # else it is told in words
        lines.append(_ONLY_THE_LETTER)
    prompt = "\n".join([asked_text(row, asked), *lines])
    return Conversation(pair(prompt, answer), "multiple choice", choice=letter)
