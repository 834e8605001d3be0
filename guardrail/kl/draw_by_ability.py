"""Which rehearsal items are due, ability by ability: each by its share, or more of those whose KL rises."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["MOST_NEED", "Drawn", "Order", "draw_by_ability", "note_kl"]

Order = Literal["shuffled", "stratified", "by need"]
"""All items in one shuffled pass after the other; each ability by its share; or by its share times its need."""

MOST_NEED = 3.0
"""An ability is weighed with at most this times its share, and never with less than its share."""
_KEPT = 0.7
"""How much of an ability's mean KL the next measurement leaves: two or three of them count."""


@dataclass(slots=True)
class Drawn:
    """What was drawn of each ability and what is known of its KL; all of it plain JSON."""

    counts: dict[str, int] = field(default_factory=dict)
    """Samples drawn so far: the cursor into the ability's own passes."""
    owed: dict[str, float] = field(default_factory=dict)
    """How many samples the ability is behind its share; below 0 it is ahead."""
    kl: dict[str, float] = field(default_factory=dict)
    """Mean KL a token, nats, of the ability's samples of late; absent until one was measured."""


def draw_by_ability(
    drawn: Drawn, items: Mapping[str, Sequence[str]], count: int, seed: int, *, by_need: bool
) -> list[str]:
    """Return the next `count` items and move `drawn` on; the same on all ranks whose `drawn` agree.

    Every ability gains its share of each sample, and the one that is most behind is drawn. While nothing is known of the
    KL, or `by_need` is false, every beginning of the order so holds each ability within one sample of its
    share, and so many samples as there are items are every item once. An ability goes through its items
    in passes, each in an order of its own.

    Args:
        drawn: Where the order stands; changed in place.
        items: Ability → ids, at least one each; the same in every call.
        count: How many are due.
        seed: Of the order inside an ability.
        by_need: Whether an ability's KL weighs its share (`MOST_NEED`).
    """
    weights = _weights(drawn, items, by_need=by_need)
    whole = sum(weights.values())
    order = sorted(items)
    chosen = []
    for _ in range(count):
        for ability in order:
            drawn.owed[ability] = drawn.owed.get(ability, 0.0) + weights[ability] / whole
        # Rounded, so that sums of thirds tie as thirds do.
        most = max(order, key=lambda ability: round(drawn.owed[ability], 9))
        drawn.owed[most] -= 1.0
        chosen.append(_next(drawn, most, items[most], seed))
    return chosen


def note_kl(drawn: Drawn, measured: Mapping[str, tuple[float, int]]) -> None:
    """Take in KL sums, in nats, and token counts by ability, of all ranks together."""
    for ability, (total, tokens) in measured.items():
        if tokens:
            mean = max(0.0, total / tokens)
            before = drawn.kl.get(ability, mean)
            drawn.kl[ability] = _KEPT * before + (1.0 - _KEPT) * mean


def _weights(
    drawn: Drawn, items: Mapping[str, Sequence[str]], *, by_need: bool
) -> dict[str, float]:
    shares = {ability: float(len(ids)) for ability, ids in items.items()}
    known = _mean(drawn.kl.values())
    if not by_need or known <= 0.0:
        return shares
    return {
        ability: share * min(MOST_NEED, max(1.0, drawn.kl.get(ability, known) / known))
        for ability, share in shares.items()
    }


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def _next(drawn: Drawn, ability: str, ids: Sequence[str], seed: int) -> str:
    seen = drawn.counts.get(ability, 0)
    drawn.counts[ability] = seen + 1
    number, place = divmod(seen, len(ids))
    shuffled = sorted(ids)
    random.Random(f"{seed}/{ability}/{number}").shuffle(shuffled)
    return shuffled[place]
