"""Random draws that stay the same on every machine, and nearly the same when rows are added."""

import heapq

from guardrail.sets.lint.duplicates import hash64

__all__ = ["Draw", "draw_key"]


def draw_key(seed: int, item_id: str) -> int:
    """Return a number that orders items at random, the same for the same seed and id everywhere.

    Drawing the k smallest keys is a uniform draw without replacement, and stays nearly the same
    when rows are added.
    """
    return hash64(f"{seed}:{item_id}")


class Draw:
    """The items with the smallest keys: at most so many of a task and so many in all; 0 sets no bound."""

    def __init__(self, per_task: int, limit: int) -> None:
        """Start empty; one of the bounds must be set."""
        self._per_task, self._limit = per_task, limit
        self._heaps: dict[str, list[tuple[int, int]]] = {}

    def offer(self, task: str, key: int, number: int) -> None:
        """Consider the item of a number; memory does not grow with what is offered."""
        heap = self._heaps.setdefault(task if self._per_task else "", [])
        if len(heap) < (self._per_task or self._limit):
            heapq.heappush(heap, (-key, number))
        elif -heap[0][0] > key:
            heapq.heapreplace(heap, (-key, number))

    def drawn(self) -> set[int]:
        """Return the numbers of the drawn items."""
        best = sorted((-key, number) for heap in self._heaps.values() for key, number in heap)
        return {number for _, number in best[: self._limit or None]}
