"""Near-duplicates and overlap: exact keys, MinHash candidates, ROUGE-L, shared 13-grams.

ROUGE-L is the F-measure of the longest common subsequence, 2·LCS / (m + n) (Lin 2004, "ROUGE: A Package
for Automatic Evaluation of Summaries", §3.1, with β = 1), here over characters, as Self-Instruct used it
to keep instructions apart (Wang et al. 2023, threshold 0.7). MinHash only names candidates: two texts
whose sets of character pairs have Jaccard similarity J meet in a bucket with probability
1 - (1 - J⁴)¹⁶, 0.64 at J = 0.5 and 0.99 at 0.7.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from rapidfuzz.distance import Indel
from rensa import RMinHash, RMinHashLSH

__all__ = [
    "NEAR",
    "NearDuplicates",
    "content_hash",
    "hash64",
    "ngrams",
    "plain",
    "rouge_l",
    "shared_ngrams",
]

NEAR = 0.7
"""ROUGE-L from which two prompts count as nearly the same."""
NGRAM = 13
"""Characters that two sets must share in a row to count as overlapping."""

_PERMUTATIONS, _BANDS, _SHINGLE = 64, 16, 2
_NOT_CONTENT = re.compile(r"[\W_]+")


def plain(text: str) -> str:
    """Return what comparisons see: compatibility-normalised, lower case, letters and digits only."""
    bare = _NOT_CONTENT.sub("", text)
    if not unicodedata.is_normalized("NFKC", bare):
        bare = _NOT_CONTENT.sub("", unicodedata.normalize("NFKC", bare))
    return bare.casefold()


def hash64(text: str) -> int:
    """Return 64 bits of a text, the same on every machine."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def content_hash(text: str) -> int:
    """Return 64 bits of a text's content; texts that differ in punctuation or spacing agree."""
    return hash64(plain(text))


def rouge_l(one: str, other: str) -> float:
    """Return ROUGE-L between 0 and 1 over characters; two empty texts have 1."""
    return float(Indel.normalized_similarity(one, other))


def ngrams(text: str, size: int = NGRAM) -> Iterator[str]:
    """Yield the runs of `size` characters of a plain text."""
    return (text[i : i + size] for i in range(len(text) - size + 1))


def shared_ngrams(text: str, known: dict[str, list[str]], size: int = NGRAM) -> dict[str, str]:
    """Return id → the first shared run, for the ids in `known` (run → ids) that share one with the text."""
    found: dict[str, str] = {}
    for run in ngrams(plain(text), size):
        for name in known.get(run, ()):
            found.setdefault(name, run)
    return found


class NearDuplicates:
    """Texts seen so far, by MinHash bucket; about 1.4 KB a text, whatever its length."""

    def __init__(self, text_of: Callable[[int], str]) -> None:
        """Start empty; `text_of` returns the plain text added under a number."""
        self._text_of = text_of
        self._buckets = RMinHashLSH(threshold=0.5, num_perm=_PERMUTATIONS, num_bands=_BANDS)

    def _signature(self, text: str) -> RMinHash:
        signature = RMinHash(num_perm=_PERMUTATIONS, seed=1)
        signature.update([text[i : i + _SHINGLE] for i in range(max(1, len(text) - _SHINGLE + 1))])
        return signature

    def nearest(self, text: str) -> tuple[int, float] | None:
        """Return number and ROUGE-L of the most similar candidate at or above `NEAR`, if any."""
        return self._best(text, self._buckets.query(self._signature(text)))

    def add(self, number: int, text: str) -> tuple[int, float] | None:
        """Add a plain text unless one nearly the same is there; return that one."""
        signature = self._signature(text)
        found = self._best(text, self._buckets.query(signature))
        if found is None:
            self._buckets.insert(number, signature)
        return found

    def _best(self, text: str, candidates: Iterable[int]) -> tuple[int, float] | None:
        best: tuple[int, float] | None = None
        for number in sorted(candidates):
            similarity = rouge_l(text, self._text_of(number))
            if similarity >= NEAR and (best is None or similarity > best[1]):
                best = (number, similarity)
        return best
