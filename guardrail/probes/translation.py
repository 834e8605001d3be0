"""Is an answer a translation of what it was asked to translate, whole and into the right language.

How good a translation is stays with the similarity to the gold. Does not see a wrong meaning that keeps the
language, length and names of the right one, nor a missing sentence in a long text; a gold that is
itself no translation misleads it. Traditional characters are the language probe's business.
"""

import re
from collections import Counter

from guardrail.probes.refusal import is_refusal
from guardrail.probes.request import read_request
from guardrail.text import plain_text

__all__ = ["TRANSLATION_FAULTS", "translation_faults"]

TRANSLATION_FAULTS = (
    "copied source",
    "wrong direction",
    "partly untranslated",
    "not a translation",
)
"""Every fault; one answer has at most one, the first that applies."""

_READ_CHARACTERS = 20_000
_HAN = re.compile(r"[㐀-鿿]")
_HAN_RUN = re.compile(r"[㐀-鿿]+(?:[，、。：；！？“”《》]?[㐀-鿿]+)*")
_WORD = re.compile(r"[A-Za-zÀ-ɏ]+(?:['’][A-Za-z]+)?")
_ASIDE = re.compile(
    r"（[^（）\n]{0,300}）|\([^()\n]{0,300}\)|\[[^\[\]\n]{0,200}\]|`[^`\n]*`"
    r"|^[ \t*>]*(?:注|说明|备注|解析|提示|Note)[^\n]{0,4}[：:].*$|^[ \t*]*(?:翻译|译文|Translation|以下是[^\n]{0,10}译文?)[：:*]*",
    re.MULTILINE,
)
_ENGLISH_WORDS = frozenset(
    [
        "the",
        "a",
        "an",
        "of",
        "to",
        "in",
        "and",
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "it",
        "its",
        "this",
        "that",
        "for",
        "on",
        "with",
        "as",
        "at",
        "by",
        "from",
        "or",
        "not",
        "you",
        "your",
        "i",
        "my",
        "we",
        "our",
        "he",
        "his",
        "she",
        "her",
        "they",
        "their",
        "them",
        "will",
        "would",
        "can",
        "could",
        "shall",
        "should",
        "must",
        "may",
        "have",
        "has",
        "had",
        "do",
        "does",
        "did",
        "if",
        "so",
        "but",
        "when",
        "while",
        "after",
        "before",
        "than",
        "there",
        "here",
        "no",
        "all",
        "one",
        "who",
        "which",
        "what",
        "how",
        "please",
        "let",
        "me",
        "us",
        "am",
        "into",
        "up",
        "out",
        "more",
        "only",
        "just",
        "until",
        "over",
        "about",
    ]
)
_OTHER_LETTERS = re.compile(r"[\u3041-\u30ff\uac00-\ud7a3\u0400-\u052f\u0600-\u06ff\u0e00-\u0e7f]")
_ACCENTED = re.compile(r"[À-ÖØ-öø-ɏ]")
_EXPLAINS = re.compile(
    r"(?:成语|谚语|俗语|句子|句话|词语?|短语)[^。\n]{0,12}(?:出自|意思是|比喻|表示|指的?是|讲的是|源于)|^(?:it|this|the (?:phrase|sentence|idiom|proverb)) (?:means|refers|is an? )",
    re.IGNORECASE,
)
_CHATS = re.compile(
    r"我来(?:帮|为|给)[你您]翻译|请(?:问|提供|告诉我)[^。\n]{0,12}(?:希望|需要|想)|谢谢[你您]的(?:提醒|告知)|^(?:好的|当然|没问题)[，,！!]我",
)
_QUESTION = re.compile(r"[^。！.!?？\n]+[?？]")
_LATIN_RUN = re.compile(r"[A-Za-z][A-Za-z'’ ,;-]+")
_LEAST_COPIED = 6
_LEAST_LEFT = 6
"""Han characters, or Latin words, in a row that were left as they were."""
_HAN_A_WORD, _LETTERS_A_HAN = 1.6, 2.5
"""How long a translation gets: Han characters for an English word, letters for a Han character."""
_SHARED_BY_QUESTIONS = 0.65
"""From here on a statement is the question put politely and not its answer."""
_LEAST_SOURCE = 24
"""Han characters below which a translation may well be much shorter than another."""


def translation_faults(question: str, text: str, gold: str) -> tuple[str, ...]:
    """Return the names of the faults of a translation, empty where there is none.

    Args:
        question: What was asked, all turns but the assistant's; it tells the direction and holds the source.
            One that asks for no translation has no fault here.
        text: The visible answer.
        gold: The gold base's visible answer; `""` where there is none.
    """
    request = read_request(question)
    if not request.translates or request.language == "other":
        return ()
    own = plain_text(_ASIDE.sub(" ", text[:_READ_CHARACTERS])).strip(" \n\"'“”")
    if not own:
        return ("not a translation",)
    into_chinese = request.language == "zh"
    fault = (
        _copied(question, own, into_chinese=into_chinese)
        or (_not_in_chinese(question, own) if into_chinese else _not_in_english(question, own))
        or _too_short(question, own, gold, into_chinese=into_chinese)
        or _something_else(question, own, gold, into_chinese=into_chinese)
    )
    return (fault,) if fault else ()


def _letters(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _copied(question: str, own: str, *, into_chinese: bool) -> str:
    """The whole answer stands in the question, and is in the language it comes from."""
    letters = _letters(own)
    from_chinese = len(_HAN.findall(own)) * 2 > len(letters)
    long = len(letters) >= _LEAST_COPIED and from_chinese != into_chinese
    return "copied source" if long and letters in _letters(question) else ""


def _not_in_chinese(question: str, own: str) -> str:
    han, words = len(_HAN.findall(own)), _WORD.findall(own)
    source = _letters(question)
    runs = [run for run in _LATIN_RUN.findall(own) if _letters(run) in source]
    left = max((sum(map(str.islower, _WORD.findall(run))) for run in runs), default=0)
    lower = sum(map(str.islower, words))
    if han >= _LEAST_LEFT and (left >= _LEAST_LEFT - 1 or 3 <= lower * 4 - han <= 3 * han):
        return "partly untranslated"
    others = len(_OTHER_LETTERS.findall(own))
    return "wrong direction" if han < max(1, lower) or others > han / 4 else ""


def _not_in_english(question: str, own: str) -> str:
    han, words = len(_HAN.findall(own)), _WORD.findall(own)
    if len(_OTHER_LETTERS.findall(own)) >= 4 or han > 2 * len(words):
        return "wrong direction"
    lower = [word for word in words if word.islower()]
    english = sum(word in _ENGLISH_WORDS for word in lower)
    if len(lower) >= 8 and english < len(lower) / 10:
        return "wrong direction"
    if len(_ACCENTED.findall(own)) > max(2, len(words) / 4):
        return "wrong direction"
    source = _letters(question)
    left = any(len(r) >= _LEAST_LEFT and _letters(r) in source for r in _HAN_RUN.findall(own))
    return "partly untranslated" if left or (han >= 4 and han * 3 > len(words)) else ""


def _too_short(question: str, own: str, gold: str, *, into_chinese: bool) -> str:
    """Far shorter than both the gold and the source let expect: sentences are missing."""
    size = len(_letters(own))
    expected = (
        _HAN_A_WORD * len(_WORD.findall(question))
        if into_chinese
        else _LETTERS_A_HAN * len(_HAN.findall(question))
    )
    if gold:
        expected = min(expected, len(_letters(plain_text(_ASIDE.sub(" ", gold)))))
    least = _LEAST_SOURCE * (1 if into_chinese else _LETTERS_A_HAN)
    return "partly untranslated" if expected >= least and size < 0.4 * expected else ""


def _something_else(question: str, own: str, gold: str, *, into_chinese: bool) -> str:
    """A refusal, an explanation, a chat, an answer to what was to be translated."""
    if is_refusal(own, question) or _EXPLAINS.search(own) or _CHATS.search(own):
        return "not a translation"
    if not gold:
        return ""
    shared = _shared(own, gold, into_chinese=into_chinese)
    asked = _QUESTION.fullmatch(gold.strip(" \n\"'“”*")) is not None
    answered = asked and shared < _SHARED_BY_QUESTIONS and not re.search("[?？]", own)
    long = len(gold) > (_LEAST_SOURCE if into_chinese else 6 * _LEAST_SOURCE)
    unlike = long and shared < 0.1
    return "not a translation" if answered or unlike else ""


def _shared(own: str, gold: str, *, into_chinese: bool) -> float:
    """F1 of the Han characters, or of the words that say something, with the gold's."""
    if into_chinese:
        one, other = Counter(_HAN.findall(own)), Counter(_HAN.findall(gold))
    else:
        one, other = (
            Counter(w[:5] for w in map(str.lower, _WORD.findall(t)) if w not in _ENGLISH_WORDS)
            for t in (own, gold)
        )
    both = sum((one & other).values())
    return 2 * both / max(1, one.total() + other.total())
