"""Does the answer do what the instruction said: counts, words, order, openings, language.

Does not see meaning: a sentence of the right length that says something false passes.
"""

import re

from guardrail.sets.item_checks import (
    Address,
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
    Title,
)
from guardrail.text import chinese_share, count_characters, plain_text, strip_fence

__all__ = [
    "InstructionCheck",
    "count_list_items",
    "count_paragraphs",
    "count_sentences",
    "instruction_check_passes",
]

InstructionCheck = (
    Address
    | Characters
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
    | Title
)

_NUMBERED = re.compile(
    r"^([^\S\n]*)(?:#{1,6}\s*)?(?:\*\*|__)?"  # a heading or bold item is an item
    r"(?:[(（]?\d{1,3}(?:[)）、]|[．.:：](?!\d))|[(（]?[一二三四五六七八九十]{1,3}[)）、.．]|[①-⑳⑴-⒛❶-❿➀-➓]"
    r"|步骤[一二三四五六七八九十\d]{1,3}[：:、.，, ]|\d\ufe0f?\u20e3|第[一二三四五六七八九十\d]{1,3}[步点条项]?[，,、：:])",
    re.MULTILINE,
)
_BULLETED = re.compile(
    r"^([^\S\n]*)(?:[•·●▪◦□☐○■◆◇▶►➤➢▸✓✔✅☑★☆※▫◼]\ufe0f?|[-*+–](?=\s)|[-–](?![-–\d\s])|\*(?![*\s]))[^\S\n]*\S",
    re.MULTILINE,
)
_LETTERED = re.compile(
    r"^([^\S\n]*)(?:\*\*)?(?:[(（][A-Ha-h甲乙丙丁戊己庚辛][)）]|[A-Ha-h甲乙丙丁戊己庚辛](?:[、)）]|[.．](?=\s)))[^\S\n]*\S",
    re.MULTILINE,
)
"""Letters and stems; one alone opens a sentence about 甲、乙两人."""
_NESTED = 2
"""Columns further in than the outermost item an item belongs to another."""
_CLOSERS = '”’」』）)"*'
_SENTENCE_END = re.compile(
    # The end of a quotation that 他说 follows ends nothing.
    rf"[。！？!?]+[{_CLOSERS}]*(?![。！？!?{_CLOSERS}])(?!(?<=[”」])[^。！？!?，,\n]{{0,8}}[说道问喊叫答笑嚷][^。！？!?，,：:“「\n]{{0,8}}[，。,])"
    # A full stop after a word, not after Mr. or an initial.
    rf"|(?<=[A-Za-z0-9\"”’)\]%])(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\bvs)(?<!\b[A-Z])"
    rf"\.[{_CLOSERS}]*(?=\Z|\s(?![a-z]))"
)
_INLINE_NUMBER = re.compile(r"(?<=[。！？；;])\s*\d{1,2}[.．、]\s*(?!\d)")
_HEADING = re.compile(r"^\s*(?:#{1,6}\s|\*\*[^*\n]+\*\*\s*$|[《【][^》】\n]*[》】]\s*$)")
_LABEL_CHARACTERS = 15
_QUOTED = re.compile(r"“[^”]{0,300}”|「[^」]{0,300}」|《[^》]{0,100}》")
_NO_PRONOUN = re.compile(
    r"迷你|[你您](?:死我活|来我往|追我赶|争我夺|一言我一语|一句我一句|情我愿|推我让|好我好|侬我侬)"
)
_LATIN = re.compile(r"[A-Za-z]")
_EDGE = " \t\r\n。．.！!？?，,、；;：:“”\"'‘’「」『』《》【】[]()（）*`$_"
_GLOSS = re.compile(r"[（(][^()（）\n]{0,20}[㐀-鿿][^()（）\n]{0,20}[)）]")
_MARKS = re.compile(r"[*`$\s]+|\\boxed|[{}]")


def count_list_items(text: str, style: str = "any") -> int:
    """Return the number of lines that open with a list marker of the style; items within items do not count."""
    numbered = [len(m[1].expandtabs(4)) for m in _NUMBERED.finditer(text)]
    lettered = [len(m[1].expandtabs(4)) for m in _LETTERED.finditer(text)]
    numbered += lettered if len(lettered) > 1 and not numbered else []
    bulleted = [len(m[1].expandtabs(4)) for m in _BULLETED.finditer(text)]
    outermost = min(numbered + bulleted, default=0)
    counted = {"numbered": numbered, "bulleted": bulleted}.get(style, numbered + bulleted)
    return sum(indent < outermost + _NESTED for indent in counted)


def count_sentences(text: str) -> int:
    """Return the number of sentences as a Chinese reader counts them.

    A sentence ends with 。！？ or at the end of its line; a line that ends in a comma, ； or ：runs on.
    List numbers end nothing. A heading counts nothing, nor does a short line without end punctuation
    (a title, a label, a signature) beside lines that have it, unless it is a list item.
    """
    raw = [line for line in text.splitlines() if line.strip()]
    lines = [plain_text(line).strip() for line in raw]
    ended = any(_SENTENCE_END.search(line) for line in lines)
    count, runs_on = 0, False
    for written, line in zip(raw, lines, strict=True):
        *whole, last = _SENTENCE_END.split(_INLINE_NUMBER.sub("", line))
        if ended and not whole and not runs_on and _HEADING.match(written):
            continue
        count += sum(_says(piece) for piece in whole)
        last = last.rstrip("*_`")
        if _says(last):
            alone = not (runs_on or whole)
            runs_on = last[-1] in "，,、；;：:"
            if not runs_on and not (alone and ended and not _counts_unended(written, last)):
                count += 1
        elif whole:
            runs_on = False
    return count + runs_on


def _says(piece: str) -> bool:
    return bool(piece.strip(_EDGE + "…—"))


def _counts_unended(written: str, line: str) -> bool:
    """Whether a line without end punctuation is a sentence where others have theirs."""
    trails_off = line.rstrip(_CLOSERS).endswith(("……", "..."))
    return trails_off or bool(
        count_list_items(written) or "，" in line or count_characters(line) > _LABEL_CHARACTERS
    )


def count_paragraphs(text: str) -> int:
    """Return the number of non-empty lines."""
    return sum(1 for line in text.splitlines() if line.strip())


def _within(count: int, check: Characters | ListItems | Paragraphs | Sentences) -> bool:
    low = check.at_least is None or count >= check.at_least
    return low and (check.at_most is None or count <= check.at_most)


def _has_title(check: Title, text: str) -> bool:
    """The first line is a heading, stands in 《》 or 【】, or is a short line above the text."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        return False
    title = plain_text(lines[0]).strip()
    title = title.removeprefix("标题：").removeprefix("题目：")
    size = count_characters(title.strip(_EDGE))
    if not size or (check.at_most is not None and size > check.at_most):
        return False
    return bool(_HEADING.match(lines[0])) or (size <= 25 and title[-1] not in "。，,；;：:、")


def _addresses(check: Address, text: str) -> bool:
    """The answer says 您 and never 你, or the other way round; quotations are somebody else's."""
    own = _NO_PRONOUN.sub("", _QUOTED.sub("", text))
    return {word for word in "您你" if word in own} == {check.is_}


def _members_named(options: tuple[str, ...], text: str) -> int:
    """How many different options occur, the longest first: 番石榴 names no 石榴."""
    longest_first = "|".join(re.escape(o) for o in sorted(options, key=len, reverse=True))
    return len(set(re.findall(longest_first, text)))


def _holds_word(text: str, word: str) -> bool:
    """Whether a word stands in a text: a Latin word not inside another (AI not in Gmail), a letter anywhere."""
    if len(word) == 1 or not (word.isascii() and word.isalpha()):
        return word in text
    return re.search(rf"(?<![a-z]){word}(?![a-z])", text) is not None


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
                and not any(_holds_word(folded, word.casefold()) for word in check.none)
            )
        case InOrder():
            return _in_order(text, check.parts)
        case Members():
            return _members_named(check.options, text) == check.count
        case StartsWith():
            # Emphasis and an opening quotation mark are not part of what it says.
            bare = text.lstrip(_EDGE + "#>")
            return text.lstrip().startswith(check.any) or bare.startswith(check.any)
        case EndsWith():
            # Emphasis, formula marks and spaces inside the ending are not part of what it says.
            plain = _MARKS.sub("", text)
            endings = tuple(_MARKS.sub("", ending) for ending in check.any)
            return plain.endswith(endings) or plain.rstrip(_EDGE).endswith(endings)
        case OneOf():
            bare = strip_fence(text)[0].replace("\\boxed{", "").strip(_EDGE + "{}")
            return bare in {option.strip(_EDGE) for option in check.options}
        case Title():
            return _has_title(check, text)
        case Address():
            return _addresses(check, text)
        case Language():
            # A gloss in brackets is no Chinese: zongzi (粽子).
            share = chinese_share(_GLOSS.sub("", text) if check.is_ == "en" else text)
            return (
                share >= 0.5
                if check.is_ == "zh"
                else share <= 0.1 and _LATIN.search(text) is not None
            )
