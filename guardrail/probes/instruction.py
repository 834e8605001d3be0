"""Does the answer do what the instruction said: counts, words, order, openings, language.

Does not see meaning: a sentence of the right length that says something false passes.
"""

import re

from guardrail.sets.checks import (
    Characters,
    Contains,
    EndsWith,
    InOrder,
    Language,
    ListItems,
    Members,
    OneOf,
    Paragraphs,
    Sentences,
    StartsWith,
)
from guardrail.text import chinese_share, count_characters, strip_fence

__all__ = [
    "InstructionCheck",
    "count_list_items",
    "count_paragraphs",
    "count_sentences",
    "instruction_check_passes",
]

InstructionCheck = (
    Characters
    | Contains
    | EndsWith
    | InOrder
    | Language
    | ListItems
    | Members
    | OneOf
    | Paragraphs
    | Sentences
    | StartsWith
)

_NUMBERED = re.compile(
    r"^\s*(?:#{1,6}\s*)?(?:\*\*|__)?"  # a heading or bold item is an item
    r"(?:[(（]?\d{1,3}(?:[)）、]|[．.:：](?!\d))|[(（]?[一二三四五六七八九十]{1,3}[)）、.．]|[①-⑳]"
    r"|\d\ufe0f?\u20e3|第[一二三四五六七八九十\d]{1,3}[步点条项]?[，,、：:])",
    re.MULTILINE,
)
_BULLETED = re.compile(
    r"^\s*(?:[•·●▪◦□☐○]|[-*+–](?=\s)|[-–](?![-–\d\s])|\*(?![*\s]))\s*\S", re.MULTILINE
)
_SENTENCE_END = re.compile(r"[。！？!?]+[”’」』）)]*|(?<=[A-Za-z0-9\"”])\.(?=\s|\Z)")
_LATIN = re.compile(r"[A-Za-z]")
_EDGE = " \t\r\n。．.！!？?，,、；;：:“”\"'‘’「」『』《》【】[]()（）*`$_"
_MARKS = re.compile(r"[*`$\s]+|\\boxed|[{}]")


def count_list_items(text: str, style: str = "any") -> int:
    """Return the number of lines that open with a list marker of the style."""
    numbered = len(_NUMBERED.findall(text)) if style != "bulleted" else 0
    bulleted = len(_BULLETED.findall(text)) if style != "numbered" else 0
    return numbered + bulleted


def count_sentences(text: str) -> int:
    """Return the number of sentences; a last piece without end punctuation counts as one."""
    pieces = _SENTENCE_END.split(text)
    return sum(1 for piece in pieces if piece.strip(_EDGE + "…—"))


def count_paragraphs(text: str) -> int:
    """Return the number of non-empty lines."""
    return sum(1 for line in text.splitlines() if line.strip())


def _within(count: int, check: Characters | ListItems | Paragraphs | Sentences) -> bool:
    low = check.at_least is None or count >= check.at_least
    return low and (check.at_most is None or count <= check.at_most)


def _in_order(text: str, parts: tuple[str, ...]) -> bool:
    position = 0
    for part in parts:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return True


def instruction_check_passes(check: InstructionCheck, text: str) -> bool:
    """Return whether the visible answer text satisfies one instruction check."""
    match check:
        case Characters():
            return _within(count_characters(text), check)
        case Sentences():
            return _within(count_sentences(text), check)
        case Paragraphs():
            return _within(count_paragraphs(text), check)
        case ListItems():
            return _within(count_list_items(text, check.style), check)
        case Contains():
            folded = text.casefold()
            return (
                all(word.casefold() in folded for word in check.all)
                and (not check.any or any(word.casefold() in folded for word in check.any))
                and not any(word.casefold() in folded for word in check.none)
            )
        case InOrder():
            return _in_order(text, check.parts)
        case Members():
            return sum(option in text for option in check.options) == check.count
        case StartsWith():
            return text.lstrip().startswith(check.any)
        case EndsWith():
            # Emphasis, formula marks and spaces inside the ending are not part of what it says.
            plain = _MARKS.sub("", text)
            endings = tuple(_MARKS.sub("", ending) for ending in check.any)
            return plain.endswith(endings) or plain.rstrip(_EDGE).endswith(endings)
        case OneOf():
            bare = strip_fence(text)[0].replace("\\boxed{", "").strip(_EDGE + "{}")
            return bare in {option.strip(_EDGE) for option in check.options}
        case Language():
            share = chinese_share(text)
            return (
                share >= 0.5
                if check.is_ == "zh"
                else share <= 0.1 and _LATIN.search(text) is not None
            )
