"""Raw text → its parts: thinking blocks, code fences, characters, scripts."""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from opencc import OpenCC

__all__ = [
    "Answer",
    "chinese_share",
    "count_characters",
    "count_traditional",
    "parse_answer",
    "plain_text",
    "simplified",
    "strip_fence",
]

_THINK_CLOSED = re.compile(r"\A\s*<think>(.*?)</think>\s*", re.DOTALL)
_THINK_OPEN = re.compile(r"\A\s*<think>(.*)\Z", re.DOTALL)
_THINK_TAIL = re.compile(r"\A(.*?)</think>\s*", re.DOTALL)
_FENCE = re.compile(r"\A[\s\ufeff]*(```|~~~)[^\n`]*\n(.*?)\n?\1\s*\Z", re.DOTALL)
_HAN = re.compile(r"[㐀-䶿一-鿿]+")
_LATIN = re.compile(r"[A-Za-z]+")
_OTHER_LETTER = re.compile(r"[^\W\d_A-Za-z㐀-䶿一-鿿]+")
_FENCE_LINE = re.compile(r"^[ \t]*(?:```|~~~)[^\n`]*$", re.MULTILINE)
_EMPHASIS = re.compile(
    r"(?<![A-Za-z0-9])\*{2,3}|\*{2,3}(?![A-Za-z0-9])|(?<![\w`])__|__(?![\w`])|`"
    # A single star: beside a word and not a multiplication sign.
    r"|(?<![\w*])\*(?=[^\W\d])|(?<=[^\W\d])\*(?![\w*])"
)
_LINE_MARKS = re.compile(
    r"^[ \t\u3000]*(?:>[ \t]?)*[ \t]*(?:#{1,6}[ \t]+)?(?:"
    r"[(（]\d{1,3}[)）]|\d{1,3}(?:[)）、]|[．.](?!\d))|[(（][一二三四五六七八九十]{1,3}[)）]|[一二三四五六七八九十]{1,3}[、.．]"
    r"|[①-⑳⑴-⒛❶-❿➀-➓]|\d\ufe0f?\u20e3|[•·●▪◦□☐○■◆◇▶►➤➢▸▫◼](?=\s?\S)|[-*+–](?=[ \t])|[-–](?![-–\d\s]))?[ \t]*",
    re.MULTILINE,
)
# An emoji with its skin tone, its joined parts or its selector, and a flag of two letters, is one to the reader.
_EMOJI = r"[\U0001f1e6-\U0001f1ff]{2}|[\u2600-\u27bf\u2b50\U0001f300-\U0001faff][\ufe0f\U0001f3fb-\U0001f3ff]*(?:\u200d[\u2600-\u27bf\U0001f300-\U0001faff][\ufe0f\U0001f3fb-\U0001f3ff]*)*"
_UNIT = re.compile(rf"{_EMOJI}|[A-Za-z0-9]+(?:[.,'’%-]?[A-Za-z0-9]+)*%?|\S")


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
    if "think>" not in raw:
        return Answer(raw.strip())
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


@lru_cache(maxsize=8)  # several probes ask for the same answer's
def plain_text(text: str) -> str:
    """Return what a reader sees of a Markdown text: its marks, list numbers and bullets off.

    Heading marks, emphasis, quote bars, code fences, rules and table borders go too; the lines stay.
    Does not see link targets, HTML or formulas: they stay as written.
    """
    if "```" in text or "~~~" in text:
        text = _FENCE_LINE.sub("", text)
    text = "\n".join(map(_without_borders, text.split("\n")))
    return _LINE_MARKS.sub("", _EMPHASIS.sub("", text))


def _without_borders(line: str) -> str:
    """A line of a Markdown text without the bars of a table; a rule becomes an empty line."""
    bars = "|-", "| -", "|:", "| :", "---", "***", "___"
    if not line.strip(" \t|:*_-") and any(mark in line for mark in bars):
        return ""
    return line.replace("|", " ") if line.count("|") > 1 else line


@lru_cache(maxsize=8)
def count_characters(text: str) -> int:
    """Return 字数 as a Chinese reader counts it.

    Han characters and punctuation marks count one each; a Latin word or a number counts one;
    white space, Markdown marks, list numbers and bullets count nothing.
    """
    return len(_UNIT.findall(plain_text(text)))


def chinese_share(text: str) -> float:
    """Return how much of a text is Chinese, 0 to 1; 0.0 for a text without letters.

    Han characters against all letters. A Latin letter counts 1/4.5, since a word of four or five letters
    says about as much as one Han character; letters of other scripts count one.
    """
    han, latin = _letters(_HAN, text), _letters(_LATIN, text)
    others = 0 if text.isascii() else _letters(_OTHER_LETTER, text)
    weight = han + latin / 4.5 + others
    return han / weight if weight else 0.0


def _letters(runs: re.Pattern[str], text: str) -> int:
    return sum(map(len, runs.findall(text)))


@cache
def _traditional() -> frozenset[str]:
    """The characters that only Traditional Chinese writes.

    OpenCC turns them into another character, and GB 2312, the Simplified character set, lacks them:
    the second test keeps 著, 乾, 瞭 and others that Simplified text uses too.
    """
    to_simplified = _to_simplified()
    return frozenset(
        character
        for character in map(chr, range(0x4E00, 0xA000))
        if to_simplified.convert(character) != character and not _in_gb2312(character)
    )


@cache
def _to_simplified() -> OpenCC:
    return OpenCC("t2s")


def simplified(text: str) -> str:
    """Return a text in Simplified characters; one that has none of Traditional Chinese alone comes back as it is.

    Characters alone: words that Taiwan and Hong Kong say otherwise (資訊 for 信息) stay.
    """
    return str(_to_simplified().convert(text)) if _traditional() & set(text) else text


def _in_gb2312(character: str) -> bool:
    try:
        character.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def count_traditional(text: str) -> int:
    """Return how many characters are written in Traditional Chinese only."""
    found = _traditional() & set(text)
    return sum(map(text.count, found))
