"""Passages of the user's documents, and which of them a question is about: BM25 over pairs of characters and words.

Robertson & Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond", with k1 = 1.2 and b = 0.75. Chinese
is cut into overlapping pairs of characters, which needs no word list. Does not find a passage that says it in other words.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guardrail.errors import InputError
from guardrail.read_back import read_bounded

__all__ = ["Passage", "Passages", "read_passages"]

_K1, _B = 1.2, 0.75
_LATIN = re.compile(r"[a-z0-9]+")
_HAN = re.compile(r"[㐀-䶿一-鿿]+")
_LARGEST = 64 << 20
"""Bytes of a document."""
_LONG_SENTENCE = 4
"""So many times a passage's length a sentence is left whole."""
_PARAGRAPH = re.compile(r"\n\s*\n|(?<=。)\n")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document."""

    source: str
    """File and number, such as `rules.md#3`."""
    text: str


def read_passages(
    files: Sequence[Path], *, shortest: int = 40, longest: int = 800
) -> list[Passage]:
    """Return the passages of text files: paragraphs, short ones joined, long ones cut at the end of a sentence.

    A sentence of several times the length of a passage is cut where it comes to that.

    Args:
        files: UTF-8 text or Markdown, 64 MiB at most.
        shortest: Characters below which a paragraph is joined with the next one.
        longest: Characters of a passage.

    Raises:
        InputError: a file is missing, too large, no regular one or no UTF-8, or all of them hold no passage.
    """
    found = []
    for file in files:
        try:
            text = read_bounded(file, _LARGEST).decode("utf-8").replace("\r\n", "\n")
        except OSError as error:
            raise InputError(
                f"document `{file}` cannot be read ({error.strerror}); give text files of at most "
                f"{_LARGEST >> 20} MiB"
            ) from error
        except UnicodeDecodeError as error:
            raise InputError(
                f"document `{file}` cannot be read as UTF-8 text ({error.reason}); convert it first"
            ) from error
        held, number = "", 0
        for paragraph in [p.strip() for p in _PARAGRAPH.split(text) if p.strip()] + [""]:
            if held and (
                len(held) + len(paragraph) > longest or len(held) >= shortest or not paragraph
            ):
                for piece in _cut(held, longest):
                    number += 1
                    found.append(Passage(f"{file.name}#{number}", piece))
                held = ""
            held = f"{held}\n{paragraph}".strip()
    if not found:
        raise InputError("the documents hold no text; give files with at least one paragraph")
    return found


def _cut(text: str, longest: int) -> list[str]:
    pieces, held = [], ""
    sentences = re.split(r"(?<=[。！？!?\n])", text)
    most = _LONG_SENTENCE * longest
    for sentence in (s[at : at + most] for s in sentences for at in range(0, len(s), most)):
        if held and len(held) + len(sentence) > longest:
            pieces.append(held.strip())
            held = ""
        held += sentence
    return [piece for piece in (*pieces, held.strip()) if piece]


def _terms(text: str) -> list[str]:
    lower = text.casefold()
    pairs = [run[i : i + 2] for run in _HAN.findall(lower) for i in range(max(1, len(run) - 1))]
    return pairs + _LATIN.findall(lower)


class Passages:
    """Passages that can be searched."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        """Count the terms of each."""
        self.all = list(passages)
        self._counts = [Counter(_terms(p.text)) for p in self.all]
        self._lengths = [sum(c.values()) for c in self._counts]
        self._mean = sum(self._lengths) / max(1, len(self._lengths))
        self._in = Counter(term for counts in self._counts for term in counts)

    def about(self, question: str, count: int = 3) -> list[Passage]:
        """Return the passages a question is most about, best first; none that shares no term with it."""
        scores = [(self._score(set(_terms(question)), n), n) for n in range(len(self.all))]
        best = sorted(
            (pair for pair in scores if pair[0] > 0), key=lambda pair: (-pair[0], pair[1])
        )
        return [self.all[n] for _, n in best[:count]]

    def _score(self, terms: set[str], number: int) -> float:
        counts, length = self._counts[number], self._lengths[number]
        total = 0.0
        for term in terms & counts.keys():
            rare = math.log(1 + (len(self.all) - self._in[term] + 0.5) / (self._in[term] + 0.5))
            often = counts[term]
            total += rare * often * (_K1 + 1) / (often + _K1 * (1 - _B + _B * length / self._mean))
        return total
