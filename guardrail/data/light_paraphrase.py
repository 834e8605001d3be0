"""Judged prompts reworded here and there, told by the pairs of neighbouring units that they share with a text.

A unit is a Han character, a Latin word or a number. The measure is Dice's coefficient of the two sets of pairs, 2·|A∩B| / (|A| + |B|),
which does not mind order. Of the 299 prompts of the shipped red line with 13 units and more it finds, with a fifth of the Han
characters replaced at random, 295 (the 13-grams and ROUGE-L of the overlap rule alone: 239), with 30 % 242 (137), with 40 % 77 (59),
with every fourth pair of characters replaced 268 (104), with every third 128 (none). Does not see a prompt that is said in other words
altogether, one shorter than 13 units, or one that is less than half of a line.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from guardrail.sets.lint.duplicates import NGRAM
from guardrail.sets.lint.overlap import FRAME, units

__all__ = ["LightParaphrases"]

REWORDED = 0.45
"""Dice's coefficient from which a text counts as a prompt reworded: of 19,867 lines of other sets and corpora none has 0.4."""
_LENGTHS = 2.0
"""How many times as long one of the two may be as the other."""


class LightParaphrases:
    """Prompts, indexed by those runs of three units that name them."""

    def __init__(self, prompts: Iterable[str]) -> None:
        """Index the prompts of 13 units and more."""
        parts = [own for own in map(units, prompts) if len(own) >= NGRAM]
        self._lengths = [len(own) for own in parts]
        self._pairs = [_runs(own, 2) for own in parts]
        found: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, own in enumerate(parts):
            for run in _runs(own, 3):
                found[run].append(number)
        # A run of many prompts is their frame and names none of them.
        self._prompts = {run: ids for run, ids in found.items() if len(ids) <= FRAME}

    def meets(self, text: str) -> bool:
        """Return whether a text is one of the prompts with some of its words changed or moved."""
        own = units(text)
        shared = Counter(n for run in _runs(own, 3) for n in self._prompts.get(run, ()))
        near = [n for n in shared if 1 / _LENGTHS <= len(own) / self._lengths[n] <= _LENGTHS]
        if not near:
            return False
        pairs = _runs(own, 2)
        return any(
            2 * len(pairs & self._pairs[n]) >= REWORDED * (len(pairs) + len(self._pairs[n]))
            for n in near
        )


def _runs(parts: list[str], length: int) -> set[tuple[str, ...]]:
    return set(zip(*(parts[n:] for n in range(length)), strict=False))
