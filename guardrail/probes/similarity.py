"""How close an answer stays to the gold: chrF, from sacrebleu.

Does not see meaning: a paraphrase scores low. Therefore the harm is base's own similarity to the gold
minus the current one, never one minus chrF.
"""

from sacrebleu.metrics.chrf import CHRF

__all__ = ["chrf"]

_CHRF = CHRF()
_READ_CHARACTERS = 20_000


def chrf(answer: str, gold: str) -> float:
    """Return sentence chrF2 (character 6-grams, beta 2) of the first 20 000 characters, in [0, 1].

    Source: Popović (2015), "chrF: character n-gram F-score for automatic MT evaluation", as
    implemented by sacrebleu with its default settings.
    """
    answer, gold = answer[:_READ_CHARACTERS], gold[:_READ_CHARACTERS]
    return float(_CHRF.sentence_score(answer, [gold]).score) / 100.0
