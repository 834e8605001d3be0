"""Raw model output → the part a reader sees: thinking blocks off, code fences found, characters counted."""

import re
from dataclasses import dataclass

__all__ = ["Answer", "count_characters", "parse_answer", "strip_fence"]

_THINK_CLOSED = re.compile(r"\A\s*<think>(.*?)</think>\s*", re.DOTALL)
_THINK_OPEN = re.compile(r"\A\s*<think>(.*)\Z", re.DOTALL)
_THINK_TAIL = re.compile(r"\A(.*?)</think>\s*", re.DOTALL)
_FENCE = re.compile(r"\A[\s\ufeff]*(```|~~~)[^\n`]*\n(.*?)\n?\1\s*\Z", re.DOTALL)
_UNIT = re.compile(r"[A-Za-z0-9]+(?:[.,'’%-]?[A-Za-z0-9]+)*%?|\S")


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is what the reader sees, `thinking` what stood in a think block, `""` if none."""

    text: str
    thinking: str = ""


def parse_answer(raw: str) -> Answer:
    """Split a raw completion into thinking and visible text.

    An unclosed block is all thinking and leaves the text empty. A block whose opening tag stood in
    the prompt is recognised by its closing tag alone. Does not see thinking written in other tags.
    """
    if match := _THINK_CLOSED.match(raw):
        return Answer(raw[match.end() :].strip(), match.group(1).strip())
    if match := _THINK_OPEN.match(raw):
        return Answer("", match.group(1).strip())
    if match := _THINK_TAIL.match(raw):
        return Answer(raw[match.end() :].strip(), match.group(1).strip())
    return Answer(raw.strip())


def strip_fence(text: str) -> tuple[str, bool]:
    """Return the text inside a ``` fence that surrounds the whole answer, and whether there was one."""
    match = _FENCE.match(text)
    return (match.group(2), True) if match else (text, False)


def count_characters(text: str) -> int:
    """Return 字数 as a Chinese word processor counts it.

    Han characters and punctuation marks count one each; a Latin word or a number counts one;
    white space counts nothing.
    """
    return len(_UNIT.findall(text))
