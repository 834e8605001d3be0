"""Near-duplicates: exact keys, MinHash candidates, ROUGE-L.

ROUGE-L is the F-measure of the longest common subsequence, 2·LCS / (m + n) (Lin 2004, "ROUGE: A Package
for Automatic Evaluation of Summaries", §3.1, with β = 1), here over characters, as Self-Instruct used it
to keep instructions apart (Wang et al. 2023, threshold 0.7). MinHash only names candidates: two texts
whose sets of character pairs have Jaccard similarity J meet in a bucket with probability
1 - (1 - J⁴)¹⁶, 0.64 at J = 0.5 and 0.99 at 0.7. Of more than 32 candidates the latest 32 are compared.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable
from operator import add

from rapidfuzz.distance import Indel
from rensa import RMinHash, RMinHashLSH

__all__ = [
    "MOST_CANDIDATES",
    "NEAR",
    "NGRAM",
    "NearDuplicates",
    "hash64",
    "plain",
    "rouge_l",
]

NEAR = 0.7
"""ROUGE-L from which two prompts count as nearly the same."""
NGRAM = 13
"""Units (Han characters, words) that two sets must share in a row to count as overlapping."""

MOST_CANDIDATES = 32
"""Candidates a text is compared with, the latest ones: thousands of variants of one prompt stay affordable."""

_PERMUTATIONS, _BANDS = 64, 16
_NOT_CONTENT = re.compile(r"(?:[^\w+×÷*/=<>-]|_)+")


def plain(text: str) -> str:
    """Return what comparisons see: compatibility-normalised, lower case, letters, digits, signs of arithmetic."""
    bare = _NOT_CONTENT.sub("", text)
    if not unicodedata.is_normalized("NFKC", bare):
        bare = _NOT_CONTENT.sub("", unicodedata.normalize("NFKC", bare))
    return bare.casefold()


def hash64(text: str) -> int:
    """Return 64 bits of a text, the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def rouge_l(one: str, other: str) -> float:
    """Return ROUGE-L between 0 and 1 over characters; two empty texts have 1."""
    return float(Indel.normalized_similarity(one, other))


class NearDuplicates:
    """Texts seen so far, by MinHash bucket; about 1.4 KB a text, whatever its length."""

    def __init__(self, text_of: Callable[[int], str]) -> None:
        """Start empty; `text_of` returns the plain text added under a number."""
        self._text_of = text_of
        self._buckets = RMinHashLSH(threshold=0.5, num_perm=_PERMUTATIONS, num_bands=_BANDS)

    def _signature(self, text: str) -> RMinHash:
        signature = RMinHash(num_perm=_PERMUTATIONS, seed=1)
        signature.update(list(map(add, text, text[1:])) or [text])
        return signature

    def add(self, number: int, text: str) -> tuple[int, float] | None:
        """Add a plain text unless one nearly the same is there; return the nearest of those."""
        signature = self._signature(text)
        found = self._meets(signature, text)
        if not found:
            self._buckets.insert(number, signature)
        return max(found, key=lambda pair: pair[1], default=None)

    def keep(self, number: int, text: str) -> None:
        """Add a plain text, whatever is there already."""
        self._buckets.insert(number, self._signature(text))

    def near(self, text: str) -> list[tuple[int, float]]:
        """Return number and ROUGE-L of every candidate at or above `NEAR`, in order of number."""
        return self._meets(self._signature(text), text)

    def _meets(self, signature: RMinHash, text: str) -> list[tuple[int, float]]:
        candidates = sorted(self._buckets.query(signature))[-MOST_CANDIDATES:]
        pairs = [(number, rouge_l(text, self._text_of(number))) for number in candidates]
        return [(number, similarity) for number, similarity in pairs if similarity >= NEAR]
