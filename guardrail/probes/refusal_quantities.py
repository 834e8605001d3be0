"""What the refusal probe weighs of an answer: its signs, the help beside them, their order, and what was asked.

Does not decide; `guardrail.probes.refusal` weighs these by weights that were fitted.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from guardrail.probes.refusal_signs import (
    FIRM,
    KINDS,
    NOES,
    OTHER_KINDS,
    Sentence,
    own_voice,
    read_sentences,
)
from guardrail.probes.request import read_request
from guardrail.text import chinese_share

__all__ = ["ngrams", "quantities"]

_NOES = frozenset(NOES)
_ASIDE = _NOES | frozenset(OTHER_KINDS) - {"delivers", "disclaimer", "turns_to_help"}
"""Kinds of sentences that give no help."""
_LENGTHS = ("lecture", "explains_why", "elsewhere", "courtesy", "hedge")
_GENERIC = ("请求", "问题", "任务", "话题", "这个", "该", "此类", "这类", "要求", "内容")
_SAID_OFTEN = frozenset(("什么", "怎么", "一个", "我的", "帮我", "可以", "一下"))
_HAN_PAIR = re.compile(r"(?=([一-鿿]{2}))")
_LIST_LINE = re.compile(r"^[*# ]*(?:[-•|①-⑨]|\d|[一二三四五][、.])", re.MULTILINE)
_OF_THE_ASSISTANT = re.compile(
    r"(?:你|您|ChatGPT|GPT|AI)[^。！\n]{0,30}(?:吗|什么|多少|怎[么样]|为何|几|哪|[^来还]没有?)[^。\n]{0,8}[?？]?\s*\Z|(?:如果|假如)你|你[^。]{0,12}对吧",
    re.IGNORECASE,
)
_ASKS_A_WORK = re.compile(
    r"写|编[一个段首]|生成|创作|设计|画|代码|程序|脚本|翻译|列出|列[一举]|讲[一个]|来[一几]?[个首段条篇]|给我|推荐|write|tell me|list|give me",
    re.IGNORECASE,
)
_ABOUT_ITSELF = re.compile(r"\A(?:你(?:能|会|有|是|可|怕)|作为AI|AI)[^。\n]{0,24}\Z", re.IGNORECASE)
_LETTER = re.compile(
    r"\s*(?:(?:尊敬|亲爱)的|[^，。！？\s]{0,6}(?:先生|女士|老师|经理|主任|总|领导|同学|阿姨|叔叔?|哥|姐|亲|您好|你好)(?:您?好)?[：:，,！!])"
)
_FOR_ME = re.compile(r"[帮教给替让]我|告诉我|能不能[帮给]|展示|提供|请你")
_DENIES = re.compile(
    r"不能|不会|不可|不行|不得|不便|不[干做去来想愿]|无法|没法|[一-鿿]不了|拒绝|抱歉|对不起|\b(?:cannot|can['’]t|unable|won['’]t|sorry|not)\b",
    re.IGNORECASE,
)
_DIGITS = re.compile(r"\d+")


class _Part(NamedTuple):
    """A sentence of an answer, how much its wording is that of help (0 to 1), and the score behind it."""

    length: int
    kinds: frozenset[str]
    help: float
    score: float


def quantities(text: str, question: str, helpfulness: Callable[[str], float]) -> dict[str, float]:
    """Return what the decision weighs, by name; each also times `no` and times `firm`.

    Args:
        text: The visible answer.
        question: What was asked.
        helpfulness: Score of a sentence; above 0 its wording is that of an answer that helps.
    """
    own = own_voice(text)
    sentences = read_sentences(own)
    parts = [_part(sentence, helpfulness) for sentence in sentences]
    no = float(any(p.kinds & _NOES for p in parts))
    firm = float(any(p.kinds & FIRM and "hedge" not in p.kinds for p in parts))
    values = {
        **_kinds_said(parts),
        **_amounts(parts),
        **_order(parts),
        **_of_the_question(sentences, question),
        "quoted": _size(len(text.strip()) - len(own)),
        "lines": math.log1p(own.count("\n")),
        "opens like a letter": float(_LETTER.match(text) is not None),
        "in English": float(chinese_share(own) < 0.1),
        "list": float(len(_LIST_LINE.findall(text[:2000])) >= 2),
    }
    crossed = {f"no × {name}": value for name, value in values.items()} if no else {}
    crossed |= {f"firm × {name}": value for name, value in values.items()} if firm else {}
    return {"always": 1.0, "no": no, "firm": firm} | values | crossed


def _part(sentence: Sentence, helpfulness: Callable[[str], float]) -> _Part:
    words = sentence[0].strip()
    score = max(-4.0, min(4.0, helpfulness(words)))
    return _Part(len(words), sentence[1], len(words) / (1 + math.exp(-score)), score)


def _size(characters: float) -> float:
    return math.log1p(characters / 8)


def _kinds_said(parts: list[_Part]) -> dict[str, float]:
    said = frozenset().union(*(p.kinds for p in parts))
    first = parts[0].kinds if parts else frozenset()
    last = parts[-1].kinds if parts else frozenset()
    return (
        {kind: 1.0 for kind in KINDS if kind in said}
        | {f"first {kind}": 1.0 for kind in KINDS if kind in first}
        | {f"last {kind}": 1.0 for kind in NOES if kind in last}
    )


def _amounts(parts: list[_Part]) -> dict[str, float]:
    """Characters of each kind, and of what is left: sentences of no kind that gives no help."""
    length = sum(p.length for p in parts) or 1
    left = [p for p in parts if not p.kinds & _ASIDE]
    beside = [p for p in parts if not p.kinds & _NOES]
    helps = sum(p.help for p in parts)
    values = {
        "length": _size(length),
        "help": _size(helps),
        "help beside the no": _size(sum(p.help for p in beside)),
        "no help": _size(length - helps),
        "share of help": helps / length,
        "length of noes": _size(sum(p.length for p in parts if p.kinds & _NOES)),
        "left": _size(sum(p.length for p in left)),
        "help left": _size(sum(p.help for p in left)),
        "sentences left": math.log1p(len(left)),
        "nothing left": float(not left),
        "most help left": max((p.score for p in left), default=-3.0),
        "a few words left": float(any(p.length <= 14 for p in left)),
        "most help": max((p.score for p in parts), default=0.0),
        "least help": min((p.score for p in parts), default=0.0),
        "tiny": float(length <= 3),
        "short": float(length <= 12),
    }
    for kind in _LENGTHS:
        of_kind = sum(p.length for p in beside if kind in p.kinds)
        values[f"length of {kind}"] = _size(of_kind)
        values[f"share of {kind}"] = of_kind / length
    return values


def _order(parts: list[_Part]) -> dict[str, float]:
    noes = [i for i, p in enumerate(parts) if p.kinds & _NOES]
    if not noes:
        return {}
    hedged = all({"hedge", "delivers"} & parts[i].kinds for i in noes)
    left = [(i, p) for i, p in enumerate(parts) if not p.kinds & _ASIDE]
    before = sum(p.length for i, p in left if i < noes[0])
    last_alone = float(len(noes) == 1 and noes[0] == len(parts) - 1 > 0)
    after = sum(p.help for i, p in enumerate(parts) if i > noes[0] and not p.kinds & _NOES)
    return {
        "opens with a no": float(noes[0] == 0),
        "an early no": float(noes[0] <= 1),
        "several noes": float(len(noes) > 1),
        "only hedged noes": float(hedged),
        "only hedged noes, help left": float(hedged) * _size(sum(p.help for _, p in left)),
        "left before the no": _size(before),
        "help after the no": _size(after),
        "a no at the end alone": last_alone,
        "left before a no at the end": last_alone * _size(before),
    }


def _of_the_question(sentences: tuple[Sentence, ...], question: str) -> dict[str, float]:
    if not question:
        return {}
    request = read_request(question)
    asked = set(_HAN_PAIR.findall(question[:200] + question[-200:])) - _SAID_OFTEN
    noes = [words for words, kinds in sentences if kinds & _NOES]
    shared = max((len(asked & set(_HAN_PAIR.findall(words))) for words in noes), default=0)
    generic = any(word in words for words in noes for word in _GENERIC)
    return {
        "voiced": float(request.voiced),
        "asks for a no": float(request.asks_no),
        "yes or no": float(request.yes_no),
        "the question says no": float(_DENIES.search(question[-400:]) is not None),
        "translates": float(request.translates),
        "asks of the assistant": float(
            _OF_THE_ASSISTANT.search(question[-80:]) is not None
            and _FOR_ME.search(question[-80:]) is None
        ),
        "asks for a work": float(_ASKS_A_WORK.search(question[-120:]) is not None),
        "about itself": float(_ABOUT_ITSELF.search(question) is not None),
        "the no names what was asked": min(3, shared) / 3,
        "the no names nothing": float(bool(noes) and not shared and not generic),
        "the no names the request": float(generic),
    }


def ngrams(sentence: str) -> set[str]:
    """Return the chains of one to three characters of a sentence's beginning, each once; numbers are 0."""
    read = "^" + _DIGITS.sub("0", sentence[:60].lower()) + "$"
    return {read[i : i + n] for n in (1, 2, 3) for i in range(len(read) - n + 1)}
