"""What a tripwire watches: the first tokens of a few golds and answers of the new task, sized before the run.

Sizes come from counting tokens, never from a clock, so that two runs of one recipe, and a resumed one, watch the
same. A token that is teacher-forced costs at most what a token costs that is generated, so a tenth of a look's
tokens is at most about a tenth of its seconds.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

__all__ = [
    "FIRST_TOKENS",
    "MOST_GOLDS",
    "OF_THE_RUN",
    "Moved",
    "WatchedTokens",
    "look_early",
    "sample_golds",
    "share_of_the_run",
    "spacing",
    "within",
]

FIRST_TOKENS = 64
"""Tokens of an answer that are watched at most."""
MOST_GOLDS, _ENOUGH_GOLDS = 60, 30
OF_THE_RUN = 0.01
_FORWARDS_A_STEP = 3
"""A training step computes about three forwards of its tokens: one, and a backward that costs two."""
_STANDARD_ERRORS = 2.0
"""What a rise must be beyond the threshold by: noise alone exceeds it in one tripwire of 44."""
_NOISE_IS_KNOWN = 8
"""Answers from which a standard error says something; of fewer the rise alone decides, as a look too many costs
less than one too few."""


@dataclass(slots=True)
class WatchedTokens:
    """Answers that tripwires teacher-force, and what the start model gave them."""

    prompts: list[list[int]]
    golds: list[list[int]]
    groups: list[str] = field(default_factory=list)
    """Ability of each; none for the new task."""
    base: list[float] = field(default_factory=list)
    """Mean log-probability of each under the start model, nats a token."""

    @property
    def tokens(self) -> int:
        """Prompt and answer tokens of one measurement."""
        return sum(map(len, self.prompts)) + sum(map(len, self.golds))

    def moved(self, now: Sequence[float]) -> "Moved":
        """Return how far the policy that gives `now` has moved.

        For answers sampled from base, the mean of log p_base - log p_policy a token estimates the forward KL;
        it can be slightly negative.
        """
        kl = np.array(self.base) - np.array(now)
        # Without a second answer nobody knows the noise.
        se = float(kl.std(ddof=1)) / math.sqrt(len(kl)) if len(kl) > 1 else math.inf
        by_group = {
            name: float(kl[[group == name for group in self.groups]].mean())
            for name in dict.fromkeys(self.groups)
        }
        return Moved(float(kl.mean()), se, by_group, len(kl))


@dataclass(frozen=True, slots=True)
class Moved:
    """KL from the start model in nats a token, its standard error over answers, and its mean by group."""

    kl: float
    se: float
    by_group: dict[str, float]
    answers: int

    @property
    def surely(self) -> float:
        """The KL less its noise, where so many answers tell the noise."""
        noise = _STANDARD_ERRORS * self.se if self.answers >= _NOISE_IS_KNOWN else 0.0
        return self.kl - noise


def sample_golds(
    groups: Sequence[str],
    prompts: Sequence[Sequence[int]],
    golds: Sequence[Sequence[int]],
    budget: int,
    *,
    seed: int,
) -> WatchedTokens:
    """Return the golds that are watched, with their prompts at most `budget` tokens.

    Every ability has its share of the 60 golds at most. Their first 64 tokens are watched, or 32 or 16 where
    the budget would else leave fewer than 30 golds; two golds are watched whatever the budget. Golds that do not
    fit are passed over.

    Args:
        groups: Ability of each gold.
        prompts: Prompt token ids of each gold.
        golds: Token ids of each gold.
        budget: Prompt and answer tokens of a measurement.
        seed: Draws within abilities.
    """
    order = _spread(groups, seed)
    chosen: list[int] = []
    for first in (FIRST_TOKENS, FIRST_TOKENS // 2, FIRST_TOKENS // 4):
        chosen, spent = [], 0
        for i in order:
            tokens = len(prompts[i]) + min(first, len(golds[i]))
            if len(chosen) < 2 or (len(chosen) < MOST_GOLDS and spent + tokens <= budget):
                chosen.append(i)
                spent += tokens
        if len(chosen) >= min(_ENOUGH_GOLDS, len(order)):
            break
    cut = [list(golds[i][:first]) for i in chosen]
    return WatchedTokens([list(prompts[i]) for i in chosen], cut, [groups[i] for i in chosen])


def _spread(groups: Sequence[str], seed: int) -> list[int]:
    """An order of all of them in which every beginning holds each group by its share."""
    places: list[tuple[float, str, int]] = []
    for name in sorted(set(groups)):
        members = [i for i, group in enumerate(groups) if group == name]
        random.Random(f"{seed}/{name}").shuffle(members)
        places += [((k + 0.5) / len(members), name, i) for k, i in enumerate(members)]
    return [i for _, _, i in sorted(places)]


def within(prompts: Sequence[list[int]], budget: int) -> list[list[int]]:
    """Return the prompts that fit into a budget of tokens with the first tokens of an answer each, one at least."""
    chosen: list[list[int]] = []
    for prompt in prompts:
        budget -= len(prompt) + FIRST_TOKENS
        if budget < 0 and chosen:
            break
        chosen.append(prompt)
    return chosen


def share_of_the_run(tokens: int, step_tokens: float, every: int) -> float:
    """Return which share of the training's forwards a tripwire of so many tokens every few steps is."""
    return tokens / (every * _FORWARDS_A_STEP * step_tokens)


def spacing(tokens: int, step_tokens: float | None, look_every: int) -> int:
    """Return the steps between two tripwires, at which they are at most one hundredth of the training.

    They stand at least a tenth of the way to the next look apart: each puts together what ranks hold in pieces.

    Args:
        tokens: Of one tripwire.
        step_tokens: Of an optimizer step over all ranks; None where the rows do not say, which gives half the way
            to the next look.
        look_every: Steps between two looks.
    """
    if not step_tokens:
        return max(1, look_every // 2)
    cheap = math.ceil(share_of_the_run(tokens, step_tokens, 1) / OF_THE_RUN)
    return max(cheap, math.ceil(look_every / 10), 1)


def look_early(moves: Sequence[Moved], threshold: float, at_last_look: float) -> bool:
    """Return whether any move is beyond the threshold and twice that of the last look by more than noise."""
    floor = max(threshold, 2 * at_last_look)
    return threshold > 0 and any(move.surely > floor for move in moves)
