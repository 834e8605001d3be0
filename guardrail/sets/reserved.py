"""The reserved slice of a red line: items that never choose a repair, so that they alone can say whether one helped.

A repair is chosen by items that did badly; the same items do better next time by chance alone. Whoever asks whether it
helped has to ask items that had no part in the choice.
"""

from collections.abc import Iterable

from guardrail.sets.items import Item
from guardrail.sets.lint.duplicates import hash64

__all__ = ["SHARE", "is_reserved", "reserved_ids"]

SHARE = 5
"""One cluster in so many, on average."""


def is_reserved(item: Item) -> bool:
    """Return whether an item is of the reserved slice: its whole cluster is or is not.

    By a hash of the cluster's name (of the id, where an item stands alone), so that it is the same on every machine, and
    stays so when other items come or go. Of a small set the share may be far from a fifth.
    """
    return hash64(f"reserved:{item.cluster or item.id}") % SHARE == 0


def reserved_ids(items: Iterable[Item]) -> frozenset[str]:
    """Return the ids of the reserved items among those that are judged; rehearsed ones are not."""
    return frozenset(item.id for item in items if not item.rehearsed and is_reserved(item))
