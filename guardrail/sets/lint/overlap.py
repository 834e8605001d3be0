"""Overlap of guarded prompts with other text: shared 13-grams, near duplicates, equal short prompts.

A 13-gram is 13 units in a row, a unit being one Han character, one Latin word or one number: 13
characters of English are two or three words and prove nothing, 13 words do (Brown et al. 2020,
"Language Models are Few-Shot Learners", appendix C, compares 13 words). Three kinds of run never
alarm: those with few different letters (digits, 哈哈哈…), and those that stand in many of the guarded
prompts, which are a frame (以下是单项选择题，请选出…) and name none of them. A prompt without any other
run, above all one shorter than 13 units, is compared as a whole. Does not see paraphrases.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from guardrail.errors import InputError
from guardrail.sets.lint.duplicates import NEAR, NGRAM, NearDuplicates
from guardrail.sets.read.conversation import decoded

__all__ = ["GuardedPrompts", "Overlap", "find_overlaps", "training_texts", "units"]

TELLING = 6
"""Different units with a letter that a run needs to say anything."""
FRAME = 8
"""A run that stands in more guarded prompts than this is their frame."""

_UNIT = re.compile(r"[a-z0-9]+|[^\W_]|[+×÷*/=<>-]")
_CJK_GAP = re.compile(r"(?<![a-z0-9]) | (?![a-z0-9])")
_LABELS = frozenset({"role", "from", "type"})
"""Keys of a message whose values are no text."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """One guarded prompt that was found in one text."""

    known: str
    """Id of the guarded prompt."""
    text: str
    """Name of the text it was found in."""
    how: Literal["same", "13-gram", "near duplicate"]
    evidence: str
    """The shared run, the shared text or `ROUGE-L 0.83`."""


def units(text: str) -> list[str]:
    """Return a text's Han characters, Latin words, numbers and signs, normalised; joined they are `plain(text)`."""
    return _UNIT.findall(unicodedata.normalize("NFKC", text).casefold())


def _runs(parts: list[str]) -> Iterator[str]:
    return (" ".join(parts[i : i + NGRAM]) for i in range(len(parts) - NGRAM + 1))


def _telling(run: str) -> bool:
    return sum(not unit.isdigit() for unit in set(run.split(" "))) >= TELLING


class GuardedPrompts:
    """The guarded prompts, indexed three ways; memory grows with them alone."""

    def __init__(self, known: Mapping[str, str]) -> None:
        self.ids = list(known)
        parts = [units(text) for text in known.values()]
        self._plain = ["".join(p) for p in parts]
        numbers_of: dict[str, tuple[int, ...]] = {}
        for number, own in enumerate(parts):
            for run in set(_runs(own)):
                numbers_of[run] = (*numbers_of.get(run, ()), number)
        self._runs = {
            run: numbers
            for run, numbers in numbers_of.items()
            if len(numbers) <= FRAME and _telling(run)
        }
        with_run = {number for numbers in self._runs.values() for number in numbers}
        self._whole: dict[str, list[int]] = {}
        self._near = NearDuplicates(lambda number: self._plain[number])
        lengths = []
        for number, text in enumerate(self._plain):
            if number not in with_run:
                self._whole.setdefault(text, []).append(number)
            if len(parts[number]) >= NGRAM:
                self._near.keep(number, text)
                lengths.append(len(text))
        # 2·m / (m + n) ≥ NEAR bounds the length of a near duplicate on both sides.
        ratio = (2 - NEAR) / NEAR
        self._lengths = (min(lengths) / ratio, max(lengths) * ratio) if lengths else (1.0, 0.0)

    def meets(
        self, text: str
    ) -> Iterator[tuple[int, Literal["same", "13-gram", "near duplicate"], str]]:
        """Yield number, kind and evidence of what the text shares; a number may come twice."""
        parts = units(text)
        for run in _runs(parts):
            for number in self._runs.get(run, ()):
                yield number, "13-gram", _CJK_GAP.sub("", run)
        plain = "".join(parts)
        if plain:
            for number in self._whole.get(plain, ()):
                yield number, "same", text.strip()[:60]
        if len(parts) >= NGRAM and self._lengths[0] <= len(plain) <= self._lengths[1]:
            for number, similarity in self._near.near(plain):
                yield number, "near duplicate", f"ROUGE-L {similarity:.2f}"


def find_overlaps(
    known: Mapping[str, str], texts: Iterable[tuple[str, str]], *, per_known: int = 20
) -> list[Overlap]:
    """Return which guarded prompts stand in which texts, in the order of the texts.

    Memory grows with the guarded prompts, not with the texts.

    Args:
        known: Id → text of the guarded prompts.
        texts: (name, text); a name may come several times, once for each of its parts.
        per_known: Most texts that are named for one guarded prompt.
    """
    if not known:
        return []
    guarded = GuardedPrompts(known)
    named: dict[str, set[str]] = {}
    found: list[Overlap] = []
    for name, text in texts:
        for number, how, evidence in guarded.meets(text):
            known_id = guarded.ids[number]
            names = named.setdefault(known_id, set())
            if name not in names and len(names) < per_known:
                names.add(name)
                found.append(Overlap(known_id, name, how, evidence))
    return found


def _strings(value: Any) -> Iterator[str]:
    value = decoded(value)  # turns that a table holds as text hide their words in escapes
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _LABELS:
                yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def training_texts(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield ("row 17", text) for every text of every training row, whatever the row's form.

    A row yields one pair a message or field, so that a prompt can be compared without its answer;
    `instruction` and `input` also come joined, as trainers join them.

    Raises:
        InputError: a row holds no text, such as one that is already tokenised.
    """
    for number, row in enumerate(rows, start=1):
        texts = [text for text in _strings(row) if text.strip()]
        if not texts:
            raise InputError(
                f"training data row {number} holds no text (fields: {', '.join(map(str, row)) or 'none'}); "
                "overlap is looked for in text, so give the data before it was tokenised"
            )
        head, extra = row.get("instruction"), row.get("input")
        if isinstance(head, str) and isinstance(extra, str) and head.strip() and extra.strip():
            texts.append(f"{head}\n{extra}")
        for text in texts:
            yield f"row {number}", text
