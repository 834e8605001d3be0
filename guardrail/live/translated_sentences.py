"""Whole English sentences in another language: errors, warnings and what `check` finds, which the code says in English where it knows them.

`translated_sentences.zh.yaml` has the sentences with their values as {names}; one that is not there stays English. Values whose
names begin with `said` are sentences themselves, those with `where` are places in a file, those with `names` list quoted names.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from guardrail.report.page.texts import Language

__all__ = ["translated"]

_BETWEEN = (("; ", "；"), (": ", "："))
"""What stands between sentences that are joined, and in Chinese."""
_NAME = re.compile(r"\{(\w+)\}")
_QUOTED = re.compile(r"(`[^`]*`)")
_PLACES = (
    (re.compile(r"\btraining data\b"), "训练数据"),
    (re.compile(r"\b(?:line|row) (\d+)"), r"第 \1 行"),
    (re.compile(r"\belement (\d+)"), r"第 \1 条"),
    (re.compile(r"\bentry $"), "条目 "),
    (re.compile(r"\bmember $"), "里的 "),
    (re.compile(r"\bsheet $"), "工作表 "),
    (re.compile(r", column $"), "，列 "),
)
"""What stands between quoted names where a place in a file is told, and in Chinese."""
_PLACE = r"(?:training data )?`[^`]*`(?: (?:line|row|element) \d+| (?:entry|member|sheet) `[^`]*`|, column `[^`]*`)*"
"""A whole place, so that the sentence goes on behind it."""
_LISTED = re.compile(r"(?<=['`])(?:, | or | and )(?=['`])")
_AFTER_A_PLACE = re.compile(r"(?<=\d [行条]) (?=[\u4e00-\u9fff])")
_LONGEST = 4000
"""Characters of a sentence that is looked up."""
_MOST_PARTS = 40


def translated(sentence: str, language: Language) -> str | None:
    """Return an English sentence in a language, None where it is not known there; English as it is."""
    if language == "en":
        return sentence
    return _said(sentence) if len(sentence) <= _LONGEST else None


def _said(sentence: str, *, some: bool = False) -> str | None:
    """The Chinese of a sentence, or of sentences joined; None where one is not known, or with `some` where none is."""
    for pattern, chinese in _sentences():
        if found := pattern.fullmatch(sentence):
            values = {name: _value(name, value) for name, value in found.groupdict().items()}
            if None not in values.values():
                return _filled(chinese, values)
    for mark, chinese_mark in _BETWEEN:
        parts = sentence.split(mark)
        if 1 < len(parts) <= _MOST_PARTS:
            told = list(_joined(parts, mark))
            known = [chinese is not None for _, chinese in told]
            if any(known) if some else all(known):
                return chinese_mark.join(chinese or english for english, chinese in told)
    return None


def _filled(text: str, values: Mapping[str, str | None]) -> str:
    said = _NAME.sub(lambda name: str(values[name[1]]), text)
    return _AFTER_A_PLACE.sub("", said)


def _value(name: str, value: str) -> str | None:
    if name.startswith("where"):
        return _place(value)
    if name.startswith("names"):
        return _LISTED.sub("、", value)
    if not name.startswith("said") or not value:
        return value
    return _said(value, some=name.startswith("said_list"))


def _place(english: str) -> str:
    """A place in a file in Chinese, its quoted names as they are."""
    pieces = _QUOTED.split(english)
    for at in range(0, len(pieces), 2):
        for pattern, chinese in _PLACES:
            pieces[at] = pattern.sub(chinese, pieces[at])
    return "".join(pieces)


def _joined(parts: list[str], mark: str) -> list[tuple[str, str | None]]:
    """The longest beginning that is one sentence, with its Chinese, and so on; a part that begins none stands alone."""
    told: list[tuple[str, str | None]] = []
    while parts:
        for end in range(len(parts) - bool(not told), 0, -1):  # all together is what was asked
            english = mark.join(parts[:end])
            if end == 1 or any(p.fullmatch(english) for p, _ in _sentences()):
                chinese = _said(english)
                if chinese is not None or end == 1:
                    break
        told.append((english, chinese))
        parts = parts[end:]
    return told


@functools.cache
def _sentences() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Each sentence as a pattern, those with most text of their own first, with its Chinese."""
    path = Path(__file__).with_name("translated_sentences.zh.yaml")
    texts: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    by_text = sorted(texts.items(), key=lambda pair: -len(_NAME.sub("", pair[0])))
    return tuple((_pattern(english), chinese) for english, chinese in by_text)


def _pattern(english: str) -> re.Pattern[str]:
    """A sentence's text with values in place of its names: none holds what stands between sentences, unless it is several."""
    pieces = _NAME.split(english)  # text, name, text, name, …, text
    found = re.escape(pieces[0])
    for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
        several = name.startswith(("said_all", "said_list", "any"))
        value = ".*?" if several else "(?:(?!; ).)*?"
        if name.startswith("where"):
            value = rf"{_PLACE}|(?:(?!; |: |\().)*?"
        found += f"(?P<{name}>{value}){re.escape(text)}"
    return re.compile(found, re.DOTALL)
