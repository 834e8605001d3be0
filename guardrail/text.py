"""Raw text → its parts: thinking blocks, code fences, characters, scripts."""

import re
from dataclasses import dataclass
from functools import cache

from opencc import OpenCC

__all__ = [
    "Answer",
    "chinese_share",
    "count_characters",
    "count_traditional",
    "parse_answer",
    "strip_fence",
]

_THINK_CLOSED = re.compile(r"\A\s*<think>(.*?)</think>\s*", re.DOTALL)
_THINK_OPEN = re.compile(r"\A\s*<think>(.*)\Z", re.DOTALL)
_THINK_TAIL = re.compile(r"\A(.*?)</think>\s*", re.DOTALL)
_FENCE = re.compile(r"\A[\s\ufeff]*(```|~~~)[^\n`]*\n(.*?)\n?\1\s*\Z", re.DOTALL)
_HAN = re.compile(r"[㐀-䶿一-鿿]")
_LATIN = re.compile(r"[A-Za-z]")
_OTHER_LETTER = re.compile(r"[^\W\d_A-Za-z㐀-䶿一-鿿]")
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


def chinese_share(text: str) -> float:
    """Return how much of a text is Chinese, 0 to 1; 0.0 for a text without letters.

    Han characters against all letters. A Latin letter counts 1/4.5, since a word of four or five letters
    says about as much as one Han character; letters of other scripts count one.
    """
    han, latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    others = 0 if text.isascii() else len(_OTHER_LETTER.findall(text))
    weight = han + latin / 4.5 + others
    return han / weight if weight else 0.0


@cache
def _traditional() -> frozenset[str]:
    """Characters that only Traditional Chinese writes.

    OpenCC turns them into another character, and GB 2312, the Simplified character set, lacks them:
    the second test keeps 著, 乾, 瞭 and others that Simplified text uses too.
    """
    to_simplified = OpenCC("t2s")
    return frozenset(
        character
        for character in map(chr, range(0x4E00, 0xA000))
        if to_simplified.convert(character) != character and not _in_gb2312(character)
    )


def _in_gb2312(character: str) -> bool:
    try:
        character.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def count_traditional(text: str) -> int:
    """Return how many characters are written in Traditional Chinese only."""
    traditional = _traditional()
    # Most texts hold none at all, and that is told ten times as fast.
    return 0 if traditional.isdisjoint(text) else sum(c in traditional for c in text)
