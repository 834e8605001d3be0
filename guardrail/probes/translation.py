"""Is an answer a translation of what it was asked to translate, whole and into the right language.

How good a translation is stays with the similarity to the gold. Does not see a wrong meaning that keeps the
language, length and names of the right one, nor a missing sentence in a long text; a gold that is
itself no translation misleads it. Traditional characters are the language probe's business.
"""

import re
from collections import Counter

from guardrail.probes.english_words import FUNCTION_WORDS
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
    r"|^[ \t*>]*(?:注|说明|备注|解析|提示|Note)[^\n]{0,4}[：:].*$|^[ \t*]*(?:翻译|译文|Translation|以下是[^\n]{0,10}译文?)[：:*]*"
    # 有两种译法供您参考：；直译：
    r"|^[^\n]{0,20}译[^\n]{0,12}[：:][ \t*]*$|^[ \t*>\d.-]*(?:直译|意译|版本[^\n：:]{0,3}|译法[^\n：:]{0,3})[：:*]+",
    re.MULTILINE,
)
_OTHER_LETTERS = re.compile(r"[\u3041-\u30ff\uac00-\ud7a3\u0400-\u052f\u0600-\u06ff\u0e00-\u0e7f]")
_ACCENTED = re.compile(r"[À-ÖØ-öø-ɏ]")
_TEXT_KIND = r"(?:sentence|phrase|idiom|proverb|saying|line|verse|poem|quote|notice|message|review|e-?mail|letter|story|text|passage|paragraph|dialogue)"
_SPEAKS_ABOUT_IT = re.compile(
    # Explains the source: 这个成语出自…；This is a notice about…
    r"(?:成语|谚语|俗语|句子|句话|段话|词语?|短语)[^。\n]{0,12}(?:出自|意思是|比喻|表示|指的?是|讲的是|说的是|源于)"
    rf"|^(?:it|this|these|the {_TEXT_KIND}) (?:means?|refers?|talks?|says|comes from)\b"
    rf"|^(?:this is |it is |it's )?(?:an? |the )(?:[\w-]+ ){{0,3}}{_TEXT_KIND}s? (?:about|from|of|left|written|that)\b"
    rf"|^(?:this|it) is an? (?:[\w-]+ ){{0,4}}{_TEXT_KIND}\b"
    rf"|^what an? [^.!\n]{{0,40}}{_TEXT_KIND}"
    # Chats with who asked: 我来帮您翻译；What text would you like me to translate?
    r"|我来(?:帮|为|给)[你您]翻译|请(?:问|提供|告诉我)[^。\n]{0,12}(?:希望|需要|想)|谢谢[你您]的(?:提醒|告知)|^(?:好的|当然|没问题)[，,！!]我"
    r"|(?:happy|glad|here) to (?:help|assist)|would you like me to|thank you for (?:reaching|contacting|letting|the reminder|sharing)"
    r"|^(?:sure|certainly|of course|no problem|absolutely)[,!]"
    r"|^i (?:agree|understand|would (?:recommend|suggest)|recommend|suggest)\b|^(?:congratulations|sorry to hear|i['’]m sorry to hear)"
    r"|(?:^|\n)答[：:]|\d\s*[=＝]\s*\d"
    r"|^here (?:are|is)\b(?! (?:the|a|my|your) (?:\w+ )?(?:translation|version))",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"^[ \t>*#\d.、-]*[（(【]?[㐀-鿿\d/、 ]{1,10}[）)】]?[*]*[：:][ *]*(?=[\"“'A-Z])"
)
_REMARK = re.compile(
    r"[：:][ *]*$|翻译|译[为成文法]|直译|意译|版本|说法|表达|可以说|更(?:正式|口语|地道|自然)|注[：:]|语气|句型|意思"
)
"""A line of Chinese that speaks about the translation."""
_QUESTION = re.compile(r"[^。！.!?？\n]+[?？]")
_SENTENCE = re.compile(r"[^。！.!?？\n]+")
_LATIN_RUN = re.compile(r"[A-Za-z][A-Za-z'’ ,;-]+")
_LEAST_COPIED = 6
_LEAST_LEFT = 6
"""Han characters, or Latin words, in a row that were left as they were."""
_HAN_A_WORD, _LETTERS_A_HAN = 1.6, 2.5
"""How long a translation gets: Han characters for an English word, letters for a Han character."""
_ASKS_A_FAVOUR = re.compile(
    r"[能可][^。？?]{0,12}[吗？?]|(?:can|could|would|will) you", re.IGNORECASE
)
_SHARED_BY_FAVOURS, _SHARED_BY_QUESTIONS = 0.65, 0.8
"""From here on a statement is the favour asked politely (能把盐递给我吗：麻烦把盐递给我), the question
put as a statement, and not its answer."""
_SHARED_HAN, _SHARED_WORDS, _SHARED_IF_SHORT = 0.24, 0.11, 0.13
"""Two translations share more of their Han characters, or of the English words that say something, than this,
however free they are (F1); the last where one has not half the words of the other."""
_LEAST_HAN, _LEAST_WORDS, _LEAST_WORDS_SHORT = 6, 8, 6
"""How much the gold must say for that; a proverb or a greeting may share nothing."""
_LONGER, _OWN_HAN, _OWN_WORDS = 1.6, 0.28, 0.34
"""An answer so many times as long as the gold, of which less than this share stands in the gold, says
something else, or much besides."""
_LEAST_HAN_LONGER, _LEAST_WORDS_LONGER = 8, 3
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
    into_chinese = request.language == "zh"
    read = text[:_READ_CHARACTERS] if into_chinese else _without_remarks(text[:_READ_CHARACTERS])
    own = plain_text(_ASIDE.sub(" ", read)).strip(" \n\"'“”")
    if not own:
        return ("not a translation",)
    fault = (
        _copied(question, own, into_chinese=into_chinese)
        or (_not_in_chinese(question, own) if into_chinese else _not_in_english(question, own))
        or _too_short(question, own, gold, into_chinese=into_chinese)
        or _something_else(question, own, gold, into_chinese=into_chinese)
    )
    return (fault,) if fault else ()


def _without_remarks(text: str) -> str:
    """An English answer without what is said about it in Chinese: lead-ins, labels, notes."""
    lines = [_LABEL.sub("", line) for line in text.splitlines()]
    kept = [line for line in lines if not (_HAN.search(line) and _REMARK.search(line))]
    rest = "\n".join(kept)
    return rest if len(_WORD.findall(rest)) > 1 else text


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
    english = sum(word in FUNCTION_WORDS for word in lower)
    if len(lower) >= 8 and english < len(lower) / 10:
        return "wrong direction"
    if len(_ACCENTED.findall(own)) > max(2, len(words) / 4):
        return "wrong direction"
    source = _letters(question)
    left = any(len(r) >= _LEAST_LEFT and _letters(r) in source for r in _HAN_RUN.findall(own))
    return "partly untranslated" if left or (han >= 4 and han * 3 > len(words)) else ""


def _too_short(question: str, own: str, gold: str, *, into_chinese: bool) -> str:
    """Far shorter than both the gold and the source let expect: sentences are missing."""
    size = sum(map(len, {_letters(s) for s in _SENTENCE.findall(own)}))  # each sentence once
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
    asked = gold.strip(" \n\"'“”*")
    about = _SPEAKS_ABOUT_IT.search(own) and not _SPEAKS_ABOUT_IT.search(asked)
    if about or is_refusal(own, question, gold=gold):
        return "not a translation"
    if not gold:
        return ""
    one, other = _content(own, into_chinese=into_chinese), _content(gold, into_chinese=into_chinese)
    shared = _shared(one, other)
    if _QUESTION.fullmatch(asked) and not re.search("[?？]", own):
        favour = _ASKS_A_FAVOUR.search(asked)
        if shared < (_SHARED_BY_FAVOURS if favour else _SHARED_BY_QUESTIONS):
            return "not a translation"
    return "not a translation" if _unlike(one, other, into_chinese=into_chinese) else ""


def _unlike(own: Counter[str], gold: Counter[str], *, into_chinese: bool) -> bool:
    """Whether two texts share too little for both to translate the same source."""
    said, due, both = own.total(), gold.total(), (own & gold).total()
    shared = _shared(own, gold)
    longer = said >= _LONGER * due
    if into_chinese:
        if longer and due >= _LEAST_HAN_LONGER and both < _OWN_HAN * said:
            return True
        return due >= _LEAST_HAN and shared < _SHARED_HAN
    if longer and due >= _LEAST_WORDS_LONGER and both < _OWN_WORDS * said:
        return True
    if said < due / 2:
        return due >= _LEAST_WORDS_SHORT and shared < _SHARED_IF_SHORT
    return due >= _LEAST_WORDS and shared < _SHARED_WORDS


def _shared(one: Counter[str], other: Counter[str]) -> float:
    """F1 of what two texts say."""
    return 2 * (one & other).total() / max(1, one.total() + other.total())


def _content(text: str, *, into_chinese: bool) -> Counter[str]:
    """The Han characters, or the beginnings of the words that say something."""
    if into_chinese:
        return Counter(_HAN.findall(text))
    words = map(str.lower, _WORD.findall(plain_text(_ASIDE.sub(" ", text))))
    return Counter(word[:5] for word in words if word not in FUNCTION_WORDS)
